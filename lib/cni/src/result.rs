//! The result of ADD and its shapes from 0.1.0 to 1.1.0, written and read.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{CniError, code};
use crate::version::SpecVersion;

mod legacy;

/// What an ADD made (specification, "ADD Success"), free of any version's shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddResult {
    /// Interfaces, in the order the reference has them: bridge, host end, container.
    pub interfaces: Vec<Interface>,
    /// Addresses, with the interface each belongs to.
    pub ips: Vec<IpConfig>,
    /// Routes in the container.
    pub routes: Vec<Route>,
    /// Name service settings, for the runtime to apply.
    pub dns: Dns,
}

/// An interface, on the host or in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Hardware address; a text, because other plugins' may be longer than 6 bytes.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub mac: Option<String>,
    /// MTU in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "is_unset")]
    pub mtu: Option<u32>,
    /// Path of the namespace it is in; absent means the host.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub sandbox: Option<String>,
    /// Path of a socket that stands for the interface (1.1.0).
    #[serde(default, rename = "socketPath", skip_serializing_if = "is_unset")]
    pub socket_path: Option<String>,
    /// PCI address of the device (1.1.0).
    #[serde(default, rename = "pciID", skip_serializing_if = "is_unset")]
    pub pci_id: Option<String>,
}

/// An address with its prefix length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// Index into [`AddResult::interfaces`]; absent is not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// The address; host bits are kept.
    #[serde(deserialize_with = "cidr")]
    pub address: IpNetwork,
    /// The gateway of its subnet.
    #[serde(
        default,
        deserialize_with = "ip",
        skip_serializing_if = "Option::is_none"
    )]
    pub gateway: Option<IpAddr>,
}

/// A route in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destination.
    #[serde(deserialize_with = "cidr")]
    pub dst: IpNetwork,
    /// Next hop; absent means the gateway of an address of the same family.
    #[serde(
        default,
        deserialize_with = "ip",
        skip_serializing_if = "Option::is_none"
    )]
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "is_unset")]
    pub mtu: Option<u32>,
    /// Maximal segment size to advertise, in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "is_unset")]
    pub advmss: Option<u32>,
    /// Metric, lower wins (1.1.0).
    #[serde(default, skip_serializing_if = "is_unset")]
    pub priority: Option<u32>,
    /// Routing table (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope, as rtnetlink(7) numbers it (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route with destination and next hop only.
    pub fn new(dst: IpNetwork, gw: Option<IpAddr>) -> Self {
        Self {
            dst,
            gw,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }
}

/// Name service settings (specification, "dns").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers, best first.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub domain: Option<String>,
    /// Domains to search.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether no field is set.
    pub fn is_empty(&self) -> bool {
        let domain = self.domain.as_deref().unwrap_or_default();
        domain.is_empty()
            && self.nameservers.is_empty()
            && self.search.is_empty()
            && self.options.is_empty()
    }
}

/// Texts and numbers for which empty or zero means "not set" in the reference's types.
trait Unset {
    fn unset(&self) -> bool;
}

impl Unset for String {
    fn unset(&self) -> bool {
        self.is_empty()
    }
}

impl Unset for u32 {
    fn unset(&self) -> bool {
        *self == 0
    }
}

fn is_unset<T: Unset>(value: &Option<T>) -> bool {
    value.as_ref().is_none_or(Unset::unset)
}

/// An address that must have its prefix length: a bare one is almost always a mistake.
fn cidr<'de, D: serde::Deserializer<'de>>(from: D) -> Result<IpNetwork, D::Error> {
    parse_cidr(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

/// Reads `ADDRESS/LENGTH`.
///
/// # Errors
/// The sentence to show when `text` is something else.
pub fn parse_cidr(text: &str) -> Result<IpNetwork, String> {
    let length = text.split_once('/').map(|(_, length)| length);
    let is_number = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| length.is_some_and(is_number))
        .ok_or_else(|| format!("{text:?} is not an address in CIDR notation like 192.0.2.10/24"))
}

/// A gateway; the empty text means none.
fn ip<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Option::<String>::deserialize(from)?.filter(|text| !text.is_empty());
    text.map(|text| {
        let invalid = |_| format!("{text:?} is not an IP address");
        text.parse()
            .map_err(invalid)
            .map_err(serde::de::Error::custom)
    })
    .transpose()
}

/// `null` where a list is expected: what Go writes for an empty one.
fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The shape of 0.3.0 and later; older fields are ignored, newer ones optional.
#[derive(Serialize, Deserialize)]
struct Current {
    #[serde(rename = "cniVersion", default)]
    version: String,
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    interfaces: Vec<Interface>,
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    ips: Vec<IpConfig>,
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    routes: Vec<Route>,
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Dns::is_empty"
    )]
    dns: Dns,
}

impl AddResult {
    /// The document `version` prescribes.
    ///
    /// # Errors
    /// Code 1 when 0.1.0 or 0.2.0 is asked for a result without an address, which
    /// these cannot express; code 104 when it cannot be encoded.
    pub fn to_json(&self, version: SpecVersion) -> Result<Value, CniError> {
        if version.has_one_address_per_family() {
            return legacy::to_json(self, version);
        }
        let mut current = Current {
            version: version.as_str().to_owned(),
            interfaces: self.interfaces.clone(),
            ips: self.ips.clone(),
            routes: self.routes.clone(),
            dns: self.dns.clone(),
        };
        let old = version < SpecVersion::V100;
        if old {
            current.interfaces = current.interfaces.into_iter().map(without_1_1_0).collect();
        }
        let mut document = encode(&current)?;
        if let (true, Some(object)) = (old, document.as_object_mut()) {
            add_fields_before_1_0_0(object);
        }
        Ok(document)
    }

    /// Reads a result of any version. `assumed` is the version when the document
    /// names none; `null` is an empty result.
    ///
    /// # Errors
    /// Code 6 for a document that is no result, code 1 for one of a version that is
    /// not supported.
    pub fn from_json(document: &Value, assumed: SpecVersion) -> Result<Self, CniError> {
        if document.is_null() {
            return Ok(Self::default());
        }
        // serde would take a list for a struct, field by field.
        if !document.is_object() {
            let msg = format!("cannot read result: {document} is no object");
            return Err(CniError::new(code::DECODE, msg));
        }
        let version = match document.get("cniVersion") {
            None | Some(Value::Null) => assumed,
            Some(Value::String(text)) if text.is_empty() => assumed,
            Some(named) => named
                .as_str()
                .and_then(SpecVersion::exactly)
                .ok_or_else(|| {
                    CniError::new(
                        code::VERSION,
                        format!("result has cniVersion {named}, which is not supported"),
                    )
                    .details(format!("the newest supported is {}", SpecVersion::NEWEST))
                })?,
        };
        let result = if version.has_one_address_per_family() {
            legacy::from_json(document)?
        } else {
            decode::<Current>(document)?.into()
        };
        result.check_indexes()
    }

    /// This result in a chain: what the plugins before made, then this (specification,
    /// "ADD": `prevResult` is passed on, changed only by what the plugin did).
    #[must_use]
    pub fn after(self, previous: &Self) -> Self {
        let known = previous.interfaces.len();
        let mut all = previous.clone();
        all.interfaces.extend(self.interfaces);
        all.ips.extend(self.ips.into_iter().map(|ip| IpConfig {
            interface: ip.interface.map(|index| index + known),
            ..ip
        }));
        all.routes.extend(self.routes);
        if !self.dns.is_empty() {
            all.dns = self.dns;
        }
        all
    }

    fn check_indexes(self) -> Result<Self, CniError> {
        let known = self.interfaces.len();
        match self
            .ips
            .iter()
            .find(|ip| ip.interface.is_some_and(|i| i >= known))
        {
            None => Ok(self),
            Some(ip) => Err(CniError::new(
                code::DECODE,
                format!(
                    "result gives address {} to interface {}, but has {known} interfaces",
                    ip.address,
                    ip.interface.unwrap_or_default(),
                ),
            )),
        }
    }
}

impl From<Current> for AddResult {
    fn from(from: Current) -> Self {
        let unset_to_none = |mut i: Interface| {
            for text in [
                &mut i.mac,
                &mut i.sandbox,
                &mut i.socket_path,
                &mut i.pci_id,
            ] {
                if is_unset(text) {
                    *text = None;
                }
            }
            i
        };
        Self {
            interfaces: from.interfaces.into_iter().map(unset_to_none).collect(),
            ips: from.ips,
            routes: from.routes,
            dns: from.dns,
        }
    }
}

fn without_1_1_0(interface: Interface) -> Interface {
    Interface {
        name: interface.name,
        mac: interface.mac,
        sandbox: interface.sandbox,
        ..Interface::default()
    }
}

/// Before 1.0.0 an address says its family, and `dns` is there even if empty.
fn add_fields_before_1_0_0(document: &mut Map<String, Value>) {
    let ips = document.get_mut("ips").and_then(Value::as_array_mut);
    for ip in ips.into_iter().flatten().filter_map(Value::as_object_mut) {
        let address = ip.get("address").and_then(Value::as_str);
        let is_v6 = address.is_some_and(|a| a.contains(':'));
        ip.insert("version".into(), if is_v6 { "6" } else { "4" }.into());
    }
    document
        .entry("dns")
        .or_insert_with(|| Value::Object(Map::new()));
}

fn encode<T: Serialize>(value: &T) -> Result<Value, CniError> {
    serde_json::to_value(value)
        .map_err(|e| CniError::new(code::INTERNAL, format!("cannot encode the result: {e}")))
}

fn decode<'de, T: Deserialize<'de>>(document: &'de Value) -> Result<T, CniError> {
    T::deserialize(document)
        .map_err(|e| CniError::new(code::DECODE, format!("cannot read result: {e}")))
}

#[cfg(test)]
mod tests;
