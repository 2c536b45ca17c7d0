//! The built-in `host-local`: what it leaves on disk, and one pool served by it and by
//! the reference at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use berth_tests::{Attachment, Context, Need, Node, Plugin, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::stage::{Stage, code, conf_with};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    const BOTH: &[Need] = &[Need::Root, Need::Tool(REFERENCE)];
    vec![
        test("host_local_built_in", ROOT, built_in),
        test("host_local_exhausted", ROOT, exhausted),
        test(
            "host_local_beside_the_reference",
            BOTH,
            beside_the_reference,
        ),
    ]
}

/// Where Debian installs the reference.
const REFERENCE: &str = "/usr/lib/cni/host-local";
/// The pool of the network `net1`, where the reference has it by default.
const POOL: &str = "/var/lib/cni/networks/net1";
/// Attachments by each of the two.
const EACH: usize = 12;

fn conf(ranges: Value) -> Value {
    let ipam = json!({"type": "host-local", "ranges": ranges});
    let mut conf = conf_with("ipam", ipam);
    conf["cniVersion"] = "1.0.0".into();
    conf
}

/// Every lease: the address and what its file says.
fn leases() -> Result<BTreeMap<String, String>> {
    let mut leases = BTreeMap::new();
    for entry in fs::read_dir(POOL)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "lock" && !name.starts_with("last_reserved_ip.") {
            let text = fs::read_to_string(Path::new(POOL).join(&name))?;
            leases.insert(name, text);
        }
    }
    Ok(leases)
}

fn built_in(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let (at, plugin) = (stage.attachment(), &stage.plugin);
    let conf = conf(json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]));
    let result = plugin.add(&at, &conf)?;
    let live = stage.pod.addresses("eth0")?;
    for (n, address) in ["10.1.0.2/24", "fd00:1::2/64"].into_iter().enumerate() {
        assert_eq!(result["ips"][n]["address"], address);
        ensure!(live.contains(&address.to_owned()), "{address}: {live:?}");
    }
    let expected = ["10.1.0.2", "fd00:1::2"].map(|ip| (ip.to_owned(), "c1\r\neth0".to_owned()));
    assert_eq!(leases()?, expected.into());
    let mut later = conf.clone();
    later["prevResult"] = result;
    plugin.check(&at, &later)?;
    fs::remove_file(Path::new(POOL).join("10.1.0.2"))?;
    let error = plugin.call("CHECK", &at, &later)?.failure()?;
    ensure!(
        error.code == 105 && error.msg.contains("10.1.0.2"),
        "{error:?}"
    );
    let mut gc = conf.clone();
    gc["cniVersion"] = "1.1.0".into();
    stage.call("STATUS").conf(&gc).succeeds()?;
    gc["cni.dev/valid-attachments"] = json!([]);
    stage.call("GC").conf(&gc).succeeds()?;
    assert_eq!(leases()?, BTreeMap::new());
    plugin.del(&at, &conf)
}

fn exhausted(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let (pod, plugin) = (&stage.pod, &stage.plugin);
    let conf = conf(json!([[{"subnet": "10.1.0.0/30"}]]));
    let at = |n: u8| Attachment::of(pod, &format!("c{n}"), &format!("eth{n}"));
    plugin.add(&at(0), &conf)?;
    node.as_before(|| {
        let error = plugin.call("ADD", &at(1), &conf)?.failure()?;
        assert_eq!(error.code, code::TRY_AGAIN, "{error:?}");
        for part in ["net1", "10.1.0.1-10.1.0.2", "1 held"] {
            ensure!(error.msg.contains(part), "{part} is not in {error:?}");
        }
        ensure!(error.details.contains(POOL), "{error:?}");
        plugin.del(&at(1), &conf)
    })?;
    plugin.del(&at(0), &conf)?;
    plugin.add(&at(1), &conf)?;
    plugin.del(&at(1), &conf)
}

/// Both give out and take back at the same time; afterwards each takes back what the
/// other gave.
fn beside_the_reference(node: &Node) -> Result<()> {
    let stage = Stage::set(node)?;
    let (pod, ours) = (&stage.pod, &stage.plugin);
    let theirs = Plugin::at(Path::new(REFERENCE));
    let conf = conf(json!([[{"subnet": "10.1.0.0/26"}], [{"subnet": "fd00:1::/64"}]]));
    let at = |n: usize| {
        let id = if n.is_multiple_of(2) {
            "ours"
        } else {
            "theirs"
        };
        let mut at = Attachment::of(pod, &format!("{id}{n}"), &format!("e{n}"));
        // The reference demands the variable; there is no plugin in this directory.
        at.cni_path = Some("/run".into());
        at
    };
    let who = |n: usize| if n.is_multiple_of(2) { ours } else { &theirs };
    let all = 0..2 * EACH;
    let round = |verb: &str, who: &dyn Fn(usize) -> Plugin| -> Result<Vec<Value>> {
        let start = |n| who(n).start(verb, &at(n), &conf);
        let running = all.clone().map(start).collect::<Result<Vec<_>>>()?;
        let finish = |(n, one): (usize, berth_tests::Running)| {
            one.finish()?
                .result()
                .with_context(|| format!("{verb} {n}"))
        };
        running.into_iter().enumerate().map(finish).collect()
    };
    for pass in 0..2 {
        let results = round("ADD", &|n| who(n).clone())?;
        let address = |ip: &Value| {
            let text = ip["address"].as_str().unwrap_or_default();
            text.split('/').next().unwrap_or_default().to_owned()
        };
        let mut expected = BTreeMap::new();
        for (n, result) in results.iter().enumerate() {
            let at = at(n);
            for ip in result["ips"].as_array().into_iter().flatten() {
                let owner = format!("{}\r\n{}", at.container_id, at.ifname);
                let twice = expected.insert(address(ip), owner);
                ensure!(twice.is_none(), "{ip} was given out twice");
            }
        }
        assert_eq!(expected.len(), 4 * EACH);
        assert_eq!(leases()?, expected);
        // Each its own first; then the other's, of which only leases are left to take.
        let other = |n: usize| who(n + 1).clone();
        if pass == 0 {
            round("DEL", &|n| who(n).clone())?;
            assert_eq!(leases()?, BTreeMap::new());
            round("DEL", &other)?;
        } else {
            round("DEL", &other)?;
            assert_eq!(leases()?, BTreeMap::new());
            round("DEL", &|n| who(n).clone())?;
        }
    }
    let left: BTreeSet<String> = fs::read_dir(POOL)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    let expected = ["last_reserved_ip.0", "last_reserved_ip.1", "lock"].map(str::to_owned);
    assert_eq!(left, expected.into());
    Ok(())
}
