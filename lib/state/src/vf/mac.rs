//! A VF interface's MAC address. Some drivers set it late, some not at all before they
//! are bound anew; neither is told by the answer to the request.

use std::thread;
use std::time::{Duration, Instant};

use berth_kernel::netlink::{Link, Net};
use berth_kernel::{Error, IfName, MacAddr, PciAddr, Result, Root};
use nix::errno::Errno;

use super::driver;
use super::locate::at_home;

/// How long a driver may take to set an address.
const SETTLE: Duration = Duration::from_secs(1);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Gives the interface of `vf`, which is at home, the address `mac`, and returns the
/// interface as it is then. If the driver does not take the address within a second it
/// is bound anew, which makes another interface of the same name and loses everything
/// else that was set on it. Nothing happens when it has the address already. The
/// interface may be down afterwards.
///
/// # Errors
/// When there is no such interface, the kernel refuses, or the address is another one
/// after all that.
pub fn settle_mac(root: &Root, net: &Net, vf: PciAddr, mac: MacAddr) -> Result<Link> {
    let link = present(root, net, vf)?;
    let refused = match set(net, &link, mac) {
        Ok(Some(link)) => return Ok(link),
        Ok(None) => None,
        Err(error) => Some(error),
    };
    log::info!(
        "{} of VF {vf} does not take MAC {mac} as it is{}: binding its driver anew",
        link.name,
        refused.map_or(String::new(), |error| format!(" ({error})"))
    );
    driver::rebind(root, vf)?;
    let link = named(net, present(root, net, vf)?, &link.name);
    set(net, &link, mac)?.ok_or_else(|| {
        let op = format!("set MAC {mac} of");
        let reason = format!(
            "the driver took it and kept another, also after it was bound anew: \
             set a MAC at the PF, or examine VF {vf}"
        );
        Error::malformed(op, &link.name, reason)
    })
}

/// `None`: nobody refused, and it has another address.
fn set(net: &Net, link: &Link, mac: MacAddr) -> Result<Option<Link>> {
    if link.mac == Some(mac) {
        return Ok(Some(link.clone()));
    }
    if link.up {
        net.set_down(link.index)?;
    }
    net.set_mac(link.index, mac)?;
    let end = Instant::now() + SETTLE;
    loop {
        let now = net.link_at(link.index)?;
        if now.mac == Some(mac) {
            return Ok(Some(now));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

/// The new interface under its old name. Another that took the name meanwhile keeps it:
/// whoever needs the name will see.
fn named(net: &Net, link: Link, name: &IfName) -> Link {
    if link.name == *name {
        return link;
    }
    let renamed = net.rename(link.index, name);
    match renamed.and_then(|()| net.link_at(link.index)) {
        Ok(link) => link,
        Err(error) => {
            log::warn!("{error}; it is {} for now", link.name);
            link
        }
    }
}

/// The interface of `vf` in the namespace of `net`; a driver bound anew may have given
/// it another name and index.
///
/// # Errors
/// ENODEV when it is not there; what the kernel refused.
pub fn present(root: &Root, net: &Net, vf: PciAddr) -> Result<Link> {
    at_home(root, net, vf)?.ok_or_else(|| {
        let reason = "it is not in the host's namespace".to_owned();
        Error::errno("find the interface of VF", vf, Errno::ENODEV).because(Some(reason))
    })
}
