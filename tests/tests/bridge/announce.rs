//! Neighbours are told where an address is now, and only if that is wished.

use std::net::Ipv6Addr;
use std::time::Duration;

use berth_tests::{Need, Node, Result, Space, Test, ensure, test};
use serde_json::{Value, json};

use crate::frames::{is_gratuitous_arp, is_unsolicited_na};
use crate::kit::{Attached, IFNAME, conf, fixed, has_vlans, with};

pub(crate) fn tests() -> Vec<Test> {
    vec![test("neighbours_hear_of_a_new_address", &[Need::Root], announce).varies()]
}

fn wish(addresses: &[&str], announce: bool) -> Value {
    let keys = json!({"bridge": "br0", "announce": announce, "ipam": fixed(addresses)});
    let keys = if has_vlans() {
        with(keys, json!({"vlan": 100}))
    } else {
        keys
    };
    conf("net", keys)
}

fn announce(node: &Node) -> Result<()> {
    let six: Ipv6Addr = "fd00:1::2".parse()?;
    let both = ["10.1.0.2/24", "fd00:1::2/64"];
    node.as_before(|| {
        let listener = Attached::new(node, "listener", wish(&["10.1.0.1/24"], true))?;
        for (announce, limit) in [(true, 3000), (false, 1000)] {
            let heard = listener.pod.capture(IFNAME)?;
            let pod = Attached::new(node, "new", wish(&both, announce))?;
            let source = pod.mac()?;
            let (mut arp, mut na) = (false, false);
            heard.until(Duration::from_millis(limit), |frame| {
                let own = frame.source == source;
                arp |= own && is_gratuitous_arp(frame, [10, 1, 0, 2]);
                na |= own && is_unsolicited_na(frame, six.octets());
                arp && na
            })?;
            ensure!(
                (arp, na) == (announce, announce),
                "ARP {arp}, NA {na}, wish {announce}"
            );
            pod.del()?;
        }
        listener.del()
    })
}
