//! DEL: a sweep. Every step is tried, absence is success, and it can be repeated
//! any number of times; the record goes last.

use std::thread::sleep;
use std::time::{Duration, Instant};

use berth_cni::error::{CniError, code};
use berth_cni::fields::Fields;
use berth_cni::ipam::Ipam;
use berth_cni::request::Request;
use berth_kernel::{IfName, Root, VlanId};
use berth_state::record::{Host, Phase, Record};
use berth_state::{Key, Kind};

use crate::node::Node;
use crate::{bridge, conf, port};

/// How long to wait for the ADD of this attachment to end.
const WRITER_WAIT: Duration = Duration::from_secs(30);
/// How often to look meanwhile.
const WRITER_POLL: Duration = Duration::from_millis(20);

/// Removes the attachment, whatever is left of it.
pub fn del(root: &Root, request: &Request) -> Result<(), CniError> {
    let node = Node::open(root, request.key())?;
    let record = settled_record(&node)?;
    sweep(&node, request, record)
}

/// The record, once no ADD is writing it any more.
fn settled_record(node: &Node) -> Result<Option<Record>, CniError> {
    let start = Instant::now();
    loop {
        let record = match node.records.load(node.key()) {
            // Everything else is still released; the file itself stays and is named.
            Err(error) if error.kind() == Kind::Malformed => return Ok(None),
            other => other?,
        };
        let busy = match &record {
            Some(prepared) if prepared.is_being_added(&node.root)? => prepared,
            _ => return Ok(record),
        };
        if start.elapsed() > WRITER_WAIT {
            let msg = format!(
                "attachment {} is still being added by process {}",
                node.key(),
                busy.writer.pid
            );
            return Err(
                CniError::new(code::TRY_AGAIN, msg).details("wait for it to end, then try again")
            );
        }
        sleep(WRITER_POLL);
    }
}

/// Undoes everything the attachment may have on the node. What fails is listed, the
/// rest is done all the same, and the record stays for the next try. With a record,
/// the DEL of its own ADD is run; `request` serves where there is none.
pub fn sweep(node: &Node, request: &Request, record: Option<Record>) -> Result<(), CniError> {
    let saved = match &record {
        Some(record) => saved_request(request, node.key(), record),
        None => request.clone(),
    };
    let (bridge, vlan) = host_side(node, &saved, record.as_ref());
    let ipam = match Ipam::of(&saved) {
        Ok(ipam) if record.as_ref().is_some_and(is_committed) => ipam.del(&saved),
        Ok(ipam) => ipam.del_unserved(&saved),
        // No ADD can have had an address by it: refusing would only keep the container.
        Err(error) if record.is_none() => {
            log::warn!("no address to release: {error}");
            Ok(())
        }
        Err(error) => Err(error),
    };
    let steps = [
        ("port", port::remove(node, record.is_some())),
        (
            "bridge",
            bridge.map_or(Ok(()), |bridge| bridge::release(node, &bridge, vlan)),
        ),
        ("addresses", ipam),
    ];
    let mut failed: Vec<String> = steps
        .into_iter()
        .filter_map(|(what, done)| done.err().map(|error| format!("{what}: {error}")))
        .collect();
    if failed.is_empty() {
        let removed = node.records.remove(node.key());
        failed.extend(removed.err().map(|error| format!("record: {error}")));
    }
    if failed.is_empty() {
        return Ok(());
    }
    let msg = format!(
        "attachment {} is not wholly released: {}",
        node.key(),
        failed.join("; ")
    );
    Err(CniError::new(code::INCOMPLETE, msg)
        .details("remedy the reasons named, then send DEL again; it goes on where it stopped"))
}

fn is_committed(record: &Record) -> bool {
    record.phase == Phase::Committed
}

/// The request of the record, or, where that cannot be read, the one at hand.
fn saved_request(request: &Request, key: &Key, record: &Record) -> Request {
    request
        .del_of(key, &record.request, request.netns.as_deref())
        .unwrap_or_else(|error| {
            log::warn!("{error}; using the configuration at hand");
            request.clone()
        })
}

/// Where the attachment is on the host: by its record, else by its port, else by the
/// configuration as far as it can be read.
fn host_side(
    node: &Node,
    request: &Request,
    record: Option<&Record>,
) -> (Option<IfName>, Option<VlanId>) {
    if let Some(Host::Bridge(host)) = record.map(|record| &record.host) {
        return (Some(host.bridge.clone()), host.vlan);
    }
    match port::place(node) {
        Ok(Some((bridge, vlan))) => return (Some(bridge), vlan),
        Ok(None) => {}
        Err(error) => log::warn!("{error}; going by the configuration"),
    }
    let fields = Fields::of(&request.config.raw);
    let vlan = fields.whole("vlan").ok().flatten();
    let vlan = vlan.and_then(|id| VlanId::try_from(u16::try_from(id).ok()?).ok());
    (conf::bridge_name(&fields).ok(), vlan)
}
