//! The node as the plugin sees it: the host's side of everything it works on.

use std::rc::Rc;

use berth_cni::attachment::Attachment;
use berth_cni::error::CniError;
use berth_kernel::netlink::Net;
use berth_kernel::{PciAddr, Root};
use berth_state::claim::Claims;
use berth_state::key::Key;
use berth_state::lock::{Guard, LockName, Locks, WAIT};

/// Handles on the host's side. Cloning is cheap: undo steps keep a clone.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where sysfs, procfs and our own directories are.
    pub root: Root,
    /// A socket in the host's network namespace.
    pub net: Rc<Net>,
    /// The attachment and its record.
    pub attachment: Attachment,
    /// VF claims.
    pub claims: Rc<Claims>,
    /// The locks of this operation.
    pub locks: Rc<Locks>,
}

impl Node {
    /// Opens the host's side for work on the attachment `key`.
    pub fn open(root: &Root, key: &Key) -> Result<Self, CniError> {
        Ok(Self {
            net: Rc::new(Net::open()?),
            attachment: Attachment::new(root, key),
            claims: Rc::new(Claims::new(root)),
            locks: Rc::new(Locks::new(root)),
            root: root.clone(),
        })
    }

    /// The attachment this is about.
    pub fn key(&self) -> &Key {
        self.attachment.key()
    }

    /// Takes a lock, waiting at most 30 s.
    pub fn lock(&self, name: &LockName) -> Result<Guard, CniError> {
        Ok(self.locks.acquire(name, self.key(), WAIT)?)
    }

    /// Takes the lock of a VF: all that changes it, but for the claim itself, has it.
    pub fn lock_vf(&self, address: PciAddr) -> Result<Guard, CniError> {
        self.lock(&LockName::Vf(address))
    }
}
