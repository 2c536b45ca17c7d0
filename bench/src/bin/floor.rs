//! The kernel floor: the messages of one attachment, and nothing else. No configuration is
//! read, no address is found, nothing is recorded and hardly anything checked, so no plugin
//! can be faster.
//!
//! ```text
//! floor nothing
//! floor add NETNS BRIDGE PORT VLAN ADDRESS/LENGTH GATEWAY    `-` for what is not wished
//! floor del PORT
//! floor traced PROGRAM...     stops under its tracer, then becomes PROGRAM
//! floor memory PROGRAM...     prints the peak resident set of PROGRAM, in KiB
//! ```
//!
//! `memory` is here because a program's peak counts that of its parent at the start, which
//! has to be small.

use std::error::Error;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::sys::ptrace;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match act(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(words: &[&str]) -> Outcome<()> {
    match words {
        ["nothing"] => Ok(()),
        ["add", netns, bridge, port, vlan, address, gateway] => {
            let inside = add(netns, bridge, port, wished(vlan))?;
            match wished(address) {
                Some(address) => inside.configure(address, gateway),
                None => Ok(()),
            }
        }
        ["del", port] => del(port),
        ["traced", program, rest @ ..] => {
            ptrace::traceme()?;
            Err(Command::new(program).args(rest).exec().into())
        }
        ["memory", program, rest @ ..] => memory(program, rest),
        _ => Err("no such call; its source names them".into()),
    }
}

fn memory(program: &str, rest: &[&str]) -> Outcome<()> {
    let mut command = Command::new(program);
    let status = command.args(rest).stdout(Stdio::null()).status()?;
    if !status.success() {
        return Err(format!("{program}: {status}").into());
    }
    eprintln!("{}", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss());
    Ok(())
}

fn wished(word: &str) -> Option<&str> {
    (word != "-").then_some(word)
}

/// A veth whose one end is born in `netns`, the other a port of the bridge, with its VLAN if
/// it has one; both up.
fn add(netns: &str, bridge: &str, port: &str, vlan: Option<&str>) -> Outcome<Inside> {
    let host = Route::open()?;
    let netns = File::open(netns)?;
    let master = host.index(bridge)?;
    let peer = |link: &mut Message| {
        link.header(0, 0, 0);
        link.text(libc::IFLA_IFNAME, "eth0");
        link.one_queue();
        link.number(libc::IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
    };
    host.ask(Message::framed(libc::RTM_NEWLINK, CREATE, |link| {
        link.header(0, 0, UP);
        link.text(libc::IFLA_IFNAME, port);
        link.one_queue();
        link.number(libc::IFLA_MASTER, master);
        link.nest(libc::IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| data.nest(VETH_INFO_PEER, peer));
        });
    }))?;
    if let Some(vlan) = vlan {
        let (vlan, index) = (vlan.parse()?, host.index(port)?);
        host.ask(Message::framed(libc::RTM_SETLINK, 0, |link| {
            access(link, index, vlan)
        }))?;
    }
    setns(&netns, CloneFlags::CLONE_NEWNET)?;
    let route = Route::open()?;
    let index = route.index("eth0")?;
    route.ask(Message::framed(libc::RTM_NEWLINK, 0, |link| {
        link.header(0, index, UP)
    }))?;
    Ok(Inside { route, index })
}

/// The port `index` in this VLAN, untagged, as its own (PVID).
fn access(link: &mut Message, index: u32, vlan: u16) {
    link.header(AF_BRIDGE, index, 0);
    link.nest(libc::IFLA_AF_SPEC, |spec| {
        let [flags, vlan] = [PVID_UNTAGGED, vlan].map(u16::to_ne_bytes);
        spec.attribute(IFLA_BRIDGE_VLAN_INFO, &[flags, vlan].concat());
    });
}

/// The container's end.
struct Inside {
    route: Route,
    index: u32,
}

impl Inside {
    fn configure(&self, address: &str, gateway: &str) -> Outcome<()> {
        let (address, length) = address
            .split_once('/')
            .ok_or("an address without a length")?;
        let (address, length): (Ipv4Addr, u8) = (address.parse()?, length.parse()?);
        self.route
            .ask(Message::framed(libc::RTM_NEWADDR, CREATE, |message| {
                message.bytes(&[INET, length, 0, 0]);
                message.bytes(&self.index.to_ne_bytes());
                message.attribute(libc::IFA_LOCAL, &address.octets());
                message.attribute(libc::IFA_ADDRESS, &address.octets());
            }))?;
        let gateway: Ipv4Addr = gateway.parse()?;
        self.route
            .ask(Message::framed(libc::RTM_NEWROUTE, CREATE, |message| {
                let (main, boot, universe, unicast) = (254, 3, 0, 1);
                message.bytes(&[INET, 0, 0, 0, main, boot, universe, unicast, 0, 0, 0, 0]);
                message.attribute(libc::RTA_GATEWAY, &gateway.octets());
                message.number(libc::RTA_OIF, self.index);
            }))
    }
}

fn del(port: &str) -> Outcome<()> {
    Route::open()?.ask(Message::framed(libc::RTM_DELLINK, 0, |link| {
        link.header(0, 0, 0);
        link.text(libc::IFLA_IFNAME, port);
    }))
}

const INET: u8 = 2;
const AF_BRIDGE: u8 = 7;
const UP: u32 = 1;
/// NLM_F_CREATE and NLM_F_EXCL.
const CREATE: u16 = 0x400 | 0x200;
/// NLM_F_REQUEST.
const REQUEST: u16 = 1;
/// Where the flags begin in `struct nlmsghdr`, low byte first.
const FLAGS: usize = 6;
/// The low byte of NLM_F_ACK.
const ACK: u8 = 4;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
/// BRIDGE_VLAN_INFO_PVID and BRIDGE_VLAN_INFO_UNTAGGED.
const PVID_UNTAGGED: u16 = 2 | 4;
const NLMSG_ERROR: u16 = 2;

/// A netlink message (netlink(7)) under construction.
struct Message(Vec<u8>);

impl Message {
    /// A whole request as it goes to the kernel.
    fn framed(kind: u16, flags: u16, fill: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut message = Self(vec![0; 16]);
        message.0[4..6].copy_from_slice(&kind.to_ne_bytes());
        message.0[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        fill(&mut message);
        let length = u32::try_from(message.0.len()).unwrap_or(0);
        message.0[..4].copy_from_slice(&length.to_ne_bytes());
        message.0
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// `struct ifinfomsg`.
    fn header(&mut self, family: u8, index: u32, flags: u32) {
        self.bytes(&[family, 0, 0, 0]);
        for word in [index, flags, flags] {
            self.bytes(&word.to_ne_bytes());
        }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |inner| inner.bytes(value));
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.nest(kind, |inner| {
            inner.bytes(value.as_bytes());
            inner.bytes(&[0]);
        });
    }

    fn one_queue(&mut self) {
        self.number(libc::IFLA_NUM_TX_QUEUES, 1);
        self.number(libc::IFLA_NUM_RX_QUEUES, 1);
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.bytes(&[0; 2]);
        self.bytes(&kind.to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(0);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// A route netlink socket of the namespace it was opened in.
struct Route(OwnedFd);

impl Route {
    fn open() -> Outcome<Self> {
        Ok(Self(socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?))
    }

    /// The first message of the answer: its kind and what follows the header.
    fn answer(&self, message: &[u8]) -> Outcome<(u16, Vec<u8>)> {
        send(self.0.as_raw_fd(), message, MsgFlags::empty())?;
        let mut buffer = vec![0; 8192];
        let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        buffer.truncate(length);
        let kind = u16::from_ne_bytes([buffer[4], buffer[5]]);
        let rest = buffer.split_off(16);
        let errno = i32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]);
        if kind == NLMSG_ERROR && errno != 0 {
            return Err(std::io::Error::from_raw_os_error(-errno).into());
        }
        Ok((kind, rest))
    }

    /// Asks for a change; what only looks something up is answered without this.
    fn ask(&self, mut message: Vec<u8>) -> Outcome<()> {
        message[FLAGS] |= ACK;
        self.answer(&message).map(drop)
    }

    fn index(&self, name: &str) -> Outcome<u32> {
        let message = Message::framed(libc::RTM_GETLINK, 0, |link| {
            link.header(0, 0, 0);
            link.text(libc::IFLA_IFNAME, name);
        });
        let (_, link) = self.answer(&message)?;
        Ok(u32::from_ne_bytes([link[4], link[5], link[6], link[7]]))
    }
}
