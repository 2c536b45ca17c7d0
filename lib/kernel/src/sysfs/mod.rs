//! sysfs: what a network namespace's devices look like in `/sys`.

mod mount;
pub mod queues;

pub use queues::NetSysfs;
