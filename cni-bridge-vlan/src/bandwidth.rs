//! How fast the container may receive and send (`bandwidth`), as the reference plugin of
//! that name limits it.
//!
//! What it receives, the port sends: a token bucket there is enough. What it sends, the
//! port receives, and the kernel can queue nothing there; so all of it is redirected
//! through a device of its own, an ifb, and waits there for another bucket before it
//! comes to the bridge. The ifb has the attachment's alias and a name derived from its
//! key, by which it is found without a record. The rest goes with the port.

use berth_cni::check::Drift;
use berth_cni::error::{CniError, code};
use berth_cni::steps::Steps;
use berth_kernel::IfName;
use berth_kernel::netlink::{Link, LiveTbf, Tbf};
use berth_state::record::{Bandwidth, RateLimit};
use berth_state::undo::Undo;

use crate::features::{Feature, Part};
use crate::node::Node;

mod wish;

pub use wish::{is_wished, of};

/// What of a frame the MTU does not count: the Ethernet header, in bytes.
const HEADER: u32 = 14;
/// How long a frame may have to wait for its turn, in milliseconds, as in the reference
/// plugin: what would wait longer is lost.
const PATIENCE_MS: u128 = 25;

/// What limits are made of.
pub const LIMITS: Feature = Feature {
    what: "limit bandwidth",
    parts: &[
        Part::module("sch_tbf", "NET_SCH_TBF"),
        Part::module("sch_ingress", "NET_SCH_INGRESS"),
        Part::module("cls_u32", "NET_CLS_U32"),
        Part::module("act_mirred", "NET_ACT_MIRRED"),
        Part::module("ifb", "IFB"),
    ],
    instead: "take \"bandwidth\" out of the configuration",
};

/// Limits what goes by the port, in both directions as far as it is wished; the ifb, if
/// one was needed. Nothing flows yet. The port's inverse takes back what is on the port.
pub fn limit(
    node: &Node,
    port: &Link,
    wish: Bandwidth,
    undo: &mut Undo,
) -> Result<Option<Link>, CniError> {
    for (limit, key) in [(wish.ingress, "ingressBurst"), (wish.egress, "egressBurst")] {
        limit.map_or(Ok(()), |limit| holds_a_frame(limit, key, port.mtu))?;
    }
    if let Some(limit) = wish.ingress {
        undo.covered("limit of port", || {
            node.net.add_tbf(port.index, &bucket(limit))
        })?;
    }
    wish.egress
        .map(|limit| limit_sender(node, port, limit, undo))
        .transpose()
}

fn limit_sender(
    node: &Node,
    port: &Link,
    limit: RateLimit,
    undo: &mut Undo,
) -> Result<Link, CniError> {
    let name = node.key().ifb_name();
    must_be_free(node, &name)?;
    let inverse = node.clone();
    undo.change(
        format!("ifb {name}"),
        move || remove(&inverse, Some(wished_by(limit))),
        || node.net.create_ifb(&name, port.mtu),
    )?;
    let ifb = node.net.link(&name)?;
    undo.covered("ifb alias", || {
        node.net.set_alias(ifb.index, &node.key().alias())
    })?;
    undo.covered("quiet ifb", || node.net.hush(ifb.index))?;
    undo.covered("limit of ifb", || {
        node.net.add_tbf(ifb.index, &bucket(limit))
    })?;
    undo.covered("ifb up", || node.net.set_up(ifb.index))?;
    undo.covered("ingress of port", || node.net.add_ingress(port.index))?;
    undo.covered("redirect to ifb", || {
        node.net.add_redirect(port.index, ifb.index)
    })?;
    Ok(ifb)
}

/// The inverse of making an ifb cannot tell somebody's bare one from ours.
fn must_be_free(node: &Node, name: &IfName) -> Result<(), CniError> {
    let Some(link) = node.net.find_link(name)? else {
        return Ok(());
    };
    let whose = link.alias.unwrap_or_else(|| "without an alias".to_owned());
    Err(CniError::told(
        code::CONFIG,
        format_args!("attachment {}", node.key()),
        "limit what the container sends",
        format_args!("there is a link {name} already ({whose})"),
        format_args!("send DEL for this attachment, or `ip link del {name}` if it is not in use"),
    ))
}

fn wished_by(limit: RateLimit) -> Bandwidth {
    Bandwidth {
        egress: Some(limit),
        ..Bandwidth::default()
    }
}

/// Deletes the ifb, if there is one by the record; without a record, whatever there may
/// be.
pub fn remove(node: &Node, on_record: Option<Bandwidth>) -> Result<(), CniError> {
    if on_record.is_some_and(|bandwidth| bandwidth.egress.is_none()) {
        return Ok(());
    }
    node.remove_link(&node.key().ifb_name(), "ifb", on_record.is_some())
}

/// What of the limits is not as it was set.
pub fn drift(node: &Node, port: &Link, wish: Bandwidth, drift: &mut Drift) -> Result<(), CniError> {
    if let Some(limit) = wish.ingress {
        let what = format!("limit of what port {} sends to the container", port.name);
        bucket_drift(&what, limit, node.net.find_tbf(port.index)?, drift);
    }
    wish.egress
        .map_or(Ok(()), |limit| sender_drift(node, port, limit, drift))
}

fn sender_drift(
    node: &Node,
    port: &Link,
    limit: RateLimit,
    drift: &mut Drift,
) -> Result<(), CniError> {
    let name = node.key().ifb_name();
    let Some(ifb) = node.net.find_link(&name)? else {
        drift.found(format!(
            "ifb {name} is gone: what the container sends is lost"
        ));
        return Ok(());
    };
    drift.unless(ifb.alias.as_deref() == Some(&node.key().alias()), || {
        format!("ifb {name} has lost its alias")
    });
    drift.unless(ifb.up, || {
        format!("ifb {name} is down: what the container sends is lost")
    });
    let redirected = node.net.redirects(port.index)?;
    drift.unless(redirected.contains(&ifb.index), || {
        format!(
            "port {} does not redirect to ifb {name}: what the container sends is not limited",
            port.name
        )
    });
    let what = format!("limit of what the container sends through ifb {name}");
    bucket_drift(&what, limit, node.net.find_tbf(ifb.index)?, drift);
    Ok(())
}

fn bucket_drift(what: &str, limit: RateLimit, live: Option<LiveTbf>, drift: &mut Drift) {
    let wish = bucket(limit);
    let Some(live) = live else {
        drift.found(format!("{what} is gone: no tbf"));
        return;
    };
    drift.unless(wish.is_met_by(&live), || {
        format!(
            "{what} is {}, was set to {}",
            shown(live.rate, live.burst(), live.limit),
            shown(wish.rate, wish.burst.into(), wish.limit)
        )
    });
}

fn shown(rate: u64, burst: u64, limit: u32) -> String {
    let rate = u128::from(rate) * 8;
    format!("{rate} bit/s with a burst of {burst} and a queue of {limit} bytes")
}

/// The token bucket of a limit, in bytes as the kernel counts: a burst at once, and
/// beside it as much in the queue as goes in the time a frame may wait.
fn bucket(limit: RateLimit) -> Tbf {
    let (rate, burst) = (limit.rate / 8, limit.burst / 8);
    let queue = u128::from(rate) * PATIENCE_MS / 1000 + u128::from(burst);
    Tbf {
        rate,
        burst: u32::try_from(burst).unwrap_or(u32::MAX),
        limit: u32::try_from(queue).unwrap_or(u32::MAX),
    }
}

/// A bucket smaller than a frame never has enough for it.
fn holds_a_frame(limit: RateLimit, key: &str, mtu: u32) -> Result<(), CniError> {
    let least = (u64::from(mtu) + u64::from(HEADER)) * 8;
    if limit.burst >= least {
        return Ok(());
    }
    let msg = format!(
        "invalid configuration: bandwidth.{key} = {}: a frame of MTU {mtu} has {least} bits, so \
         it would never be sent",
        limit.burst
    );
    Err(CniError::new(code::CONFIG, msg)
        .details(format!("give {least} or more, or a smaller \"mtu\"")))
}

#[cfg(test)]
mod tests;
