//! Network facts, as `ip -j`, `bridge -j` and `nft -j` tell them; what is in nf_tables is
//! asked for by netlink where there is no `nft`.

use std::process::Command;

use anyhow::{Context, Result};
use berth_kernel::Kind;
use berth_kernel::netlink::nft::{Family, Nft, Table};
use serde_json::{Map, Value};

use super::Snapshot;
use crate::command;
use crate::need::Need;

/// What is kept of a link: what a configuration sets, not what the hardware reports.
const LINK_KEYS: [&str; 9] = [
    "mtu",
    "address",
    "master",
    "ifalias",
    "link",
    "promiscuity",
    "allmulti",
    "group",
    "vfinfo_list",
];
const LINK_FLAGS: [&str; 4] = ["UP", "PROMISC", "ALLMULTI", "NOARP"];
const BRIDGE_KEYS: [&str; 7] = [
    "vlan_filtering",
    "vlan_default_pvid",
    "vlan_protocol",
    "stp_state",
    "nf_call_iptables",
    "nf_call_ip6tables",
    "nf_call_arptables",
];
const PORT_KEYS: [&str; 10] = [
    "hairpin",
    "guard",
    "isolated",
    "locked",
    "learning",
    "flood",
    "mcast_flood",
    "bcast_flood",
    "vlan_tunnel",
    "neigh_suppress",
];
const ROUTE_KEYS: [&str; 8] = [
    "type", "dst", "gateway", "dev", "table", "scope", "metric", "prefsrc",
];

pub(super) fn read(into: &mut Snapshot) -> Result<()> {
    for link in json("ip", "-j -d address show")? {
        put_link(into, &link);
    }
    for family in ["-4", "-6"] {
        for route in json("ip", &format!("-j {family} route show table all"))? {
            // The local table mirrors the addresses, IPv6 ones a second late.
            if text(&route, "table") != "local" {
                into.put(format!("route {}", keep(&route, &ROUTE_KEYS)), "");
            }
        }
        for rule in json("ip", &format!("-j {family} rule show"))? {
            into.put(format!("rule {family} {rule}"), "");
        }
    }
    for entry in json("ip", "-j neigh show nud permanent")? {
        into.put(format!("neighbour {entry}"), "");
    }
    for entry in json("bridge", "-j vlan show")? {
        into.put(
            format!("vlans {}", text(&entry, "ifname")),
            entry["vlans"].to_string(),
        );
    }
    for entry in json("bridge", "-j fdb show")? {
        if is_configured_fdb(&entry) {
            into.put(format!("fdb {entry}"), "");
        }
    }
    if Need::Tool("nft").check().is_ok() {
        put_ruleset(
            into,
            &command::run(Command::new("nft").args(["-j", "list", "ruleset"]))?,
        );
    } else {
        put_tables(into)?;
    }
    Ok(())
}

/// Without the tool: each table, and what is in its sets.
fn put_tables(into: &mut Snapshot) -> Result<()> {
    let asked = Nft::open().and_then(|nft| nft.generation().map(|_| nft));
    let nft = match asked {
        Err(error) if error.kind() == Kind::Unsupported => return Ok(()),
        asked => asked?,
    };
    for family in [Family::Inet, Family::Ip, Family::Ip6, Family::Bridge] {
        for name in nft.tables(family)? {
            let table = Table {
                family,
                name: name.parse()?,
            };
            into.put(format!("nft {table}"), "");
            for set in nft.sets(&table)? {
                let name = set.name.parse()?;
                for element in nft.elements((&table, &name))? {
                    let (name, key) = (&set.name, element.key.as_bytes());
                    into.put(format!("nft {table} {name} {key:02x?}"), "");
                }
            }
        }
    }
    Ok(())
}

fn put_link(into: &mut Snapshot, link: &Value) {
    let name = text(link, "ifname");
    if name.is_empty() {
        return;
    }
    let mut kept = keep(link, &LINK_KEYS);
    let flags = link["flags"].as_array().into_iter().flatten();
    let flags: Vec<&str> = flags
        .filter_map(Value::as_str)
        .filter(|flag| LINK_FLAGS.contains(flag))
        .collect();
    kept["flags"] = flags.into();
    let info = &link["linkinfo"];
    kept["kind"] = info["info_kind"].clone();
    kept["bridge"] = keep(&info["info_data"], &BRIDGE_KEYS);
    kept["port"] = keep(&info["info_slave_data"], &PORT_KEYS);
    into.put(format!("link {name}"), kept.to_string());
    for address in link["addr_info"].as_array().into_iter().flatten() {
        let local = text(address, "local");
        into.put(
            format!("address {name} {local}/{}", address["prefixlen"]),
            "",
        );
    }
}

/// Learned entries come and go with traffic, multicast ones with the link's state.
fn is_configured_fdb(entry: &Value) -> bool {
    let mac = text(entry, "mac");
    let octet = mac.get(0..2).and_then(|o| u8::from_str_radix(o, 16).ok());
    let multicast = octet.is_some_and(|octet| octet & 1 == 1);
    let state = text(entry, "state");
    !multicast && (state == "permanent" || state == "static")
}

/// One fact per object; handles are counters of the kernel's, so they are left out.
fn put_ruleset(into: &mut Snapshot, output: &str) {
    let ruleset: Value = serde_json::from_str(output).unwrap_or_default();
    for object in ruleset["nftables"].as_array().into_iter().flatten() {
        let mut object = object.clone();
        let inner = object.as_object_mut().and_then(|o| o.values_mut().next());
        if let Some(Value::Object(inner)) = inner {
            inner.remove("handle");
        }
        if object.get("metainfo").is_none() {
            into.put(format!("nft {object}"), "");
        }
    }
}

fn keep(object: &Value, keys: &[&str]) -> Value {
    let mut kept = Map::new();
    for key in keys {
        if let Some(value) = object.get(key) {
            kept.insert((*key).to_owned(), value.clone());
        }
    }
    Value::Object(kept)
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

fn json(program: &str, args: &str) -> Result<Vec<Value>> {
    let output = command::run(Command::new(program).args(args.split(' ')))?;
    if output.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&output).with_context(|| format!("`{program} {args}` printed no list"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn carrier_is_no_fact_but_up_is() {
        let link = |flags: &[&str], state: &str| {
            let mut snapshot = Snapshot::default();
            put_link(
                &mut snapshot,
                &json!({"ifname": "a", "mtu": 1500, "operstate": state, "flags": flags}),
            );
            snapshot
        };
        assert_eq!(
            link(&["UP", "LOWER_UP"], "UP"),
            link(&["NO-CARRIER", "UP"], "DOWN")
        );
        assert_ne!(link(&["UP"], "UP"), link(&[], "UP"));
    }

    #[test]
    fn only_configured_unicast_entries_count() {
        let entry = |mac: &str, state: &str| json!({"mac": mac, "state": state});
        assert!(is_configured_fdb(&entry("02:00:00:00:00:01", "static")));
        assert!(is_configured_fdb(&entry("02:00:00:00:00:01", "permanent")));
        assert!(!is_configured_fdb(&entry("02:00:00:00:00:01", "")));
        assert!(!is_configured_fdb(&entry("33:33:00:00:00:01", "permanent")));
    }

    #[test]
    fn rules_differ_by_content_and_not_by_handle() {
        let ruleset = |handle: u32, name: &str| {
            let mut snapshot = Snapshot::default();
            let list = json!({"nftables": [
                {"metainfo": {"version": "1"}},
                {"table": {"family": "bridge", "name": name, "handle": handle}}
            ]});
            put_ruleset(&mut snapshot, &list.to_string());
            snapshot
        };
        assert_eq!(ruleset(1, "t"), ruleset(2, "t"));
        assert_ne!(ruleset(1, "t"), ruleset(1, "u"));
        assert_eq!(ruleset(1, "t").names("nft ").len(), 1);
    }
}
