//! A VF's interface, brought home from a container: one message that moves and
//! renames, which may be done by half.

use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::{Link, Net};
use berth_kernel::{IfName, NetNs, PciAddr, Result, Root};
use nix::errno::Errno;

use super::baseline::Netdev;
use super::difference::{Difference, Field};
use super::driver;
use super::locate::{Place, at_home, locate_patiently};
use crate::lock::Guard;
use crate::record::NetnsRef;

/// How often it may slip away while it is being moved.
const TRIES: usize = 3;

/// Brings the interface of a VF into the namespace of `net`, under its name of before
/// if that is free, else under one that is. `lock` takes the lock for moves. One that
/// is in no namespace that can be reached comes home by binding its driver anew.
pub(super) fn bring(
    root: &Root,
    net: &Net,
    (vf, wish): (PciAddr, &Netdev),
    netns: Option<&NetnsRef>,
    lock: impl Fn() -> crate::Result<Guard>,
) -> std::result::Result<(), String> {
    let mut refused = String::new();
    for _try in 0..TRIES {
        match locate_patiently(root, net, vf, netns).map_err(|e| e.to_string())? {
            Place::Home(_) => return Ok(()),
            Place::Inside(ns, link) => {
                let _lock = lock().map_err(|e| e.to_string())?;
                let find = |inside: &Net| Ok(inside.links_of_pci(vf)?.into_iter().next());
                if let Err(error) = fetch(&ns, &link, wish, &spare_name(vf), find) {
                    refused = error.to_string();
                }
            }
            Place::Nowhere => {
                log::warn!("no namespace has the interface of VF {vf}: binding its driver anew");
                driver::rebind(root, vf).map_err(|e| e.to_string())?;
            }
        }
    }
    match at_home(root, net, vf) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(format!("VF {vf} does not come home: {refused}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Moves `link` out of `ns`, under the name `spare` if its own is taken. Whether it came,
/// the next look tells; `find` tells whether it is still inside.
fn fetch(
    ns: &NetNs,
    link: &Link,
    wish: &Netdev,
    spare: &IfName,
    find: impl Fn(&Net) -> Result<Option<Link>>,
) -> Result<()> {
    let inside = Net::open_in(ns)?;
    inside.set_down(link.index)?;
    // One that somebody has at home would keep it from moving.
    for name in &link.altnames {
        if !wish.altnames.contains(name) {
            inside.del_altname(link.index, name).absent_is_fine()?;
        }
    }
    let home = NetNs::current()?;
    match inside.move_to(link.index, &home, Some(&wish.name)) {
        Err(error) if error.errno == Some(Errno::EEXIST) => {}
        other => return other,
    }
    // Gone all the same if only the new name was taken.
    let Some(left) = find(&inside)? else {
        return Ok(());
    };
    for name in &left.altnames {
        inside.del_altname(left.index, name).absent_is_fine()?;
    }
    inside.move_to(left.index, &home, Some(spare))
}

/// A name nobody else gives: the VF's address.
fn spare_name(vf: PciAddr) -> IfName {
    let digits: String = vf
        .to_string()
        .chars()
        .filter(char::is_ascii_hexdigit)
        .collect();
    #[allow(
        clippy::expect_used,
        reason = "2 letters and 9 to 13 hexadecimal digits are an interface name"
    )]
    format!("vf{digits}").parse().expect("name of a VF")
}

/// Who has the name that `difference` could not put back.
pub(super) fn holder(net: &Net, difference: &Difference) -> String {
    let name = match &difference.field {
        Field::AltName(name) => name.to_string(),
        _ => difference.was.clone(),
    };
    let link = name.parse().ok().and_then(|name| net.find_link(&name).ok());
    match link.flatten() {
        Some(link) => format!(
            "{name} is now a name of link {}, index {}: rename that one, then berth vf release",
            link.name, link.index
        ),
        None => format!("{name} is taken"),
    }
}

#[cfg(test)]
mod tests;
