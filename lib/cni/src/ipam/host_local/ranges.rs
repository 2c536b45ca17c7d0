//! Ranges of addresses: what a configuration may say, and in which order they are
//! given out. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;

use crate::error::CniError;
use crate::fields::Fields;
use crate::result::{IpConfig, parse_cidr};

/// The keys of a range.
pub(super) const KEYS: [&str; 4] = ["subnet", "rangeStart", "rangeEnd", "gateway"];

/// Consecutive addresses of a subnet, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    subnet: IpNetwork,
    first: u128,
    last: u128,
    gateway: IpAddr,
}

impl Range {
    /// Reads and completes a range: by default it is the subnet without network address
    /// and, in IPv4, broadcast, and the gateway is the subnet's first address.
    pub(super) fn of(fields: &Fields<'_>) -> Result<Self, CniError> {
        let subnet = subnet(fields)?;
        let address = |key: &str| address(fields, key, subnet);
        let first = number(subnet.network()) + 1;
        // An IPv6 subnet has no broadcast.
        let last = number(subnet.broadcast()) - u128::from(subnet.is_ipv4());
        let inside = |key: &str, default: u128| match address(key)? {
            None => Ok(default),
            Some(address) if subnet.contains(address) => Ok(number(address)),
            Some(_) => Err(fields.invalid(key, format!("it is not in subnet {subnet}"))),
        };
        let range = Self {
            first: inside("rangeStart", first)?,
            last: inside("rangeEnd", last)?,
            gateway: address("gateway")?.unwrap_or_else(|| of_number(first, subnet.is_ipv4())),
            subnet,
        };
        if range.first > range.last {
            let start = of_number(range.first, subnet.is_ipv4());
            let key = if fields.value("rangeEnd").is_some() {
                "rangeEnd"
            } else {
                "rangeStart"
            };
            let end = of_number(range.last, subnet.is_ipv4());
            return Err(fields.invalid(
                key,
                format!("the range {start}-{end} ends before it starts"),
            ));
        }
        Ok(range)
    }

    fn is_v4(&self) -> bool {
        self.subnet.is_ipv4()
    }

    /// Whether the address lies between the range's ends.
    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_v4() && (self.first..=self.last).contains(&number(address))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.is_v4() == other.is_v4() && self.first <= other.last && other.first <= self.last
    }

    /// Why an address of the range is never given out, if so. The ends of an IPv4
    /// subnet are in it only if the configuration says so.
    fn reserved(&self, address: IpAddr) -> Option<&'static str> {
        if address == self.gateway {
            Some("gateway")
        } else if self.is_v4() && address == self.subnet.network() {
            Some("network address")
        } else if self.is_v4() && address == self.subnet.broadcast() {
            Some("broadcast address")
        } else {
            None
        }
    }

    /// How many addresses may be given out.
    fn size(&self) -> u128 {
        let ends = [self.subnet.network(), self.subnet.broadcast(), self.gateway];
        let mut reserved: Vec<IpAddr> = ends
            .into_iter()
            .filter(|end| self.contains(*end) && self.reserved(*end).is_some())
            .collect();
        reserved.sort();
        reserved.dedup();
        let all = (self.last - self.first).saturating_add(1);
        reserved.iter().fold(all, |left, _| left - 1)
    }

    /// The addresses of a part of the range that may be given out, in order.
    fn part(&self, part: RangeInclusive<u128>) -> impl Iterator<Item = IpAddr> + Clone + '_ {
        let addresses = part.map(|number| of_number(number, self.is_v4()));
        addresses.filter(|address| self.reserved(*address).is_none())
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |number| of_number(number, self.is_v4());
        write!(f, "{}-{}", end(self.first), end(self.last))
    }
}

fn subnet(fields: &Fields<'_>) -> Result<IpNetwork, CniError> {
    let wrong = |reason: String| fields.invalid("subnet", reason);
    let text = fields
        .text("subnet")?
        .ok_or_else(|| wrong("a range needs a subnet like 192.0.2.0/24".into()))?;
    let subnet = parse_cidr(text).map_err(wrong)?;
    if subnet.ip().to_canonical() != subnet.ip() {
        return Err(wrong(
            "write an IPv4 subnet as such, like 192.0.2.0/24".into(),
        ));
    }
    let longest = if subnet.is_ipv4() { 30 } else { 126 };
    if subnet.prefix() > longest {
        return Err(wrong(format!(
            "network too small to allocate from: the longest prefix is /{longest}"
        )));
    }
    if subnet.ip() != subnet.network() {
        return Err(wrong(format!(
            "network has host bits set: the network address is {}/{}",
            subnet.network(),
            subnet.prefix()
        )));
    }
    Ok(subnet)
}

/// An address of the subnet's family; empty means absent, as in the reference.
fn address(fields: &Fields<'_>, key: &str, subnet: IpNetwork) -> Result<Option<IpAddr>, CniError> {
    let Some(text) = fields.text(key)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let address: IpAddr = text.parse().map_err(|_not_an_address| {
        fields.invalid(key, "want an address without prefix, like 192.0.2.10")
    })?;
    let address = address.to_canonical();
    if address.is_ipv4() == subnet.is_ipv4() {
        Ok(Some(address))
    } else {
        Err(fields.invalid(key, format!("subnet {subnet} is of the other family")))
    }
}

/// Ranges of one family that give one address to each container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RangeSet {
    ranges: Vec<Range>,
    name: String,
}

impl RangeSet {
    /// A set of ranges, where `name` is the place in the configuration.
    pub(super) fn new(name: String, ranges: Vec<Range>) -> Result<Self, CniError> {
        let wrong = |reason: String, next: &str| {
            let shown =
                serde_json::Value::from(ranges.iter().map(ToString::to_string).collect::<Vec<_>>());
            Err(CniError::config(&name, &shown, reason, next))
        };
        let Some(first) = ranges.first() else {
            return wrong(
                "empty range set".into(),
                "put a range into it, like {\"subnet\": \"192.0.2.0/24\"}, or leave it away",
            );
        };
        if ranges.iter().any(|range| range.is_v4() != first.is_v4()) {
            return wrong(
                "mixed address families".into(),
                "a set gives one address: make a set for each family",
            );
        }
        for (index, one) in ranges.iter().enumerate() {
            if let Some(other) = ranges
                .iter()
                .skip(index + 1)
                .find(|other| one.overlaps(other))
            {
                return wrong(
                    format!("ranges {one} and {other} overlap"),
                    "give them rangeStart and rangeEnd that do not",
                );
            }
        }
        Ok(Self { ranges, name })
    }

    /// Whether it gives IPv4 addresses.
    pub(super) fn is_v4(&self) -> bool {
        self.ranges.iter().all(Range::is_v4)
    }

    /// Its place in the configuration.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the two have an address in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let all = || other.ranges.iter();
        self.ranges
            .iter()
            .any(|one| all().any(|two| one.overlaps(two)))
    }

    /// How many addresses may be given out.
    pub(super) fn size(&self) -> u128 {
        let sizes = self.ranges.iter().map(Range::size);
        sizes.fold(0, u128::saturating_add)
    }

    fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.ranges.iter().find(|range| range.contains(address))
    }

    /// Whether one of its ranges has the address.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.range_of(address).is_some()
    }

    /// What keeps an address of the set from being given out: `gateway`, for example.
    pub(super) fn reserved(&self, address: IpAddr) -> Option<&'static str> {
        self.range_of(address)?.reserved(address)
    }

    /// Every address that may be given out once, beginning after the one last given,
    /// which is therefore the last to come (round robin).
    pub(super) fn candidates(
        &self,
        after: Option<IpAddr>,
    ) -> impl Iterator<Item = IpAddr> + Clone + '_ {
        let from = after.and_then(|last| {
            let at = self.ranges.iter().position(|range| range.contains(last))?;
            Some((at, number(last)))
        });
        let whole = |range: &Range| range.first..=range.last;
        let mut parts = Vec::new();
        match from {
            None => parts.extend(self.ranges.iter().map(|range| (range, whole(range)))),
            Some((at, last)) => {
                let (before, rest) = self.ranges.split_at(at);
                let (this, behind) = rest.split_at(1.min(rest.len()));
                let after = |range: &Range| match last < range.last {
                    true => last + 1..=range.last,
                    false => RangeInclusive::new(1, 0),
                };
                parts.extend(this.iter().map(|range| (range, after(range))));
                parts.extend(
                    behind
                        .iter()
                        .chain(before)
                        .map(|range| (range, whole(range))),
                );
                parts.extend(this.iter().map(|range| (range, range.first..=last)));
            }
        }
        parts.into_iter().flat_map(|(range, part)| range.part(part))
    }

    /// A lease as the result has it.
    pub(super) fn config(&self, address: IpAddr) -> Option<IpConfig> {
        let range = self.range_of(address)?;
        Some(IpConfig {
            interface: None,
            address: IpNetwork::new(address, range.subnet.prefix()).ok()?,
            gateway: Some(range.gateway),
        })
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The inverse of [`number`]; an IPv4 number never has more than 32 bits.
fn of_number(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if v4 => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests;
