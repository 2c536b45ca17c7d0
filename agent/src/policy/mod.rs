//! What is decided, by pure code: from wishes and what was seen to settings, with the
//! reasons.

pub(crate) mod cpu;
pub(crate) mod io;
pub(crate) mod irq;
pub(crate) mod memory;
