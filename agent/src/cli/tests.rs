//! What may be typed; and that the help's own examples may.

use clap::CommandFactory;

use super::bootstrap::PfCount;
use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(words(line))
}

/// Splits as a shell does, as far as the examples need it: blanks and single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.trim().chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

fn attach(line: &str) -> AttachArgs {
    match parse(line).unwrap().command {
        Command::Attach(args) => args,
        other => panic!("{other:?}"),
    }
}

fn examples(command: &clap::Command) -> Vec<String> {
    let help = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let lines = help.lines().filter(|line| line.starts_with("  berth "));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

/// Every subcommand below `command`, with the words that lead to it.
fn all_below(command: &clap::Command, words: &str) -> Vec<(String, Vec<String>)> {
    let mut all = vec![(words.to_owned(), examples(command))];
    for sub in command.get_subcommands() {
        all.extend(all_below(sub, &format!("{words} {}", sub.get_name())));
    }
    all
}

#[test]
fn every_help_has_an_example_and_every_example_parses() {
    let all = all_below(&Cli::command(), "berth");
    assert_eq!(all.len(), 21);
    for (name, examples) in all {
        assert!(!examples.is_empty(), "{name} has no example");
        for line in examples {
            assert!(line.starts_with(&name), "{line} is no example of {name}");
            assert!(line.len() <= 78, "would be wrapped: {line}");
            if let Err(error) = parse(&line) {
                panic!("{line}: {error}");
            }
        }
    }
}

#[test]
fn the_page_of_the_command_line_has_only_what_parses() {
    let page = include_str!("../../../docs/berth-cli.md");
    let mut count = 0;
    for line in page
        .lines()
        .filter_map(|line| line.strip_prefix("# berth "))
    {
        let line = format!("berth {line}");
        assert!(parse(&line).is_ok(), "{line}");
        count += 1;
    }
    assert!(count >= 6, "{count} examples");
}

#[test]
fn version_is_the_packages() {
    let error = parse("berth --version").unwrap_err();
    assert_eq!(error.kind(), clap::error::ErrorKind::DisplayVersion);
    assert_eq!(
        error.to_string(),
        format!("berth {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn attach_reads_its_wishes() {
    let args = attach(
        "berth attach --pid 7 --ip 10.1.0.5/24 --ip fd00::5/64 --mac 02:00:00:00:00:05 \
         --capability 'ips=[\"10.0.0.1/8\"]' --args K=V;L=W net.conf",
    );
    assert_eq!((args.pid, args.ifname.as_str()), (Some(7), "eth0"));
    assert_eq!(args.ip.len(), 2);
    assert_eq!(args.mac.unwrap().to_string(), "02:00:00:00:00:05");
    let value = serde_json::json!(["10.0.0.1/8"]);
    assert_eq!(args.capabilities, [("ips".to_owned(), value)]);
    assert_eq!(args.args.as_deref(), Some("K=V;L=W"));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (line, why) in [
        ("attach net.conf", "--netns <PATH>"),
        ("attach --pid 1 --netns /n net.conf", "cannot be used with"),
        ("attach --pid 1", "<CONF>"),
        ("attach --pid 0 net.conf", "0 is not in 1.."),
        ("attach --pid 1 --ifname a/b net.conf", "contains /"),
        (
            "attach --pid 1 --ip 10.1.0.5 net.conf",
            "prefix length is missing",
        ),
        ("attach --pid 1 --ip 10.1.0.5/33 net.conf", "--ip"),
        ("attach --pid 1 --mac 02:00 net.conf", "not a MAC address"),
        (
            "attach --pid 1 --container-id .x net.conf",
            "a container id starts",
        ),
        (
            "attach --pid 1 --capability ips net.conf",
            "write NAME=JSON",
        ),
        (
            "attach --pid 1 --capability mac=02:00 net.conf",
            "a text needs quotes",
        ),
        ("detach", "--netns <PATH>"),
        ("detach --pid 1 --all net.conf", "cannot be used with"),
        ("detach --pid 1 --all --ifname net1", "cannot be used with"),
        ("doctor --area everything", "[possible values: core, vlan"),
        ("doctor -o yaml", "[possible values: text, json]"),
        ("bootstrap vfs", "<PF=COUNT>"),
        ("bootstrap vfs pf0", "write PF=COUNT, for example pf0=7"),
        (
            "bootstrap vfs pf0=seven",
            "\"seven\" is not a number of VFs",
        ),
        ("bootstrap vfs pf0=-1", "not a number of VFs"),
        (
            "bootstrap vfs a/b=1",
            "neither an interface nor a PCI address",
        ),
        ("bootstrap vfs pf0=1 --mtu 60", "60 is not in 68..=65535"),
        (
            "bootstrap vfs pf0=1 --macs random",
            "[possible values: stable, keep]",
        ),
        ("bootstrap verify pf0=1 --dry-run", "unexpected argument"),
        ("vf show 01:10.2", "not a PCI address like 0000:01:10.2"),
        ("vf release", "<ADDRESS>"),
        ("help", "unrecognized subcommand"),
    ] {
        let error = parse(&format!("berth {line}")).unwrap_err().to_string();
        assert!(error.contains(why), "{line}: {error}");
    }
}

#[test]
fn pfs_are_named_by_link_or_address() {
    let count = |text: &str| text.parse::<PfCount>().unwrap();
    let link = PfName::Link("enp1s0f0".parse().unwrap());
    let address = PfName::Address("0000:41:00.0".parse().unwrap());
    let (pf, four) = (link, 4);
    assert_eq!(count("enp1s0f0=4"), PfCount { pf, count: four });
    let (pf, none) = (address, 0);
    assert_eq!(count("0000:41:00.0=0"), PfCount { pf, count: none });
}

#[test]
fn container_ids_follow_the_specification() {
    for good in ["a", "7", "web-1", "pid-4711-27135", "A_b.c-d"] {
        assert_eq!(container_id(good).as_deref(), Ok(good));
    }
    for bad in ["", ".a", "-a", "_a", "a/b", "a b", "ä", "a:b"] {
        assert!(container_id(bad).is_err(), "{bad:?}");
    }
}
