//! What a network device has carried since its driver made it
//! (Documentation/ABI/testing/sysfs-class-net-statistics).

use super::NetSysfs;
use crate::error::Result;
use crate::names::IfName;

/// Counters of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Frames that came through.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that were faulty.
    pub errors: u64,
    /// Frames there was no room for.
    pub dropped: u64,
}

impl NetSysfs {
    /// What `dev` has received.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn received(&self, dev: &IfName) -> Result<Carried> {
        self.carried(dev, "rx")
    }

    /// What `dev` has sent.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn sent(&self, dev: &IfName) -> Result<Carried> {
        self.carried(dev, "tx")
    }

    fn carried(&self, dev: &IfName, way: &str) -> Result<Carried> {
        let counter = |what: &str| self.number(&format!("class/net/{dev}/statistics/{way}_{what}"));
        Ok(Carried {
            packets: counter("packets")?,
            bytes: counter("bytes")?,
            errors: counter("errors")?,
            dropped: counter("dropped")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Root;

    #[test]
    fn each_direction_has_its_own_counters() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let files = root.sys.join("class/net/eth0/statistics");
        std::fs::create_dir_all(&files).unwrap();
        for (n, what) in ["packets", "bytes", "errors", "dropped"].iter().enumerate() {
            std::fs::write(files.join(format!("rx_{what}")), format!("{n}\n")).unwrap();
            std::fs::write(files.join(format!("tx_{what}")), format!("1{n}\n")).unwrap();
        }
        let sysfs = NetSysfs::at(&root).unwrap();
        let eth0 = "eth0".parse().unwrap();
        let of = |packets, bytes, errors, dropped| Carried {
            packets,
            bytes,
            errors,
            dropped,
        };
        assert_eq!(sysfs.received(&eth0), Ok(of(0, 1, 2, 3)));
        assert_eq!(sysfs.sent(&eth0), Ok(of(10, 11, 12, 13)));
        assert!(sysfs.sent(&"eth9".parse().unwrap()).is_err());
    }
}
