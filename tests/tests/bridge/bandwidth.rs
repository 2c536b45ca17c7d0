//! Limits of what a container receives and sends: they hold, each in its direction, CHECK
//! sees them, and they are gone with the attachment.

use std::fs;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use berth_tests::{Attachment, Context, Need, Node, Pod, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::gc::{of_network, valid};
use crate::kit::{Attached, conf, fixed, has_vlans, plugin, record_file, refused, with};

pub(crate) fn tests() -> Vec<Test> {
    const SHAPING: &[Need] = &[Need::Shaping];
    const TRUNK: &[Need] = &[Need::Shaping, Need::VlanFiltering];
    vec![
        test("bandwidth_holds_both_ways", SHAPING, rates),
        test("bandwidth_holds_for_tagged_frames", TRUNK, tagged),
        test("bandwidth_is_what_was_asked_for", SHAPING, asked),
        test("bandwidth_is_checked", SHAPING, checked),
        test("bandwidth_goes_without_a_record", SHAPING, swept),
        test("bandwidth_is_foretold", SHAPING, foretold),
    ]
}

/// Bits a second, in both directions.
const RATE: u64 = 2_000_000;
const BURST: u64 = 160_000;

/// A network whose containers can be limited, in a VLAN where the node has them.
fn limited(address: &str, limits: Value) -> Value {
    let keys = json!({"bridge": "br0", "ipam": fixed(&[address]),
        "capabilities": {"bandwidth": true}, "runtimeConfig": {"bandwidth": limits}});
    let vlan = if has_vlans() {
        json!({"vlan": 100})
    } else {
        json!({})
    };
    conf("net", with(keys, vlan))
}

fn both() -> Value {
    json!({"ingressRate": RATE, "ingressBurst": BURST, "egressRate": RATE, "egressBurst": BURST})
}

/// Bytes of payload in each datagram, and of its headers up to Ethernet's.
const PAYLOAD: usize = 1000;
const HEADERS: usize = 14 + 20 + 8;
const PORT: u16 = 5001;

/// The rate at which `to` receives in a second what `from` sends eight times as fast as
/// the limit, in bits on the wire.
fn rate(from: &Pod, to: &Pod, address: &str) -> Result<u64> {
    const TIME: Duration = Duration::from_secs(1);
    let target = (address, PORT);
    let socket = to.enter(|| Ok(UdpSocket::bind(target)?))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let sender = from.enter(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    sender.connect(target)?;
    // The first frame waits for ARP, the burst passes at once: neither is counted.
    let start = Instant::now() + Duration::from_millis(300);
    let end = start + TIME;
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            let each = u64::try_from((PAYLOAD + HEADERS) * 8).unwrap_or(u64::MAX);
            let (begin, mut sent) = (Instant::now(), 0);
            while Instant::now() < end {
                let due = begin.elapsed().as_micros() * u128::from(8 * RATE) / 1_000_000;
                while u128::from(sent * each) < due {
                    // A full queue is what is being tested.
                    let _lost = sender.send(&[0; PAYLOAD]);
                    sent += 1;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let (mut buffer, mut received) = ([0; PAYLOAD], 0_u64);
        while Instant::now() < end {
            if socket.recv(&mut buffer).is_ok() && (start..end).contains(&Instant::now()) {
                received += 1;
            }
        }
        received
    });
    let bytes = received * u64::try_from(PAYLOAD + HEADERS)?;
    Ok(bytes * 8)
}

/// Half to one and a half times the limit: a machine may be busy, and what is not limited
/// comes eight times as fast.
fn must_be_limited(seen: u64) -> Result<()> {
    ensure!(
        (RATE / 2..RATE * 3 / 2).contains(&seen),
        "{seen} bit/s, limited to {RATE}"
    );
    Ok(())
}

fn must_be_free(seen: u64) -> Result<()> {
    ensure!(seen > RATE * 2, "{seen} bit/s, not limited at all");
    Ok(())
}

fn rates(node: &Node) -> Result<()> {
    node.as_before(|| {
        let down = json!({"ingressRate": RATE, "ingressBurst": BURST});
        let up = json!({"egressRate": RATE, "egressBurst": BURST});
        let down = Attached::new(node, "down", limited("10.1.0.1/24", down))?;
        let up = Attached::new(node, "up", limited("10.1.0.2/24", up))?;
        must_be_limited(rate(&up.pod, &down.pod, "10.1.0.1")?)?;
        must_be_free(rate(&down.pod, &up.pod, "10.1.0.2")?)?;
        let free = Attached::new(node, "free", limited("10.1.0.3/24", json!({})))?;
        must_be_limited(rate(&up.pod, &free.pod, "10.1.0.3")?)?;
        must_be_limited(rate(&free.pod, &down.pod, "10.1.0.1")?)?;
        for pod in [&down, &up, &free] {
            pod.must_hold()?;
            pod.del()?;
        }
        Ok(())
    })
}

/// Of a trunk, whose frames come to the ifb with their tags.
fn tagged(node: &Node) -> Result<()> {
    node.as_before(|| {
        let trunk = |address: &str, limits: Value| {
            let keys = json!({"vlanTrunk": [{"id": 101}], "macspoofchk": true});
            with(limited(address, limits), keys)
        };
        let one = Attached::new(node, "one", trunk("10.1.0.1/24", both()))?;
        let two = Attached::new(node, "two", trunk("10.1.0.2/24", json!({})))?;
        for (pod, address) in [(&one, "10.2.0.1/24"), (&two, "10.2.0.2/24")] {
            pod.pod.ip("link add link eth0 name t0 type vlan id 101")?;
            pod.pod.ip(&format!("addr add {address} dev t0"))?;
            pod.pod.ip("link set t0 up")?;
        }
        must_be_limited(rate(&one.pod, &two.pod, "10.2.0.2")?)?;
        must_be_limited(rate(&two.pod, &one.pod, "10.2.0.1")?)?;
        one.must_hold()?;
        one.del()?;
        two.del()
    })
}

/// The ifb, as the result names it.
fn ifb(pod: &Attached) -> Result<String> {
    let all = pod.result["interfaces"].as_array();
    let last = all.and_then(|all| all.last()?["name"].as_str());
    Ok(last.context("no interfaces in the result")?.to_owned())
}

/// What tc tells of a link's disciplines, one a line.
fn disciplines(node: &Node, link: &str) -> Result<String> {
    node.run(&format!("tc -d qdisc show dev {link}"))
}

/// As the tool shows it, and what is not asked for is not there.
fn asked(node: &Node) -> Result<()> {
    let add = |limits: Value| Attached::new(node, "one", limited("10.1.0.1/24", limits));
    node.as_before(|| {
        let pod = add(both())?;
        let (port, ifb) = (pod.port()?, ifb(&pod)?);
        ensure!(ifb.starts_with("bi"), "{ifb}");
        assert_eq!(node.link(&ifb)?["ifalias"], "berth1 net one eth0");
        // 20 000 bytes of burst and 25 ms of the rate.
        for link in [&port, &ifb] {
            let shown = disciplines(node, link)?;
            for part in ["tbf 1: root", "rate 2Mbit burst 20000b", "lat 25ms"] {
                ensure!(shown.contains(part), "{part:?} is not in {shown}");
            }
        }
        ensure!(
            disciplines(node, &port)?.contains("ingress ffff:"),
            "{port}"
        );
        pod.del()?;
        pod.del()?;
        ensure!(!node.has_link(&ifb)?, "{ifb} is left");
        drop(pod);
        // More than 32 bits of bytes, and a bucket that takes minutes to fill.
        for limits in [
            json!({"egressRate": 100_000_000_000_u64, "egressBurst": 8_000_000_000_u64}),
            json!({"egressRate": 8000, "egressBurst": u32::MAX}),
        ] {
            let pod = add(limits)?;
            ensure!(
                !disciplines(node, &port)?.contains("tbf"),
                "limited inwards"
            );
            pod.must_hold()?;
            pod.del()?;
        }
        Ok(())
    })?;
    // By the key, for every container; a runtime's wish is stronger.
    for (runtime, limits) in [
        (Value::Null, true),
        (json!({"ingressRate": 0, "ingressBurst": 0}), false),
    ] {
        let conf = with(
            limited("10.1.0.1/24", runtime),
            json!({"bandwidth": both()}),
        );
        node.as_before(|| {
            let pod = Attached::new(node, "one", conf)?;
            let shown = disciplines(node, &pod.port()?)?;
            ensure!(shown.contains("rate 2Mbit") == limits, "{shown}");
            pod.must_hold()?;
            pod.del()
        })?;
    }
    Ok(())
}

/// What is done from outside, what takes it back, and what CHECK must say; PORT and IFB
/// stand for the names.
type Mutation = (Vec<String>, Vec<String>, &'static str);

fn mutations() -> [Mutation; 7] {
    let one = |line: &str| vec![line.to_owned()];
    let tbf = |verb: &str, link: &str, rate: &str| {
        one(&format!(
            "tc qdisc {verb} dev {link} root handle 1: tbf burst 20000 limit 26250 rate {rate}"
        ))
    };
    let redirect = "tc filter add dev PORT parent ffff: prio 1 protocol all u32 match u32 0 0 \
                    action mirred egress redirect dev IFB";
    let again = ["tc qdisc add dev PORT handle ffff: ingress", redirect].map(str::to_owned);
    let unlimited = "PORT does not redirect to ifb IFB";
    [
        (
            tbf("change", "PORT", "3mbit"),
            tbf("change", "PORT", "2mbit"),
            "PORT sends to the container is 3000000 bit/s",
        ),
        (
            tbf("change", "IFB", "1mbit"),
            tbf("change", "IFB", "2mbit"),
            "IFB is 1000000 bit/s",
        ),
        (
            one("tc qdisc del dev PORT root"),
            tbf("add", "PORT", "2mbit"),
            "limit of what port PORT sends to the container is gone",
        ),
        (
            one("tc qdisc del dev IFB root"),
            tbf("add", "IFB", "2mbit"),
            "through ifb IFB is gone",
        ),
        (
            one("tc qdisc del dev PORT ingress"),
            again.to_vec(),
            unlimited,
        ),
        (
            one("tc filter del dev PORT parent ffff:"),
            one(redirect),
            unlimited,
        ),
        (
            one("ip link set IFB down"),
            one("ip link set IFB up"),
            "ifb IFB is down",
        ),
    ]
}

/// Each change from outside is named, and gone again once it is taken back.
fn checked(node: &Node) -> Result<()> {
    node.as_before(|| {
        let pod = Attached::new(node, "one", limited("10.1.0.1/24", both()))?;
        let (port, ifb) = (pod.port()?, ifb(&pod)?);
        let named = |text: &str| text.replace("PORT", &port).replace("IFB", &ifb);
        let run = |lines: &[String]| -> Result<()> {
            for line in lines {
                node.run(&named(line))?;
            }
            Ok(())
        };
        pod.must_hold()?;
        for (change, undo, says) in mutations() {
            run(&change)?;
            let error = refused(&pod.check()?, 105, &[&named(says)])?;
            ensure!(!error.msg.contains("; "), "more than one: {}", error.msg);
            run(&undo)?;
            pod.must_hold()
                .with_context(|| format!("after {change:?}"))?;
        }
        node.ip(&format!("link set {ifb} alias somebody"))?;
        refused(&pod.check()?, 105, &[&named("ifb IFB has lost its alias")])?;
        node.ip(&format!("link del {ifb}"))?;
        refused(&pod.check()?, 105, &[&named("ifb IFB is gone")])?;
        pod.del()
    })
}

/// By DEL, by DEL of a pod that is gone, and by GC where only the ifb is left.
fn swept(node: &Node) -> Result<()> {
    let add = |id: &str| Attached::new(node, id, limited("10.1.0.1/24", both()));
    node.as_before(|| {
        let one = add("one")?;
        fs::remove_file(record_file("net", "one"))?;
        one.del()
    })?;
    node.as_before(|| {
        let one = add("one")?;
        let at = one.at.without_netns();
        one.pod.unbind()?;
        let (plugin, conf) = (plugin()?, one.later());
        drop(one);
        plugin.del(&at, &conf)
    })?;
    node.as_before(|| {
        let one = add("one")?;
        fs::remove_file(record_file("net", "one"))?;
        node.ip(&format!("link del {}", one.port()?))?;
        ensure!(node.has_link(&ifb(&one)?)?, "the ifb went with the port");
        let list = valid("net", "cni.dev/valid-attachments", &[]);
        of_network("GC", &list)?.result().map(drop)
    })?;
    // A device of that name which is not marked as ours is somebody else's.
    node.as_before(|| {
        let one = add("one")?;
        let name = ifb(&one)?;
        one.del()?;
        node.ip(&format!("link add {name} type ifb"))?;
        one.del()?;
        ensure!(node.has_link(&name)?, "it was deleted");
        let reply = plugin()?.call("ADD", &one.at, &one.conf)?;
        refused(&reply, 7, &[&name, "already", "ip link del"])?;
        node.ip(&format!("link del {name}")).map(drop)
    })
}

/// STATUS of a network that can be limited, and wishes that cannot be met.
fn foretold(node: &Node) -> Result<()> {
    let pod = node.pod("one")?;
    let at = Attachment::of(&pod, "one", "eth0");
    for (limits, says) in [
        (
            json!({"ingressRate": 1000}),
            [
                "runtimeConfig.bandwidth.ingressRate = 1000",
                "\"ingressBurst\"",
            ],
        ),
        (
            json!({"egressRate": 1000, "egressBurst": 8000}),
            ["egressBurst = 8000: a frame of MTU 1500", "12112"],
        ),
    ] {
        node.as_before(|| {
            let reply = plugin()?.call("ADD", &at, &limited("10.1.0.1/24", limits))?;
            refused(&reply, 7, &says).map(drop)
        })?;
    }
    let fine = conf(
        "net",
        json!({"bridge": "br0", "capabilities": {"bandwidth": true}}),
    );
    of_network("STATUS", &fine)?.result()?;
    let wrong = conf(
        "net",
        json!({"bridge": "br0", "bandwidth": {"egressRate": 1000}}),
    );
    refused(&of_network("STATUS", &wrong)?, 7, &["bandwidth.egressRate"])?;
    Ok(())
}
