//! MAC addresses derived from names: stable, so that a repeated ADD gives the same.

use berth_kernel::MacAddr;
use sha2::{Digest, Sha256};

use crate::key::Key;

/// A locally administered unicast address made of the digest of `text`.
pub fn derived(text: &str) -> MacAddr {
    let digest: [u8; 32] = Sha256::digest(text).into();
    let [a, b, c, d, e, f, ..] = digest;
    MacAddr::local([a, b, c, d, e, f])
}

/// The address of one end (`container`, `host`) of the attachment `key`.
pub fn of_end(key: &Key, end: &str) -> MacAddr {
    derived(&format!("{}\0{end}", key.alias()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_stable_distinct_and_assignable() {
        assert_eq!(derived("a"), derived("a"));
        assert_ne!(derived("a"), derived("b"));
        for number in 0..100 {
            assert!(derived(&number.to_string()).is_assignable());
        }
    }

    #[test]
    fn both_ends_of_an_attachment_differ_and_stay() {
        let key = Key::new("blue", "one", "eth0".parse().unwrap()).unwrap();
        assert_eq!(of_end(&key, "host"), of_end(&key, "host"));
        assert_ne!(of_end(&key, "host"), of_end(&key, "container"));
        // What a node's running containers have must not change with an upgrade.
        assert_eq!(
            of_end(&key, "container"),
            derived("berth1 blue one eth0\0container")
        );
    }
}
