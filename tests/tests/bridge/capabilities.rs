//! What a runtime or a scheduler passes beside the configuration, and IPAM plugins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use berth_tests::{Attachment, Need, Node, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::kit::{Attached, IFNAME, conf, plugin, refused, with};

/// Where Debian installs the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    const HOST_LOCAL: &[Need] = &[Need::Tool("/usr/lib/cni/host-local")];
    vec![
        test("mac_comes_from_the_strongest_place", ROOT, mac),
        test("addresses_come_from_the_scheduler", ROOT, ips),
        test("ipam_plugin_is_called_and_undone", ROOT, delegate),
        test("host_local_leases_are_released", HOST_LOCAL, host_local),
    ]
}

/// Each place beats those before it.
fn mac(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    let mut at = Attachment::of(&pod, "one", IFNAME);
    let address = |n: u8| format!("02:00:5e:10:00:0{n}");
    let mut conf = conf("net", json!({"bridge": "br0", "mac": address(1)}));
    node.as_before(|| {
        for n in 1..=4 {
            match n {
                1 => {}
                2 => at.args = Some(format!("MAC={};IgnoreUnknown=1;OTHER=x", address(2))),
                3 => conf["args"] = json!({"cni": {"mac": address(3)}}),
                _ => conf["runtimeConfig"] = json!({"mac": address(4)}),
            }
            let seen = plugin()?.add(&at, &conf)?;
            assert_eq!(pod.link(IFNAME)?["address"], address(n));
            assert_eq!(seen["interfaces"][2]["mac"], address(n));
            plugin()?.del(&at, &conf)?;
        }
        at.args = Some("OTHER=x".into());
        let reply = plugin()?.call("ADD", &at, &conf)?;
        refused(&reply, 4, &["OTHER=x", "IgnoreUnknown=1"])?;
        Ok(())
    })
}

fn ips(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    let mut at = Attachment::of(&pod, "one", IFNAME);
    let mut conf = conf("net", json!({"bridge": "br0", "ipam": {"type": "static"}}));
    node.as_before(|| {
        for n in 1..=3 {
            match n {
                1 => at.args = Some("IP=10.1.0.1/24;GATEWAY=10.1.0.254".into()),
                2 => conf["args"] = json!({"cni": {"ips": ["10.1.0.2/24"]}}),
                _ => conf["runtimeConfig"] = json!({"ips": ["10.1.0.3/24", "fd00:1::3/64"]}),
            }
            let seen = plugin()?.add(&at, &conf)?;
            let wish = format!("10.1.0.{n}/24");
            let live = pod.addresses(IFNAME)?;
            ensure!(live.contains(&wish), "{wish} is not in {live:?}");
            assert_eq!(
                live.contains(&"fd00:1::3/64".to_owned()),
                n == 3,
                "{live:?}"
            );
            assert_eq!(seen["ips"][0]["address"], wish);
            assert_eq!(seen["ips"][0]["gateway"], "10.1.0.254");
            plugin()?.del(&at, &conf)?;
        }
        Ok(())
    })
}

/// An IPAM plugin that writes down what it is asked.
const RECORDER: &str = r#"#!/bin/sh
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME" >> /run/asked
[ "$CNI_COMMAND" = ADD ] || exit 0
if [ -e /run/refuse ]; then
    echo '{"cniVersion": "1.1.0", "code": 11, "msg": "pool is empty"}'
    exit 1
fi
echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.1/24"}], "routes": ROUTES}'
"#;

fn recorder(routes: &Value) -> Result<()> {
    fs::create_dir_all("/run/plugins")?;
    let path = Path::new("/run/plugins/recorder");
    fs::write(path, RECORDER.replace("ROUTES", &routes.to_string()))?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// What was asked since the last time.
fn asked() -> Result<Vec<String>> {
    let text = fs::read_to_string("/run/asked").unwrap_or_default();
    fs::write("/run/asked", "")?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn delegate(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    let mut at = Attachment::of(&pod, "one", IFNAME);
    at.cni_path = Some("/run/nothing:/run/plugins".into());
    let conf = conf(
        "net",
        json!({"bridge": "br0", "ipam": {"type": "recorder"}}),
    );
    node.as_before(|| {
        recorder(&json!([]))?;
        let seen = plugin()?.add(&at, &conf)?;
        assert_eq!(
            seen["ips"],
            json!([{"interface": 2, "address": "10.1.0.1/24"}])
        );
        assert_eq!(asked()?, ["ADD one eth0"]);
        let later = with(conf.clone(), json!({"prevResult": seen}));
        plugin()?.check(&at, &later)?;
        assert_eq!(asked()?, ["CHECK one eth0"]);
        // DEL finds it without CNI_PATH and namespace: the record knows.
        let mut bare = at.without_netns();
        bare.cni_path = None;
        plugin()?.del(&bare, &later)?;
        assert_eq!(asked()?, ["DEL one eth0"]);

        // Its own failure, and one of ours after it.
        fs::write("/run/refuse", "")?;
        let reply = plugin()?.call("ADD", &at, &conf)?;
        let error = reply.failure()?;
        assert_eq!(error.code, 11);
        ensure!(
            error.msg.contains("recorder") && error.msg.contains("pool is empty"),
            "{error:?}"
        );
        assert_eq!(asked()?[..2], ["ADD one eth0", "DEL one eth0"]);
        fs::remove_file("/run/refuse")?;
        recorder(&json!([{"dst": "10.8.0.0/16", "gw": "192.168.7.1"}]))?;
        let reply = plugin()?.call("ADD", &at, &conf)?;
        refused(&reply, 100, &["10.8.0.0/16"])?;
        assert_eq!(asked()?, ["ADD one eth0", "DEL one eth0"]);
        Ok(())
    })
}

fn host_local(node: &Node) -> Result<()> {
    let lease = Path::new("/var/lib/cni/networks/net/10.1.0.2");
    // Debian's reference plugins speak 1.0.0.
    let of = |ipam: Value| {
        conf(
            "net",
            json!({"cniVersion": "1.0.0", "bridge": "br0", "ipam": ipam}),
        )
    };
    let pool = json!({"type": "host-local", "subnet": "10.1.0.0/24"});
    node.as_before(|| {
        let pod = node.pod("one")?;
        let mut at = Attachment::of(&pod, "one", IFNAME);
        at.cni_path = Some(REFERENCE.into());
        let pod = Attached::of(pod, at, of(pool.clone()))?;
        assert_eq!(pod.result["ips"][0]["address"], "10.1.0.2/24");
        assert_eq!(pod.result["ips"][0]["gateway"], "10.1.0.1");
        ensure!(
            fs::read_to_string(lease)?.starts_with("one"),
            "whose lease?"
        );
        pod.must_hold()?;
        pod.del()?;
        ensure!(!lease.exists(), "the lease is left after DEL");
        let far = with(
            pool,
            json!({"routes": [{"dst": "10.8.0.0/16", "gw": "192.168.7.1"}]}),
        );
        let reply = plugin()?.call("ADD", &pod.at, &of(far))?;
        refused(&reply, 100, &["10.8.0.0/16"])?;
        let leases = fs::read_dir("/var/lib/cni/networks/net")?.flatten();
        let leases: Vec<_> = leases.map(|entry| entry.file_name()).collect();
        ensure!(
            leases
                .iter()
                .all(|name| !name.to_string_lossy().starts_with("10.")),
            "{leases:?}"
        );
        Ok(())
    })
}
