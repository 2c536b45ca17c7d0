//! Virtual functions: whether one may be handed out.

pub mod free;
