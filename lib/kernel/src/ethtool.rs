//! A link's channels, rings, coalescing and features (ethtool(8)), by the ioctl
//! SIOCETHTOOL; structures of include/uapi/linux/ethtool.h.
//!
//! A setting the driver does not have is `None`. What was set is to be read back: a
//! driver may round it, and one feature may pull others along.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::names::IfName;
use crate::netns::NetNs;

mod features;
mod ioctl;

pub use features::{Feature, Features};
use ioctl::{GCHANNELS, GCOALESCE, GRINGPARAM, SCHANNELS, SCOALESCE, SRINGPARAM};

/// A way to the drivers of the links of one network namespace. It stays in the
/// namespace it was opened in, whoever uses it from wherever.
#[derive(Debug)]
pub struct Ethtool {
    socket: OwnedFd,
}

/// How many of each kind of queue a link has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channels {
    /// What it has.
    pub current: ChannelCounts,
    /// What it could have.
    pub max: ChannelCounts,
}

/// Numbers of channels. A channel is an interrupt with the queues it serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelCounts {
    /// With receive queues alone.
    pub rx: u32,
    /// With transmit queues alone.
    pub tx: u32,
    /// For other things, as link changes and, at a PF, messages of the VFs.
    pub other: u32,
    /// With a receive and a transmit queue.
    pub combined: u32,
}

/// The lengths of a link's descriptor rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rings {
    /// What they are.
    pub current: RingSizes,
    /// What they could be.
    pub max: RingSizes,
}

/// Numbers of descriptors in each ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingSizes {
    /// Receive.
    pub rx: u32,
    /// Receive, small frames.
    pub rx_mini: u32,
    /// Receive, jumbo frames.
    pub rx_jumbo: u32,
    /// Transmit.
    pub tx: u32,
}

/// When the device interrupts: the words of `struct ethtool_coalesce` after its command,
/// in their order, so that they can be put back as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coalesce(pub [u32; 22]);

impl Coalesce {
    /// For how many µs a received frame may wait for others before an interrupt.
    pub fn rx_usecs(&self) -> u32 {
        self.0[0]
    }

    /// For how many µs a sent frame may wait for others before an interrupt.
    pub fn tx_usecs(&self) -> u32 {
        self.0[4]
    }

    /// Whether the driver adapts the waiting time of received frames to the load.
    pub fn adaptive_rx(&self) -> bool {
        self.0[9] != 0
    }

    /// Whether the driver adapts the waiting time of sent frames to the load.
    pub fn adaptive_tx(&self) -> bool {
        self.0[10] != 0
    }
}

impl Ethtool {
    /// Opens it in the calling thread's namespace.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn open() -> Result<Self> {
        let made = socket(
            AddressFamily::Unix,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        );
        let socket = made.map_err(|errno| Error::errno("open", "socket for ethtool", errno))?;
        Ok(Self { socket })
    }

    /// Opens it in namespace `ns`, to be used from outside.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or no socket be had.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        ns.run(Self::open)?
    }

    /// The numbers of channels; `None` if the driver has no notion of them: its queues
    /// are what they are.
    ///
    /// # Errors
    /// ENODEV if there is no such link.
    pub fn channels(&self, link: &IfName) -> Result<Option<Channels>> {
        let words: Option<[u32; 8]> = self.get(link, GCHANNELS, "channels")?;
        Ok(words.map(|[r, t, o, c, rx, tx, other, combined]| Channels {
            current: ChannelCounts {
                rx,
                tx,
                other,
                combined,
            },
            max: ChannelCounts {
                rx: r,
                tx: t,
                other: o,
                combined: c,
            },
        }))
    }

    /// Sets the numbers of channels. The driver makes its queues anew: what was set at
    /// them in sysfs is lost, and most take the carrier away for a moment.
    ///
    /// # Errors
    /// EINVAL if there cannot be as many, or an AF_XDP socket is on one that would go;
    /// EOPNOTSUPP if the driver has no notion of channels.
    pub fn set_channels(&self, link: &IfName, wish: ChannelCounts) -> Result<()> {
        let ChannelCounts {
            rx,
            tx,
            other,
            combined,
        } = wish;
        // The kernel has its own notion of the first four.
        let words = [0, 0, 0, 0, rx, tx, other, combined];
        self.set(link, SCHANNELS, words, wish)
    }

    /// The lengths of the rings; `None` if the driver has no notion of them.
    ///
    /// # Errors
    /// ENODEV if there is no such link.
    pub fn rings(&self, link: &IfName) -> Result<Option<Rings>> {
        let words: Option<[u32; 8]> = self.get(link, GRINGPARAM, "rings")?;
        Ok(words.map(|[r, m, j, t, rx, rx_mini, rx_jumbo, tx]| Rings {
            current: RingSizes {
                rx,
                rx_mini,
                rx_jumbo,
                tx,
            },
            max: RingSizes {
                rx: r,
                rx_mini: m,
                rx_jumbo: j,
                tx: t,
            },
        }))
    }

    /// Sets the lengths of the rings. Most drivers take the carrier away for a moment,
    /// and round.
    ///
    /// # Errors
    /// EINVAL if they cannot be as long; EOPNOTSUPP if the driver has no notion of them.
    pub fn set_rings(&self, link: &IfName, wish: RingSizes) -> Result<()> {
        let RingSizes {
            rx,
            rx_mini,
            rx_jumbo,
            tx,
        } = wish;
        let words = [0, 0, 0, 0, rx, rx_mini, rx_jumbo, tx];
        self.set(link, SRINGPARAM, words, wish)
    }

    /// When the device interrupts; `None` if the driver does not say.
    ///
    /// # Errors
    /// ENODEV if there is no such link.
    pub fn coalesce(&self, link: &IfName) -> Result<Option<Coalesce>> {
        let words = self.get(link, GCOALESCE, "coalescing")?;
        Ok(words.map(Coalesce))
    }

    /// Sets when the device interrupts.
    ///
    /// # Errors
    /// EOPNOTSUPP if the driver has not one of the parameters that are not 0; EINVAL,
    /// ERANGE if it does not take a value.
    pub fn set_coalesce(&self, link: &IfName, wish: Coalesce) -> Result<()> {
        self.set(link, SCOALESCE, wish.0, wish)
    }

    fn get<const N: usize>(
        &self,
        link: &IfName,
        command: u32,
        what: &str,
    ) -> Result<Option<[u32; N]>> {
        let mut words = vec![0; N + 1];
        words[0] = command;
        match ioctl::ethtool(self.socket.as_fd(), link, &mut words) {
            Ok(_) => Ok(words.get(1..).and_then(|w| w.first_chunk()).copied()),
            Err(Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(Error::errno(format!("read {what} of"), link, errno)),
        }
    }

    fn set<const N: usize>(
        &self,
        link: &IfName,
        command: u32,
        values: [u32; N],
        wish: impl fmt::Display,
    ) -> Result<()> {
        let mut words = vec![command];
        words.extend(values);
        match ioctl::ethtool(self.socket.as_fd(), link, &mut words) {
            Ok(_) => {
                log::debug!("set {wish} of {link}");
                Ok(())
            }
            Err(errno) => Err(Error::errno(format!("set {wish} of"), link, errno)),
        }
    }
}

impl fmt::Display for ChannelCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rx,
            tx,
            other,
            combined,
        } = self;
        write!(
            f,
            "channels rx {rx} tx {tx} other {other} combined {combined}"
        )
    }
}

impl fmt::Display for RingSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rx,
            rx_mini,
            rx_jumbo,
            tx,
        } = self;
        write!(
            f,
            "rings rx {rx} rx-mini {rx_mini} rx-jumbo {rx_jumbo} tx {tx}"
        )
    }
}

impl fmt::Display for Coalesce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "coalescing rx-usecs {} tx-usecs {}",
            self.rx_usecs(),
            self.tx_usecs()
        )
    }
}
