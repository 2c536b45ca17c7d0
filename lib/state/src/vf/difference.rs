//! Two states of a VF, compared field by field: pure, and in the order in which the
//! fields are put back.

use std::fmt;

use berth_kernel::names::AltName;
use berth_kernel::netlink::{Tune, Tuning};

use super::baseline::{Baseline, Netdev};
use super::side::PfSide;

/// One field of a VF's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// The driver that is bound.
    Driver,
    /// An alternative name it has or has not.
    AltName(AltName),
    /// The interface's name.
    Name,
    /// The interface's MAC address.
    Mac,
    /// Whether all frames are received.
    Promisc,
    /// Whether all multicast frames are received.
    Allmulti,
    /// The alias.
    Alias,
    /// The device group.
    Group,
    /// The MTU.
    Mtu,
    /// The transmit queue's length.
    TxQueueLen,
    /// A seldom used setting; in it, what it was.
    Tune(Tune),
    /// Whether a program sees its frames first.
    Xdp,
    /// The numbers of channels.
    Channels,
    /// The ring sizes.
    Rings,
    /// Interrupt coalescing.
    Coalesce,
    /// One offload.
    Feature(String),
    /// How many receive queues there are.
    RxQueues,
    /// How many transmit queues there are.
    TxQueues,
    /// RPS CPUs of a receive queue.
    RpsCpus(u32),
    /// RFS flows of a receive queue.
    RpsFlowCnt(u32),
    /// XPS CPUs of a transmit queue.
    XpsCpus(u32),
    /// `gro_flush_timeout`.
    GroFlushTimeout,
    /// `napi_defer_hard_irqs`.
    NapiDeferHardIrqs,
    /// Whether it is set up.
    Up,
    /// The VLAN at the PF.
    PfVlan,
    /// Spoof checking at the PF.
    PfSpoofChk,
    /// Trust at the PF.
    PfTrust,
    /// The transmit rate at the PF.
    PfRate,
    /// The link state at the PF.
    PfLinkState,
    /// RSS queries at the PF.
    PfQueryRss,
    /// The MAC at the PF.
    PfMac,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::AltName(name) => return write!(f, "alternative name {name}"),
            Self::Feature(name) => return write!(f, "feature {name}"),
            Self::RpsCpus(queue) => return write!(f, "rps_cpus of receive queue {queue}"),
            Self::RpsFlowCnt(queue) => return write!(f, "rps_flow_cnt of receive queue {queue}"),
            Self::XpsCpus(queue) => return write!(f, "xps_cpus of transmit queue {queue}"),
            Self::Tune(tune) => tune.name(),
            Self::Xdp => "XDP program",
            Self::Driver => "driver",
            Self::Name => "name",
            Self::Mac => "MAC",
            Self::Promisc => "promiscuous mode",
            Self::Allmulti => "allmulticast mode",
            Self::Alias => "alias",
            Self::Group => "group",
            Self::Mtu => "MTU",
            Self::TxQueueLen => "transmit queue length",
            Self::Channels => "channels",
            Self::Rings => "rings",
            Self::Coalesce => "coalescing",
            Self::RxQueues => "number of receive queues",
            Self::TxQueues => "number of transmit queues",
            Self::GroFlushTimeout => "gro_flush_timeout",
            Self::NapiDeferHardIrqs => "napi_defer_hard_irqs",
            Self::Up => "administrative state",
            Self::PfVlan => "VLAN at the PF",
            Self::PfSpoofChk => "spoofchk at the PF",
            Self::PfTrust => "trust at the PF",
            Self::PfRate => "transmit rate at the PF",
            Self::PfLinkState => "link state at the PF",
            Self::PfQueryRss => "query_rss at the PF",
            Self::PfMac => "MAC at the PF",
        };
        f.write_str(text)
    }
}

/// A field that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub field: Field,
    /// What it was.
    pub was: String,
    /// What it is.
    pub is: String,
    /// Why it could not be put back, if that is known.
    pub why: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, was {}", self.field, self.is, self.was)?;
        if let Some(why) = &self.why {
            write!(f, " ({why})")?;
        }
        Ok(())
    }
}

/// Where `is` differs from `was`. What was not reported then counts for nothing.
pub fn differences(was: &Baseline, is: &Baseline) -> Vec<Difference> {
    let mut found = own_differences(was, is);
    found.extend(side_differences(&was.side, &is.side));
    found
}

/// The part of it that is the interface's own.
pub(super) fn own_differences(was: &Baseline, is: &Baseline) -> Vec<Difference> {
    let mut found = Found(name_differences(&was.netdev, &is.netdev));
    netdev(&mut found, &was.netdev, &is.netdev);
    tuning(&mut found, &was.tuning, &is.tuning);
    found.reported(Field::Channels, was.channels, is.channels);
    found.reported(Field::Rings, was.rings, is.rings);
    if was.coalesce.is_some() && was.coalesce != is.coalesce {
        let words = |b: &Baseline| format!("{:?}", b.coalesce.map(|c| c.0).unwrap_or_default());
        found.push(Field::Coalesce, words(was), words(is));
    }
    for name in was.features.symmetric_difference(&is.features) {
        let on = was.features.contains(name);
        found.push(Field::Feature(name.clone()), on_off(on), on_off(!on));
    }
    queues(&mut found, was, is);
    let (timeout, defer) = (was.gro_flush_timeout, was.napi_defer_hard_irqs);
    found.compare(Field::GroFlushTimeout, &timeout, &is.gro_flush_timeout);
    found.compare(Field::NapiDeferHardIrqs, &defer, &is.napi_defer_hard_irqs);
    if was.netdev.up != is.netdev.up {
        found.push(Field::Up, up_down(was.netdev.up), up_down(is.netdev.up));
    }
    found.0
}

/// The names. Alternative ones too many come first: the interface cannot take a name
/// that is one of them.
pub(super) fn name_differences(was: &Netdev, is: &Netdev) -> Vec<Difference> {
    let mut found = Found::default();
    for name in is.altnames.difference(&was.altnames) {
        found.push(Field::AltName(name.clone()), "absent", "present");
    }
    found.compare(Field::Name, &was.name, &is.name);
    for name in was.altnames.difference(&is.altnames) {
        found.push(Field::AltName(name.clone()), "present", "absent");
    }
    found.0
}

fn netdev(found: &mut Found, was: &Netdev, is: &Netdev) {
    found.compare(Field::Mac, &was.mac, &is.mac);
    found.switched(Field::Promisc, was.promisc, is.promisc);
    found.switched(Field::Allmulti, was.allmulti, is.allmulti);
    let quoted = |n: &Netdev| format!("{:?}", n.alias.as_deref().unwrap_or_default());
    found.compare(Field::Alias, &quoted(was), &quoted(is));
    found.compare(Field::Group, &was.group, &is.group);
    found.compare(Field::Mtu, &was.mtu, &is.mtu);
    found.compare(Field::TxQueueLen, &was.tx_queue_len, &is.tx_queue_len);
}

fn tuning(found: &mut Found, was: &Tuning, is: &Tuning) {
    let mut switched = |field, was, is| found.switched(field, was, is);
    switched(Field::Tune(Tune::Arp(was.arp)), was.arp, is.arp);
    let multicast = Field::Tune(Tune::Multicast(was.multicast));
    switched(multicast, was.multicast, is.multicast);
    let dormant = Field::Tune(Tune::Dormant(was.dormant));
    switched(dormant, was.dormant, is.dormant);
    switched(Field::Xdp, was.xdp, is.xdp);
    if let Some(mac) = was.broadcast {
        let field = Field::Tune(Tune::Broadcast(mac));
        found.reported(field, was.broadcast, is.broadcast);
    }
    // Those for IPv4 last: the others set them too.
    let mut size = |tune: fn(u32) -> Tune, was: Option<u32>, is| {
        if let Some(wished) = was {
            found.reported(Field::Tune(tune(wished)), was, is);
        }
    };
    size(Tune::GsoMaxSize, was.gso_max_size, is.gso_max_size);
    size(Tune::GsoMaxSegs, was.gso_max_segs, is.gso_max_segs);
    size(Tune::GroMaxSize, was.gro_max_size, is.gro_max_size);
    let (gso, gro) = (was.gso_ipv4_max_size, was.gro_ipv4_max_size);
    size(Tune::GsoIpv4MaxSize, gso, is.gso_ipv4_max_size);
    size(Tune::GroIpv4MaxSize, gro, is.gro_ipv4_max_size);
}

fn queues(found: &mut Found, was: &Baseline, is: &Baseline) {
    found.compare(Field::RxQueues, &was.rx.len(), &is.rx.len());
    for (queue, (was, is)) in (0..).zip(was.rx.iter().zip(&is.rx)) {
        let (cpus, flows) = (Field::RpsCpus(queue), Field::RpsFlowCnt(queue));
        found.quoted(cpus, &was.rps_cpus, &is.rps_cpus);
        found.compare(flows, &was.rps_flow_cnt, &is.rps_flow_cnt);
    }
    found.compare(Field::TxQueues, &was.tx.len(), &is.tx.len());
    for (queue, (was, is)) in (0..).zip(was.tx.iter().zip(&is.tx)) {
        if let (Some(was), Some(is)) = (was, is) {
            found.quoted(Field::XpsCpus(queue), was, is);
        }
    }
}

/// The part of it that the PF keeps.
pub(super) fn side_differences(was: &PfSide, is: &PfSide) -> Vec<Difference> {
    let mut found = Found::default();
    found.reported(Field::PfVlan, was.vlan, is.vlan);
    let switch = |state: Option<bool>| state.map(on_off);
    found.reported(Field::PfSpoofChk, switch(was.spoofchk), switch(is.spoofchk));
    found.reported(Field::PfTrust, switch(was.trust), switch(is.trust));
    found.reported(Field::PfRate, was.rate, is.rate);
    found.reported(Field::PfLinkState, was.link_state, is.link_state);
    let (rss, rss_now) = (switch(was.query_rss), switch(is.query_rss));
    found.reported(Field::PfQueryRss, rss, rss_now);
    found.reported(Field::PfMac, was.mac, is.mac);
    found.0
}

#[derive(Default)]
struct Found(Vec<Difference>);

impl Found {
    fn push(&mut self, field: Field, was: impl Into<String>, is: impl Into<String>) {
        self.0.push(Difference {
            field,
            was: was.into(),
            is: is.into(),
            why: None,
        });
    }

    fn compare<T: PartialEq + fmt::Display>(&mut self, field: Field, was: &T, is: &T) {
        if was != is {
            self.push(field, was.to_string(), is.to_string());
        }
    }

    fn quoted<T: PartialEq + fmt::Display>(&mut self, field: Field, was: &T, is: &T) {
        if was != is {
            self.push(field, format!("\"{was}\""), format!("\"{is}\""));
        }
    }

    fn switched(&mut self, field: Field, was: bool, is: bool) {
        self.compare(field, &on_off(was), &on_off(is));
    }

    fn reported<T: PartialEq + fmt::Display>(
        &mut self,
        field: Field,
        was: Option<T>,
        is: Option<T>,
    ) {
        if let Some(value) = was.as_ref().filter(|_| was != is) {
            let is = is.map_or("not reported".to_owned(), |is| is.to_string());
            self.push(field, value.to_string(), is);
        }
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn up_down(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

#[cfg(test)]
mod tests;
