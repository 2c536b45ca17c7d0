//! sysfs: what a network namespace's devices look like in `/sys`.

mod mount;
mod napi;
pub mod queues;
mod statistics;

pub use queues::NetSysfs;
pub use statistics::Carried;
