//! Where a VF's interface is: at home, in a container, or nowhere. It is known by the
//! PCI function behind it; its name and index are the container's to change.

use std::thread;
use std::time::{Duration, Instant};

use berth_kernel::netlink::{Link, Net};
use berth_kernel::pci::Device;
use berth_kernel::{NetNs, PciAddr, Result, Root};

use crate::record::NetnsRef;

/// How long an interface may be on its way: the kernel brings it home some time after
/// its namespace ended.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
/// Pause between two looks for it.
const LOOK: Duration = Duration::from_millis(20);

/// Where a VF's interface is.
#[derive(Debug)]
pub enum Place {
    /// In the host's namespace.
    Home(Box<Link>),
    /// In another namespace.
    Inside(NetNs, Box<Link>),
    /// In no namespace that can be reached: it has none, its namespace is just
    /// ending, or only an open file keeps that.
    Nowhere,
}

/// Finds the interface of `vf`: in the namespace of `net`, which is the host's; in
/// `last`; in every other namespace.
///
/// # Errors
/// When the host's namespace, or the list of namespaces, cannot be read.
pub fn locate(root: &Root, net: &Net, vf: PciAddr, last: Option<&NetnsRef>) -> Result<Place> {
    if let Some(link) = at_home(root, net, vf)? {
        return Ok(Place::Home(Box::new(link)));
    }
    let last = last.and_then(|last| remembered(root, last));
    for ns in last.into_iter().chain(NetNs::all(root)?) {
        match Net::open_in(&ns).and_then(|inside| inside.links_of_pci(vf)) {
            Ok(links) => {
                if let Some(link) = links.into_iter().next() {
                    return Ok(Place::Inside(ns, Box::new(link)));
                }
            }
            // A namespace may end while we look.
            Err(error) => log::debug!("passing over a namespace: {error}"),
        }
    }
    // It may have come home while we looked elsewhere.
    let home = at_home(root, net, vf)?.map(Box::new);
    Ok(home.map_or(Place::Nowhere, Place::Home))
}

/// The same, with some patience for an interface whose namespace has just ended.
pub(super) fn locate_patiently(
    root: &Root,
    net: &Net,
    vf: PciAddr,
    last: Option<&NetnsRef>,
) -> Result<Place> {
    let end = Instant::now() + ON_ITS_WAY;
    loop {
        let place = locate(root, net, vf, last)?;
        if !matches!(place, Place::Nowhere) || Instant::now() >= end {
            return Ok(place);
        }
        thread::sleep(LOOK);
    }
}

/// The interface of `vf` in the namespace of `net`, by the name sysfs gives it, or by
/// looking at every link if that was just changed.
pub(super) fn at_home(root: &Root, net: &Net, vf: PciAddr) -> Result<Option<Link>> {
    let names = Device::new(root, vf).netdevs()?;
    for name in &names {
        let link = net.find_link(name)?;
        if let Some(link) = link.filter(|link| link.pci() == Some(vf)) {
            return Ok(Some(link));
        }
    }
    Ok(net.links_of_pci(vf)?.into_iter().next())
}

/// The namespace that is remembered, if it still lives.
fn remembered(root: &Root, last: &NetnsRef) -> Option<NetNs> {
    let by_path = last.path.as_ref().and_then(|path| NetNs::open(path).ok());
    let same = by_path.filter(|ns| last.is(ns).unwrap_or(false));
    same.or_else(|| NetNs::find_by_cookie(root, last.cookie).ok().flatten())
}
