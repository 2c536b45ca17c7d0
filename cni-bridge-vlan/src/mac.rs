//! MAC addresses derived from names: stable, so that a repeated ADD gives the same.

use berth_kernel::MacAddr;
use sha2::{Digest, Sha256};

/// A locally administered unicast address made of the digest of `text`.
pub fn derived(text: &str) -> MacAddr {
    let digest: [u8; 32] = Sha256::digest(text).into();
    let [a, b, c, d, e, f, ..] = digest;
    MacAddr::local([a, b, c, d, e, f])
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
}
