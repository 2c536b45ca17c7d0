//! What Berth did to a bridge and its uplink: the facts that outlive any one
//! attachment and that the last of them must undo.

use std::path::{Path, PathBuf};

use berth_kernel::{IfName, MacAddr, Root, VlanId};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::atomic::{self, Durability};
use crate::dirs;
use crate::error::Result;
use crate::format;

/// The format of bridge records this version writes: it rises with every field that a
/// release must know of, and its predecessors are read too.
const FORMAT: u64 = 2;
/// Their directory below `run/berth`.
const DIR: &str = "bridges";

/// One bridge's record, `run/berth/bridges/<bridge>.json`. Written before each
/// change it speaks of and read and written only under the bridge's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeRecord {
    /// The bridge.
    pub bridge: IfName,
    /// The MAC address the bridge gets when we create it. With it a bridge of ours
    /// is known before its alias is set. None: the bridge is somebody else's.
    pub created_with: Option<MacAddr>,
    /// Its uplink, if we changed anything there.
    pub uplink: Option<UplinkRecord>,
    /// We made it promiscuous.
    #[serde(default)]
    pub promisc: bool,
    /// The gateway addresses we put on it, or on devices on top of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<GatewayRecord>,
}

/// What we did to the device that holds the gateways of one VLAN, or of none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayRecord {
    /// The bridge itself, or an 802.1Q device on it.
    pub device: IfName,
    /// The VLAN of such a device.
    pub vlan: Option<VlanId>,
    /// We made the device.
    pub created: bool,
    /// We put the bridge itself into the VLAN.
    pub joined: bool,
    /// The addresses we put on it.
    pub addresses: Vec<GatewayAddress>,
}

/// An address we put on a gateway's device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayAddress {
    /// The address.
    pub net: IpNetwork,
    /// Addresses it took the place of, to come back after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<IpNetwork>,
}

/// What we did to an uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkRecord {
    /// The uplink.
    pub name: IfName,
    /// We made it a port of the bridge.
    pub enslaved: bool,
    /// It was down and we set it up.
    pub raised: bool,
    /// The VLANs we let through it; a VLAN that was there before is not among them.
    pub vlans: Vec<VlanId>,
    /// We made it, an 802.1Q device, of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<UplinkDevice>,
}

/// What an uplink that we made takes its frames from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkDevice {
    /// The link below.
    pub lower: IfName,
    /// The VLAN.
    pub vlan: VlanId,
}

impl BridgeRecord {
    /// A record of a bridge to which nothing has been done.
    pub fn untouched(bridge: &IfName) -> Self {
        Self {
            bridge: bridge.clone(),
            created_with: None,
            uplink: None,
            promisc: false,
            gateways: vec![],
        }
    }

    /// Whether there is nothing to undo.
    pub fn is_untouched(&self) -> bool {
        let idle =
            |u: &UplinkRecord| !u.enslaved && !u.raised && u.vlans.is_empty() && u.device.is_none();
        self.created_with.is_none()
            && !self.promisc
            && self.gateways.is_empty()
            && self.uplink.as_ref().is_none_or(idle)
    }

    /// The part of a gateway's device, made when it is not there yet.
    pub fn gateway_mut(&mut self, device: &IfName, vlan: Option<VlanId>) -> &mut GatewayRecord {
        let known = self.gateways.iter().position(|g| g.device == *device);
        let at = known.unwrap_or_else(|| {
            self.gateways.push(GatewayRecord {
                device: device.clone(),
                vlan,
                created: false,
                joined: false,
                addresses: vec![],
            });
            self.gateways.len() - 1
        });
        &mut self.gateways[at]
    }

    /// The uplink's part, made when it is not there yet. That of another link, which
    /// must not be the bridge's any more, is forgotten.
    pub fn uplink_mut(&mut self, name: &IfName) -> &mut UplinkRecord {
        let fresh = || UplinkRecord {
            name: name.clone(),
            enslaved: false,
            raised: false,
            vlans: vec![],
            device: None,
        };
        let kept = self.uplink.take().filter(|uplink| uplink.name == *name);
        self.uplink.insert(kept.unwrap_or_else(fresh))
    }
}

/// The bridge records of the node.
#[derive(Debug, Clone)]
pub struct BridgeRecords {
    root: Root,
}

impl BridgeRecords {
    /// The records below `root.run`.
    pub fn new(root: &Root) -> Self {
        Self { root: root.clone() }
    }

    fn path(&self, bridge: &IfName) -> PathBuf {
        dirs::berth(&self.root)
            .join(DIR)
            .join(format!("{bridge}.json"))
    }

    /// The bridge's record; an untouched one when there is none.
    ///
    /// # Errors
    /// The file cannot be read, is malformed or of a newer format.
    pub fn load(&self, bridge: &IfName) -> Result<BridgeRecord> {
        let record = format::read(&self.path(bridge), FORMAT)?;
        Ok(record.unwrap_or_else(|| BridgeRecord::untouched(bridge)))
    }

    /// Stores `record`; one with nothing to undo is removed instead.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn store(&self, record: &BridgeRecord) -> Result<()> {
        let path = self.path(&record.bridge);
        if record.is_untouched() {
            return atomic::remove(&path);
        }
        dirs::ensure(&self.root, Path::new(DIR))?;
        let bytes = format::write(&path, FORMAT, record)?;
        atomic::replace(&path, &bytes, dirs::PRIVATE_FILE, Durability::Volatile)
    }

    /// Removes the temporaries of writers that were killed in [`BridgeRecords::store`],
    /// for whichever bridge, and names them.
    ///
    /// # Errors
    /// As [`atomic::sweep`].
    pub fn sweep(&self) -> Result<Vec<PathBuf>> {
        atomic::sweep(&dirs::berth(&self.root).join(DIR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> IfName {
        text.parse().unwrap()
    }

    #[test]
    fn a_record_reads_back_and_goes_when_nothing_is_left_to_undo() {
        let dir = tempfile::tempdir().unwrap();
        let records = BridgeRecords::new(&Root::under(dir.path()));
        let bridge = name("br0");
        assert_eq!(
            records.load(&bridge).unwrap(),
            BridgeRecord::untouched(&bridge)
        );
        let mut record = BridgeRecord::untouched(&bridge);
        record.uplink_mut(&name("eth1")).vlans.push(VlanId::DEFAULT);
        records.store(&record).unwrap();
        assert_eq!(records.load(&bridge).unwrap(), record);
        record.uplink_mut(&name("eth1")).vlans.clear();
        records.store(&record).unwrap();
        assert!(!records.path(&bridge).exists());
    }

    #[test]
    fn what_was_done_to_one_uplink_is_not_taken_for_the_next_ones() {
        let mut record = BridgeRecord::untouched(&name("br0"));
        record.uplink_mut(&name("eth1")).raised = true;
        assert!(record.uplink_mut(&name("eth1")).raised);
        let next = record.uplink_mut(&name("eth2"));
        assert!(!next.raised && next.name == name("eth2"));
    }

    #[test]
    fn what_a_killed_writer_left_is_swept_and_records_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let records = BridgeRecords::new(&Root::under(dir.path()));
        assert_eq!(records.sweep().unwrap(), Vec::<PathBuf>::new());
        let mut record = BridgeRecord::untouched(&name("br0"));
        record.created_with = Some(MacAddr([2, 0, 0, 0, 0, 1]));
        records.store(&record).unwrap();
        let left = records.path(&name("br0")).with_file_name(".tmp-1-00");
        std::fs::write(&left, "half").unwrap();
        assert_eq!(records.sweep().unwrap(), [left]);
        assert_eq!(records.load(&name("br0")).unwrap(), record);
    }

    #[test]
    fn a_gateways_device_has_one_part_of_the_record() {
        let mut record = BridgeRecord::untouched(&name("br0"));
        record.gateway_mut(&name("br0.7"), None).created = true;
        assert!(record.gateway_mut(&name("br0.7"), None).created);
        assert!(!record.gateway_mut(&name("br0"), None).created);
        assert_eq!(record.gateways.len(), 2);
    }

    #[test]
    fn every_change_counts_as_something_to_undo() {
        let untouched = BridgeRecord::untouched(&name("br0"));
        let changes: [fn(&mut BridgeRecord); 7] = [
            |r| {
                r.uplink_mut(&"eth1.7".parse().unwrap()).device = Some(UplinkDevice {
                    lower: "eth1".parse().unwrap(),
                    vlan: VlanId::DEFAULT,
                });
            },
            |r| {
                r.gateway_mut(&"br0".parse().unwrap(), None);
            },
            |r| r.created_with = Some(MacAddr([2, 0, 0, 0, 0, 1])),
            |r| r.promisc = true,
            |r| r.uplink_mut(&"eth1".parse().unwrap()).enslaved = true,
            |r| r.uplink_mut(&"eth1".parse().unwrap()).raised = true,
            |r| {
                r.uplink_mut(&"eth1".parse().unwrap())
                    .vlans
                    .push(VlanId::DEFAULT)
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut record = untouched.clone();
            change(&mut record);
            assert!(!record.is_untouched(), "change {number}");
        }
    }
}
