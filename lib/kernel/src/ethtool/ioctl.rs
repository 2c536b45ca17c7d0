//! The ioctl itself: an interface name and a structure that begins with a command.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::names::IfName;

// include/uapi/linux/ethtool.h
pub(super) const GCOALESCE: u32 = 0x0e;
pub(super) const SCOALESCE: u32 = 0x0f;
pub(super) const GRINGPARAM: u32 = 0x10;
pub(super) const SRINGPARAM: u32 = 0x11;
pub(super) const GSTRINGS: u32 = 0x1b;
pub(super) const GSSET_INFO: u32 = 0x37;
pub(super) const GFEATURES: u32 = 0x3a;
pub(super) const SFEATURES: u32 = 0x3b;
pub(super) const GCHANNELS: u32 = 0x3c;
pub(super) const SCHANNELS: u32 = 0x3d;
/// `enum ethtool_stringset`: the features' names.
pub(super) const ETH_SS_FEATURES: u32 = 4;
/// Words of one string of a string set.
pub(super) const GSTRING_WORDS: usize = 8;

/// Sends `words`, the first of them the command, to the driver of `link` in the
/// namespace `socket` is of; the kernel writes its answer over them. What it returns
/// besides is 0 for most commands. EINVAL if `words` is too short for its command, or
/// the command not one of the above.
pub(super) fn ethtool(
    socket: BorrowedFd<'_>,
    link: &IfName,
    words: &mut [u32],
) -> nix::Result<u32> {
    if extent(words).is_none_or(|extent| extent > words.len()) {
        return Err(Errno::EINVAL);
    }
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: words.as_mut_ptr().cast(),
        },
    };
    // A name has at most 15 bytes, so the last one stays NUL.
    for (to, from) in request.ifr_name.iter_mut().zip(link.as_str().bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: `request` is a whole `struct ifreq` that outlives the call; its data
    // pointer leads to `words`, borrowed mutably for the call, and the kernel reads and
    // writes no more of them than their extent, found above to be there.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    Errno::result(rc).map(i32::cast_unsigned)
}

/// How many words the kernel may touch for the command and the lengths in `words`.
fn extent(words: &[u32]) -> Option<usize> {
    let number = |at: usize| usize::try_from(*words.get(at)?).ok();
    match *words.first()? {
        GCOALESCE | SCOALESCE => Some(23),
        GRINGPARAM | SRINGPARAM | GCHANNELS | SCHANNELS => Some(9),
        GFEATURES => number(1)?.checked_mul(4)?.checked_add(2),
        SFEATURES => number(1)?.checked_mul(2)?.checked_add(2),
        // A 64-bit mask of sets, and the length of each set in it.
        GSSET_INFO => Some(4 + usize::try_from(words.get(2)?.count_ones()).ok()?)
            .filter(|_| words.get(3) == Some(&0)),
        // The kernel goes by its own number, not the caller's. That of the features is
        // the same for as long as it runs, and GSSET_INFO tells it.
        GSTRINGS if words.get(1) == Some(&ETH_SS_FEATURES) => {
            number(2)?.checked_mul(GSTRING_WORDS)?.checked_add(3)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extent_follows_command_and_lengths() {
        for (words, expected) in [
            (&[GCHANNELS][..], Some(9)),
            (&[SCOALESCE], Some(23)),
            (&[GFEATURES, 2], Some(10)),
            (&[SFEATURES, 3], Some(8)),
            (&[GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0], Some(5)),
            (&[GSTRINGS, ETH_SS_FEATURES, 64], Some(515)),
            (&[GSTRINGS, 1, 64], None),
            (&[GSSET_INFO, 0, 0, 1], None),
            (&[GFEATURES], None),
            (&[0xff, 1, 1], None),
            (&[], None),
        ] {
            assert_eq!(extent(words), expected, "{words:?}");
        }
    }

    #[test]
    fn a_buffer_too_short_never_reaches_the_kernel() {
        let stdin = std::io::stdin();
        let socket = std::os::fd::AsFd::as_fd(&stdin);
        let lo = "lo".parse().unwrap();
        let refused = ethtool(socket, &lo, &mut [GFEATURES, 2, 0, 0, 0]);
        assert_eq!(refused, Err(Errno::EINVAL));
    }
}
