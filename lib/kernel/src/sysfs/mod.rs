//! sysfs: what a network namespace's devices look like in `/sys`.

mod mount;
mod napi;
pub mod queues;

pub use queues::NetSysfs;
