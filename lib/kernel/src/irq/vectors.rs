//! What each interrupt vector of a network function is for, told from the names its
//! driver gave.

use super::{Irq, actions};
use crate::Root;
use crate::error::Result;
use crate::names::PciAddr;
use crate::pci::Device;

#[cfg(test)]
mod tests;

/// An interrupt vector of a PCI device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector {
    /// Its interrupt.
    pub irq: Irq,
    /// What it is for.
    pub role: Role,
    /// The name its driver gave, with the interface's name of that moment; empty while
    /// there is no handler.
    pub action: String,
}

/// What a vector is for; the number is a queue's, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A receive queue.
    Rx(u32),
    /// A transmit queue.
    Tx(u32),
    /// A receive queue and the transmit queue of the same number.
    RxTx(u32),
    /// No queue: mailbox, link state, events.
    Control,
    /// Nothing now: it has no handler, as before the interface is first up.
    Idle,
}

impl Role {
    /// The queue it serves, if any.
    pub fn queue(self) -> Option<u32> {
        match self {
            Self::Rx(queue) | Self::Tx(queue) | Self::RxTx(queue) => Some(queue),
            Self::Control | Self::Idle => None,
        }
    }
}

/// The vectors of the device at `address` in their order, with their roles; all of them
/// [`Role::Idle`] until its interface is up. Works from the host also while the
/// interface is in a container.
///
/// # Errors
/// When the interrupts cannot be listed or read.
pub fn vectors(root: &Root, address: PciAddr) -> Result<Vec<Vector>> {
    let irqs = Device::new(root, address).msi_irqs()?;
    let mut names = Vec::new();
    for irq in &irqs {
        names.push(actions(root, *irq)?.into_iter().next().unwrap_or_default());
    }
    let roles = roles(&names);
    let each = irqs.into_iter().zip(roles).zip(names);
    Ok(each
        .map(|((irq, role), action)| Vector { irq, role, action })
        .collect())
}

/// The roles of vectors whose handlers are called `names`. Where no name tells of a
/// queue, the vectors that are not plainly for control are queues by their order.
fn roles(names: &[String]) -> Vec<Role> {
    let told: Vec<Told> = names.iter().map(|name| told(name, names)).collect();
    let any = told.iter().any(|told| matches!(told, Told::Queue(_)));
    let mut next = 0..;
    let role = |told: &Told| match told {
        Told::Queue(role) => *role,
        Told::Nothing if !any => Role::RxTx(next.next().unwrap_or_default()),
        Told::Nothing | Told::Control => Role::Control,
        Told::Idle => Role::Idle,
    };
    told.iter().map(role).collect()
}

/// What one name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Queue(Role),
    Control,
    Nothing,
    Idle,
}

/// What drivers end the names of vectors without a queue with.
const CONTROL: &[&str] = &[
    "aeq", "async", "cmd", "config", "control", "ctrl", "err", "event", "link", "mailbox", "mbox",
    "mbx", "mgmnt", "mgmt", "misc", "notify", "other", "pages",
];

/// `others` are the names of all vectors of the device.
fn told(name: &str, others: &[String]) -> Told {
    if name.is_empty() {
        return Told::Idle;
    }
    // `NAME` beside `NAME-rx-0` is the rest, whatever the interface is called.
    let stem = |other: &String| {
        other
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('-'))
    };
    if others.iter().any(stem) {
        return Told::Control;
    }
    // `mlx5_comp0@pci:0000:01:00.2`: the part after @ is the device's address.
    let name = name.split('@').next().unwrap_or_default();
    let name = name.to_ascii_lowercase();
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name.strip_prefix(bare).and_then(|n| n.parse().ok());
    let words: Vec<&str> = bare
        .split(['-', '_', '.', ':', ' '])
        .filter(|word| !word.is_empty())
        .collect();
    match (words.as_slice(), number) {
        ([.., "rx", "tx"] | [.., "tx", "rx"], Some(queue)) => Told::Queue(Role::RxTx(queue)),
        ([.., "rxtx" | "txrx" | "comp" | "fp"], Some(queue)) => Told::Queue(Role::RxTx(queue)),
        ([.., "rx" | "input"], Some(queue)) => Told::Queue(Role::Rx(queue)),
        ([.., "tx" | "output"], Some(queue)) => Told::Queue(Role::Tx(queue)),
        ([.., last], _) if CONTROL.contains(last) => Told::Control,
        _ => Told::Nothing,
    }
}
