//! Makes the node as the specs wish and keeps it so.

pub(crate) mod knob;
