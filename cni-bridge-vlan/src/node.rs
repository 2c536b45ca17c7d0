//! The node as the plugin sees it: the host's side of everything it works on.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use berth_cni::attachment::Attachment;
use berth_cni::error::CniError;
use berth_kernel::error::AbsentIsFine;
use berth_kernel::netlink::nft::Nft;
use berth_kernel::netlink::{Link, Net};
use berth_kernel::{IfName, Root, sysctl};
use berth_state::Uses;
use berth_state::bridge::BridgeRecords;
use berth_state::key::Key;
use berth_state::lock::{Guard, LockName, Locks};

/// How long to wait for another ADD or DEL that holds the bridge.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Handles on the host's side. Cloning is cheap: undo steps keep a clone.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where sysfs, procfs and our own directories are.
    pub root: Root,
    /// A socket in the host's network namespace.
    pub net: Rc<Net>,
    /// The attachment this is about, and its record.
    pub attachment: Attachment,
    /// Bridge records.
    pub bridges: BridgeRecords,
    nft: Rc<OnceCell<Rc<Nft>>>,
}

impl Node {
    /// Opens the host's side for work on the attachment `key`.
    pub fn open(root: &Root, key: &Key) -> Result<Self, CniError> {
        Ok(Self {
            net: Rc::new(Net::open()?),
            attachment: Attachment::new(root, key),
            bridges: BridgeRecords::new(root),
            nft: Rc::default(),
            root: root.clone(),
        })
    }

    /// A connection to nf_tables in the host's network namespace, opened when it is first
    /// asked for.
    pub fn nft(&self) -> berth_kernel::Result<Rc<Nft>> {
        if let Some(nft) = self.nft.get() {
            return Ok(Rc::clone(nft));
        }
        let opened = Rc::new(Nft::open()?);
        Ok(Rc::clone(self.nft.get_or_init(|| opened)))
    }

    /// The attachment's key.
    pub fn key(&self) -> &Key {
        self.attachment.key()
    }

    /// Who uses what is shared on `bridge`; to be asked under the bridge's lock.
    pub fn uses(&self, bridge: &IfName) -> Uses {
        Uses::of(&self.root, bridge)
    }

    /// Keeps a container from becoming the node's own router by an advertisement on
    /// `link`. A node without IPv6 has no such file.
    pub fn deafen_to_routers(&self, link: &IfName) -> Result<(), CniError> {
        let key = format!("net/ipv6/conf/{link}/accept_ra");
        sysctl::set(&self.root, &key, "0").absent_is_fine()?;
        Ok(())
    }

    /// Deletes the link `name`, if it is this attachment's.
    pub fn remove_link(&self, name: &IfName, kind: &str, on_record: bool) -> Result<(), CniError> {
        if let Some(link) = self.own_link(name, kind, on_record)? {
            self.net.delete_link(link.index).absent_is_fine()?;
        }
        Ok(())
    }

    /// The link `name`, if it is this attachment's: by its alias, or, where a record proves
    /// the intent, by its kind before the alias was set.
    pub fn own_link(
        &self,
        name: &IfName,
        kind: &str,
        on_record: bool,
    ) -> Result<Option<Link>, CniError> {
        let Some(link) = self.net.find_link(name)? else {
            return Ok(None);
        };
        let ours = match link.alias.as_deref() {
            Some(alias) => alias == self.key().alias(),
            None => on_record && link.kind.as_deref() == Some(kind),
        };
        if !ours {
            log::warn!("{name} is not marked as this attachment's {kind}; left alone");
        }
        Ok(Some(link).filter(|_| ours))
    }

    /// Takes the lock of `bridge`, waiting at most 30 s.
    pub fn lock_bridge(&self, bridge: &IfName) -> Result<Guard, CniError> {
        let name = LockName::Bridge(bridge.clone());
        Ok(Locks::new(&self.root).acquire(&name, self.key(), LOCK_WAIT)?)
    }
}
