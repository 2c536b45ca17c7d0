//! Attach and detach with plugins that are scripts: what reaches them, in which
//! order, and what is kept between the two.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use clap::Parser;
use serde_json::json;

use super::*;
use crate::cli::{Cli, Command};

/// A directory with plugins, a configuration and a node's `run`.
struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        lab.plugin("first", "");
        lab.plugin("second", "");
        lab.file(
            "net.conflist",
            &json!({
                "cniVersion": "1.0.0",
                "name": "game",
                "plugins": [
                    {"type": "first", "capabilities": {"ips": true, "cgroupPath": true}},
                    {"type": "second"},
                ],
            })
            .to_string(),
        );
        lab
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// A plugin that notes its call in `calls` and its input in `NAME.VERB`, runs
    /// `script`, and answers ADD.
    fn plugin(&self, name: &str, script: &str) {
        let dir = self.dir.path().display();
        self.file(
            name,
            &format!(
                "#!/bin/sh\n\
                 echo {name} $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME >> {dir}/calls\n\
                 cat > {dir}/{name}.$CNI_COMMAND\n\
                 echo \"$CNI_NETNS $CNI_ARGS\" > {dir}/{name}.env\n\
                 {script}\n\
                 [ $CNI_COMMAND != ADD ] || echo '{{\"cniVersion\": \"1.0.0\", \
                 \"interfaces\": [{{\"name\": \"{name}\"}}]}}'\n"
            ),
        );
        let path = self.dir.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn runtime(&self) -> Runtime {
        Runtime {
            root: Root::under(self.dir.path()),
            plugins: vec![self.dir.path().to_owned()],
        }
    }

    /// `berth attach` past the look at the namespace, which needs a real one.
    fn attach(&self, options: &str) -> Result<Value> {
        self.attach_to(options, None)
    }

    fn attach_to(&self, options: &str, target: Option<Target>) -> Result<Value> {
        let conf = self.dir.path().join("net.conflist");
        let line = format!("berth attach --pid 7 {options} {}", conf.display());
        let Command::Attach(args) = Cli::parse_from(line.split_whitespace()).command else {
            panic!("{line}");
        };
        let id = args.container_id.clone().unwrap_or("blue".to_owned());
        let target = target.unwrap_or(Target {
            netns: "/run/netns/blue".into(),
            container_id: id,
            process: None,
        });
        let list = load(&args.conf)?;
        add(&args, &list, &target, &self.runtime(), &mut Vec::new())
    }

    /// `berth detach`: what it noted, or the error.
    fn detach(&self, options: &str) -> Result<String> {
        let line = format!("berth detach {options}");
        let Command::Detach(args) = Cli::parse_from(line.split_whitespace()).command else {
            panic!("{line}");
        };
        let mut notes = Vec::new();
        detach(&args, &self.runtime(), &mut notes)?;
        Ok(String::from_utf8(notes).unwrap())
    }

    /// The calls since the last look.
    fn calls(&self) -> Vec<String> {
        let calls = self.read("calls");
        self.file("calls", "");
        calls.lines().map(str::to_owned).collect()
    }

    fn input(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    fn known(&self) -> Vec<String> {
        let keys = known(&self.runtime().client(None).unwrap().0).unwrap();
        keys.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn attach_runs_the_chain_and_detach_undoes_it_from_what_was_kept() {
    let lab = Lab::new();
    let result = lab
        .attach("--ip 10.1.0.5/24 --mac 02:00:00:00:00:05")
        .unwrap();
    assert_eq!(result["interfaces"][0]["name"], "second");
    assert_eq!(lab.calls(), ["first ADD blue eth0", "second ADD blue eth0"]);
    let first = lab.input("first.ADD");
    assert_eq!(first["runtimeConfig"], json!({"ips": ["10.1.0.5/24"]}));
    let second = lab.input("second.ADD");
    assert_eq!(second["prevResult"]["interfaces"][0]["name"], "first");
    assert_eq!(second.get("runtimeConfig"), None);
    let env = "/run/netns/blue IgnoreUnknown=1;MAC=02:00:00:00:00:05\n";
    assert_eq!(lab.read("second.env"), env);
    assert_eq!(lab.known(), ["game/blue:eth0"]);

    // The configuration may be gone by now.
    fs::remove_file(lab.dir.path().join("net.conflist")).unwrap();
    assert_eq!(lab.detach("--netns /run/netns/blue").unwrap(), "");
    assert_eq!(lab.calls(), ["second DEL blue eth0", "first DEL blue eth0"]);
    assert_eq!(lab.read("first.env"), env);
    let first = lab.input("first.DEL");
    assert_eq!(first["prevResult"]["interfaces"][0]["name"], "second");
    assert_eq!(first["runtimeConfig"], json!({"ips": ["10.1.0.5/24"]}));
    assert_eq!(lab.known(), [""; 0]);

    let note = lab.detach("--netns /run/netns/blue").unwrap();
    assert_eq!(note, "berth: eth0 is not attached to container blue\n");
    assert_eq!(lab.calls(), [""; 0]);
}

#[test]
fn the_cgroup_of_the_process_is_given_where_it_means_something() {
    let lab = Lab::new();
    for dir in ["proc/7", "sys/fs/cgroup/cpuset"] {
        fs::create_dir_all(lab.dir.path().join(dir)).unwrap();
    }
    lab.file("proc/7/stat", &format!("7 (game) S{}\n", " 1".repeat(49)));
    lab.file("proc/7/cgroup", "0::/game.scope\n");
    lab.file("sys/fs/cgroup/cpuset/cgroup.procs", "");
    let root = Root::under(lab.dir.path());
    let target = || Some(Target::of_process(&root, 7, None).unwrap());
    lab.attach_to("", target()).unwrap();
    assert_eq!(lab.input("first.ADD").get("runtimeConfig"), None);
    assert_eq!(lab.known(), ["game/pid-7-1:eth0"]);
    lab.detach("--pid 7").unwrap();

    lab.file("sys/fs/cgroup/cgroup.controllers", "cpuset cpu\n");
    lab.attach_to("", target()).unwrap();
    let config = &lab.input("first.ADD")["runtimeConfig"];
    assert_eq!(*config, json!({"cgroupPath": "/game.scope"}));
    assert_eq!(lab.input("second.ADD").get("runtimeConfig"), None);
}

#[test]
fn what_is_kept_is_private() {
    let lab = Lab::new();
    lab.attach("").unwrap();
    let mode = |path: &str| {
        let meta = fs::metadata(lab.dir.path().join(path)).unwrap();
        meta.permissions().mode() & 0o777
    };
    assert_eq!(mode("run/berth"), 0o755);
    assert_eq!(mode("run/berth/client"), 0o700);
    assert_eq!(mode("run/berth/client/game/blue:eth0.json"), 0o600);
}

#[test]
fn a_failed_attach_is_taken_back_and_told_in_one_block() {
    let lab = Lab::new();
    lab.plugin(
        "second",
        "[ $CNI_COMMAND != ADD ] || { echo '{\"cniVersion\": \"1.0.0\", \"code\": 103, \
         \"msg\": \"10.1.0.5 is taken\", \"details\": \"choose another\"}'; exit 1; }",
    );
    let error = lab.attach("").unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "cannot attach eth0 of container blue to network game (code 103)\n  \
         reason: plugin second failed ADD: 10.1.0.5 is taken\n  \
         next:   choose another"
    );
    let calls = lab.calls();
    let undone = ["second DEL blue eth0", "first DEL blue eth0"];
    assert_eq!(calls[2..], undone, "{calls:?}");
    assert_eq!(lab.known(), [""; 0]);
}

#[test]
fn a_failed_detach_keeps_what_it_needs_and_may_be_repeated() {
    let lab = Lab::new();
    lab.attach("").unwrap();
    let busy = "[ $CNI_COMMAND != DEL ] || { echo '{\"code\": 11, \"msg\": \"busy\"}'; exit 1; }";
    lab.plugin("first", busy);
    let error = lab.detach("--container-id blue").unwrap_err().to_string();
    assert!(error.starts_with("cannot detach eth0 of container blue from network game"));
    assert!(error.contains("first") && error.contains("busy"), "{error}");
    assert_eq!(lab.known(), ["game/blue:eth0"]);
    lab.plugin("first", "");
    assert_eq!(lab.detach("--container-id blue").unwrap(), "");
    assert_eq!(lab.known(), [""; 0]);
}

#[test]
fn all_takes_every_interface_of_one_container_past_errors() {
    let lab = Lab::new();
    lab.attach("").unwrap();
    lab.attach("--ifname net1").unwrap();
    lab.attach("--container-id red").unwrap();
    let note = lab.detach("--container-id blue --ifname net2").unwrap();
    assert_eq!(
        note,
        "berth: net2 is not attached to container blue; it has eth0 (network game), \
         net1 (network game)\n"
    );
    lab.plugin("first", "[ $CNI_COMMAND$CNI_IFNAME != DELeth0 ] || exit 1");
    let error = lab
        .detach("--container-id blue --all")
        .unwrap_err()
        .to_string();
    assert!(error.contains("detach eth0 of"), "{error}");
    assert_eq!(lab.known(), ["game/blue:eth0", "game/red:eth0"]);
    lab.plugin("first", "");
    lab.detach("--container-id blue --all").unwrap();
    assert_eq!(lab.known(), ["game/red:eth0"]);
}

#[test]
fn detach_of_what_was_attached_elsewhere_takes_the_configuration() {
    let lab = Lab::new();
    let conf = lab.dir.path().join("net.conflist");
    lab.detach(&format!("--container-id web-1 {}", conf.display()))
        .unwrap();
    assert_eq!(
        lab.calls(),
        ["second DEL web-1 eth0", "first DEL web-1 eth0"]
    );
}

#[test]
fn the_pid_of_an_ended_process_finds_its_container() {
    let lab = Lab::new();
    fs::create_dir(lab.dir.path().join("proc")).unwrap();
    lab.attach("--container-id pid-7-400").unwrap();
    let note = lab.detach("--pid 8").unwrap();
    assert_eq!(note, "berth: nothing is attached to process 8\n");
    lab.detach("--pid 7").unwrap();
    assert_eq!(lab.known(), [""; 0]);
}

#[test]
fn a_configuration_that_cannot_be_used_is_told_with_its_file() {
    let lab = Lab::new();
    lab.file("net.conflist", "{");
    let error = lab.attach("").unwrap_err().to_string();
    assert!(
        error.contains("cannot use the network configuration"),
        "{error}"
    );
    assert!(error.contains("net.conflist"), "{error}");
    lab.file(
        "net.conflist",
        r#"{"cniVersion": "1.0.0", "name": "game", "type": "none"}"#,
    );
    let error = lab.attach("").unwrap_err().to_string();
    assert!(error.contains("none") && error.contains("next:"), "{error}");
}
