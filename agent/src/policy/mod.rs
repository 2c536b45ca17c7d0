//! What is to be set on the node, decided from what was seen: no system call.

pub(crate) mod irq;
