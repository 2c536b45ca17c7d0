//! The attachment record as this plugin fills it.

use berth_cni::error::CniError;
use berth_cni::request::Request;
use berth_kernel::NetNs;
use berth_state::boot::{self, Writer};
use berth_state::record::{BridgeHost, ContainerSide, Host, NetnsRef, Phase, Record, Rps};

use crate::add::cgroup_path;
use crate::conf::{Conf, RpsCpus};
use crate::node::Node;

/// The record of an ADD that has not changed anything yet.
pub fn fresh(
    node: &Node,
    conf: &Conf,
    request: &Request,
    netns: &NetNs,
) -> Result<Record, CniError> {
    let wished = match &conf.rps.cpus {
        RpsCpus::Auto => "auto".to_owned(),
        RpsCpus::Off => "off".to_owned(),
        RpsCpus::List(cpus) => cpus.to_string(),
    };
    Ok(Record {
        key: node.key().clone(),
        phase: Phase::Prepared,
        boot_id: boot::boot_id(&node.root)?,
        writer: Writer::current(&node.root)?,
        netns: NetnsRef::of(netns)?,
        host: Host::Bridge(BridgeHost {
            bridge: conf.bridge.clone(),
            port: node.key().port_name(),
            vlan: conf.vlan,
            uplink: conf.uplink.as_ref().map(|uplink| uplink.name.clone()),
        }),
        container: ContainerSide::default(),
        rps: Some(Rps {
            wished,
            set_host: None,
            set_container: None,
        }),
        cgroup_path: cgroup_path(request),
        request: request.saved(),
    })
}
