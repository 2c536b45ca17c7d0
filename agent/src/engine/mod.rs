//! Makes the node as the specs wish and keeps it so.

pub(crate) mod events;
pub(crate) mod handle;
pub(crate) mod knob;
