//! How long a network device may keep interrupts off and packets back
//! (Documentation/networking/napi.rst, "IRQ suspension" and "Software IRQ coalescing").

use std::time::Duration;

use super::NetSysfs;
use crate::error::{Error, Result};
use crate::names::IfName;

#[cfg(test)]
mod tests;

impl NetSysfs {
    /// How long `dev` holds back packets that may still be merged, and how long an idle
    /// queue is polled before its interrupt is on again; zero, the default: neither. In
    /// whole nanoseconds.
    ///
    /// # Errors
    /// When there is no such device or the file cannot be read.
    pub fn gro_flush_timeout(&self, dev: &IfName) -> Result<Duration> {
        self.number(&gro(dev)).map(Duration::from_nanos)
    }

    /// Sets [`Self::gro_flush_timeout`]. Nothing is written when it is so already; what
    /// was written is read back.
    ///
    /// # Errors
    /// When there is no such device, it is more nanoseconds than fit into 64 bits, or
    /// the kernel refuses.
    pub fn set_gro_flush_timeout(&self, dev: &IfName, timeout: Duration) -> Result<()> {
        let nanoseconds = u64::try_from(timeout.as_nanos()).map_err(|_overflow| {
            let reason = format!("{} s are too many nanoseconds", timeout.as_secs());
            Error::malformed("set gro_flush_timeout of", dev, reason)
        })?;
        self.set_number(&gro(dev), nanoseconds)
    }

    /// How many times in a row an empty queue of `dev` is polled again before its
    /// interrupt is on again; 0, the default: not once.
    ///
    /// # Errors
    /// When there is no such device or the file cannot be read.
    pub fn napi_defer_hard_irqs(&self, dev: &IfName) -> Result<u32> {
        self.number(&defer(dev))
    }

    /// Sets [`Self::napi_defer_hard_irqs`]. Nothing is written when it is so already;
    /// what was written is read back.
    ///
    /// # Errors
    /// When there is no such device, or the kernel refuses: it takes at most
    /// 2147483647.
    pub fn set_napi_defer_hard_irqs(&self, dev: &IfName, times: u32) -> Result<()> {
        self.set_number(&defer(dev), u64::from(times))
    }

    fn set_number(&self, path: &str, wish: u64) -> Result<()> {
        if self.number::<u64>(path)? == wish {
            return Ok(());
        }
        self.write(path, &wish.to_string())?;
        let now: u64 = self.number(path)?;
        if now == wish {
            return Ok(());
        }
        Err(self.kept(path, wish, now))
    }
}

fn gro(dev: &IfName) -> String {
    format!("class/net/{dev}/gro_flush_timeout")
}

fn defer(dev: &IfName) -> String {
    format!("class/net/{dev}/napi_defer_hard_irqs")
}
