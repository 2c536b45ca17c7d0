//! What the agent sees on the node.

pub(crate) mod irqs;
pub(crate) mod network;
