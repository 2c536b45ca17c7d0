//! Addresses of a network that are still free, as far as its `ipam` configuration tells
//! the range (the keys of the reference's `host-local`). Pure but for the plugin's store.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use berth_kernel::Root;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Numbers above this are not exact in JSON readers that count in doubles.
const EXACT: u128 = 1 << 53;

/// The addresses of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    /// How many can be given out.
    pub(crate) total: u64,
    /// How many are given out.
    pub(crate) used: u64,
    /// How many are left.
    pub(crate) free: u64,
}

/// A range addresses are given from, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u128,
    last: u128,
    v4: bool,
    /// An address inside that is never given out.
    gateway: Option<u128>,
}

impl Range {
    /// A range as configured; `None` if it is not understood.
    fn of(range: &Value) -> Option<Self> {
        let text = |key: &str| range.get(key).and_then(Value::as_str);
        let subnet: IpNetwork = text("subnet")?.parse().ok()?;
        let address = |key: &str| text(key).and_then(|text| text.parse::<IpAddr>().ok());
        let (network, last, v4) = match subnet {
            IpNetwork::V4(net) => (
                u128::from(u32::from(net.network())),
                u128::from(u32::from(net.broadcast())).checked_sub(1)?,
                true,
            ),
            // No broadcast there: host-local gives out the last address, too.
            IpNetwork::V6(net) => (
                u128::from(net.network()),
                u128::from(net.broadcast()),
                false,
            ),
        };
        let first = network.checked_add(1)?;
        let gateway = address("gateway").map_or(first, number);
        let range = Self {
            first: address("rangeStart").map_or(first, number),
            last: address("rangeEnd").map_or(last, number),
            v4,
            gateway: Some(gateway),
        };
        (range.first <= range.last).then_some(range)
    }

    fn has(&self, address: IpAddr) -> bool {
        let inside = (self.first..=self.last).contains(&number(address));
        inside && self.v4 == address.is_ipv4() && self.gateway != Some(number(address))
    }

    fn len(&self) -> u128 {
        let gateway = self
            .gateway
            .is_some_and(|gateway| (self.first..=self.last).contains(&gateway));
        (self.last - self.first)
            .saturating_add(1)
            .saturating_sub(u128::from(gateway))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The addresses of a network with this configuration; `known` are those its attachments
/// have. `None` if the configuration names no range, or one too large to count.
pub(super) fn of(root: &Root, config: &Value, known: &BTreeSet<IpAddr>) -> Option<Addresses> {
    let ipam = config.get("ipam")?;
    let ranges = ranges(ipam);
    let total = ranges
        .iter()
        .fold(0, |all: u128, r| all.saturating_add(r.len()));
    if ranges.is_empty() || total > EXACT {
        return None;
    }
    let mut given = known.clone();
    given.extend(store(root, config));
    let inside = |address: &&IpAddr| ranges.iter().any(|range| range.has(**address));
    let used = u64::try_from(given.iter().filter(inside).count()).ok()?;
    let total = u64::try_from(total).ok()?;
    Some(Addresses {
        total,
        used,
        free: total.saturating_sub(used),
    })
}

/// `ranges`, a list of sets of ranges, and the older single range at the top level.
fn ranges(ipam: &Value) -> Vec<Range> {
    let sets = ipam.get("ranges").and_then(Value::as_array);
    let listed = sets.into_iter().flatten().filter_map(Value::as_array);
    let single = ipam.get("subnet").map(|_| ipam);
    let all = listed.flatten().chain(single);
    all.filter_map(Range::of).collect()
}

/// The addresses `host-local` has given out on this node: a file each, by whoever asked.
fn store(root: &Root, config: &Value) -> Vec<IpAddr> {
    let Some(name) = config.get("name").and_then(Value::as_str) else {
        return Vec::new();
    };
    let own = config.pointer("/ipam/dataDir").and_then(Value::as_str);
    let dir = own.map_or_else(|| root.var.join("lib/cni/networks"), PathBuf::from);
    let entries = fs::read_dir(dir.join(name)).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn count(config: &Value, known: &[&str], stored: &[&str]) -> Option<(u64, u64, u64)> {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let store = root.var.join("lib/cni/networks/blue");
        fs::create_dir_all(&store).unwrap();
        for name in stored {
            fs::write(store.join(name), "").unwrap();
        }
        let known = known.iter().map(|text| text.parse().unwrap()).collect();
        of(&root, config, &known).map(|a| (a.total, a.used, a.free))
    }

    #[test]
    fn a_subnet_lacks_its_ends_and_its_gateway() {
        let config = json!({"name": "blue", "ipam": {"subnet": "10.1.0.0/24"}});
        assert_eq!(count(&config, &[], &[]), Some((253, 0, 253)));
        let known = ["10.1.0.7", "10.2.0.7"];
        let stored = ["10.1.0.7", "10.1.0.8", "lock", "last_reserved_ip.0"];
        assert_eq!(count(&config, &known, &stored), Some((253, 2, 251)));
    }

    #[test]
    fn ranges_are_summed_and_bounded() {
        let config = json!({"name": "blue", "ipam": {"ranges": [
            [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.19"}],
            [{"subnet": "fd00::/120", "gateway": "fd00::9"}],
        ]}});
        assert_eq!(
            count(&config, &["fd00::9", "fd00::8"], &[]),
            Some((264, 1, 263))
        );
    }

    #[test]
    fn without_a_range_that_can_be_counted_nothing_is_said() {
        for ipam in [
            json!({"type": "dhcp"}),
            json!({"subnet": "nonsense"}),
            json!({"subnet": "fd00::/64"}),
        ] {
            let config = json!({"name": "blue", "ipam": ipam});
            assert_eq!(count(&config, &[], &[]), None, "{config}");
        }
        assert_eq!(count(&json!({}), &[], &[]), None);
    }
}
