//! `berth attach` that cannot be: every error names its reason and the next step, and
//! the node is as before.

use berth_tests::{Need, Node, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::kit::{
    Process, attached, berth, detach, done, net, network, own_plugin, refused, told, write_conf,
};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("a_second_attach_is_refused", ROOT, second),
        test("a_failed_attach_leaves_nothing", ROOT, plugin_fails),
        test("a_failed_chain_is_undone", ROOT, chain_fails),
        test("a_bad_configuration_is_explained", ROOT, bad_conf),
        test("no_container_is_explained", ROOT, no_container),
        test("a_mistyped_line_is_explained", ROOT, mistyped),
    ]
}

/// The line that attaches pod `one`.
const ONE: &str = "attach --netns /run/netns/one --ip 10.1.0.1/24 net.conf";

fn second(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    let process = Process::start(node)?;
    let of_process = format!("attach --pid {} --ip 10.1.0.2/24 net.conf", process.pid());
    node.as_before(|| {
        let first = attached(&pod, "10.1.0.1/24")?;
        done(&of_process)?;
        let before = node.snapshot()?;
        for line in [ONE, &of_process] {
            told(
                line,
                7,
                &["attach eth0 of container", "network net", "detach"],
            )?;
        }
        before.must_equal(&node.snapshot()?)?;
        assert_eq!(first["interfaces"][2]["mac"], pod.link("eth0")?["address"]);
        detach("--netns /run/netns/one")?;
        detach(&format!("--pid {}", process.pid()))
    })?;
    process.end()
}

/// The plugin refuses what it is configured to do, before or while it does it.
fn plugin_fails(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    let far = json!([{"dst": "10.8.0.0/16", "gw": "192.168.7.1"}]);
    let far = json!({"type": "static", "routes": far});
    let cases: [(Value, u32, &[&str]); 3] = [
        (json!({"bridge": 17}), 7, &["bridge", "17"]),
        (json!({"vlan": 5000}), 7, &["vlan", "5000"]),
        (json!({"ipam": far}), 100, &["10.8.0.0/16", "ENETUNREACH"]),
    ];
    for (keys, code, says) in cases {
        node.as_before(|| {
            write_conf("net.conf", &network("net", keys))?;
            told(ONE, code, says)?;
            assert_eq!(pod.link_names()?, ["lo"]);
            Ok(())
        })?;
    }
    // What failed does not stand in the way of a better try.
    node.as_before(|| {
        attached(&pod, "10.1.0.1/24")?;
        detach("--netns /run/netns/one")
    })
}

/// A plugin that fails at ADD, after the first of the chain has made everything.
const FAILING: &str = r#"echo "$CNI_COMMAND" >> /run/asked
[ "$CNI_COMMAND" = ADD ] || exit 0
[ -e /sys/class/net/br0 ] && echo "there was a bridge" >> /run/asked
echo '{"cniVersion": "1.1.0", "code": 120, "msg": "no more tickets", "details": "buy some"}'
exit 1"#;

fn chain_fails(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    let path = own_plugin("failing", FAILING)?;
    let chain = json!({"cniVersion": "1.1.0", "name": "net", "plugins": [
        {"type": "cni-bridge-vlan", "bridge": "br0", "ipam": {"type": "static"}, "rps": {"cpus": "off"}},
        {"type": "failing"},
    ]});
    node.as_before(|| {
        write_conf("net.conf", &chain)?;
        let line = ONE.replace("attach", &format!("attach --cni-path {path}"));
        told(&line, 120, &["failing", "no more tickets", "buy some"])?;
        assert_eq!(pod.link_names()?, ["lo"]);
        let asked = std::fs::read_to_string("/run/asked")?;
        assert_eq!(asked, "ADD\nthere was a bridge\nDEL\n");
        Ok(())
    })
}

fn bad_conf(node: &Node) -> Result<()> {
    node.as_before(|| {
        let _pod = node.pod("one")?;
        told_of_file("gone.conf", 5, &["gone.conf"])?;
        write_conf("odd.conf", &json!([1]))?;
        refused(&line_with("odd.conf"), &["odd.conf", "JSON object"])?;
        write_conf("odd.conf", &json!({"name": "net", "plugins": []}))?;
        told_of_file("odd.conf", 7, &["odd.conf", "plugins"])?;
        write_conf("odd.conf", &network("net", json!({"type": "gone"})))?;
        told_of_file("odd.conf", 7, &["type", "gone", "install it"])?;
        write_conf("net.conf", &net())?;
        let line = line_with("--capability bandwidth={} net.conf");
        refused(
            &line,
            &["bandwidth", r#""capabilities": {"bandwidth": true}"#],
        )?;
        Ok(())
    })
}

fn line_with(rest: &str) -> String {
    format!("attach --netns /run/netns/one {rest}")
}

fn told_of_file(conf: &str, code: u32, says: &[&str]) -> Result<()> {
    told(&line_with(conf), code, says)
}

fn no_container(node: &Node) -> Result<()> {
    write_conf("net.conf", &net())?;
    node.as_before(|| {
        for (target, says) in [
            ("--netns /run/netns/gone", "/run/netns/gone"),
            (
                "--netns /run/here/net.conf --container-id one",
                "not a network namespace",
            ),
            ("--netns /proc/1/ns/net", "--container-id"),
            (
                "--netns /proc/self/ns/net --container-id one",
                "namespace of its own",
            ),
            ("--pid 1", "namespace of its own"),
            ("--pid 4000000", "there is no process 4000000"),
        ] {
            refused(&format!("attach {target} net.conf"), &[says])?;
        }
        Ok(())
    })
}

/// Exit status 2, the usage, and nothing done.
fn mistyped(node: &Node) -> Result<()> {
    write_conf("net.conf", &net())?;
    node.as_before(|| {
        for (rest, says) in [
            ("net.conf", "--netns"),
            (
                "--pid 1 --netns /run/netns/one net.conf",
                "cannot be used with",
            ),
            ("--netns /run/netns/one", "<CONF>"),
            (
                "--netns /run/netns/one --ip 10.1.0.1 net.conf",
                "10.1.0.5/24",
            ),
            ("--netns /run/netns/one --mac 02:00 net.conf", "--mac"),
            ("--netns /run/netns/one --ifname a/b net.conf", "--ifname"),
            (
                "--netns /run/netns/one --container-id .a net.conf",
                "letter or digit",
            ),
            (
                "--netns /run/netns/one --capability ips net.conf",
                "NAME=JSON",
            ),
        ] {
            let done = berth(&format!("attach {rest}"))?;
            assert_eq!(done.status.code(), Some(2), "{rest}: {}", done.stderr);
            ensure!(done.stderr.contains(says), "{says:?} in {}", done.stderr);
            ensure!(done.stdout.is_empty(), "{}", done.stdout);
        }
        Ok(())
    })
}
