//! Which VF: by its PCI address, or by its PF and what to choose there.

use std::fmt;
use std::str::FromStr;

use berth_cni::error::CniError;
use berth_cni::fields::Fields;
use berth_cni::request::Argument;
use berth_kernel::{IfName, PciAddr};
use serde_json::Value;

/// Which VF is wished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// This one, if a scheduler or the operator chose already.
    pub address: Option<PciAddr>,
    /// Its PF must be one of these; empty only if `address` is given.
    pub masters: Vec<Master>,
    /// The one of this index, from 0.
    pub index: Option<u32>,
    /// Which one to take where there is a choice.
    pub policy: Policy,
}

/// A PF, as the operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Master {
    /// By its interface.
    Name(IfName),
    /// By its PCI address.
    Address(PciAddr),
}

impl FromStr for Master {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        match text.parse() {
            Ok(name) => Ok(Self::Name(name)),
            Err(reason) => Err(format!(
                "{reason}; want a PF's interface like \"eth2\" or PCI address like \"0000:01:00.0\""
            )),
        }
    }
}

impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Which free VF is taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// From PFs on a NUMA node of the container's CPUs; else, and among them, as `Pack`.
    #[default]
    Numa,
    /// From the PF with the fewest free ones: other PFs stay whole.
    Pack,
    /// From the PF with the most free ones: each shares its wire with few.
    Spread,
}

const POLICIES: [(&str, Policy); 3] = [
    ("numa", Policy::Numa),
    ("pack", Policy::Pack),
    ("spread", Policy::Spread),
];

/// Reads the keys that say which VF. `given` is `deviceID` from wherever it came.
pub(super) fn device(fields: &Fields<'_>, given: Option<Argument>) -> Result<Device, CniError> {
    let device = Device {
        address: given.map(address).transpose()?,
        masters: masters(fields)?,
        index: index(fields)?,
        policy: fields.choice("policy", &POLICIES)?.unwrap_or_default(),
    };
    if device.address.is_none() && device.masters.is_empty() {
        return Err(fields.invalid(
            "master",
            "no VF is named: give a PF here, or a VF's PCI address in key \"deviceID\"",
        ));
    }
    if device.index.is_some() {
        match device.masters.as_slice() {
            [_] if device.address.is_none() => {}
            [_] => return Err(fields.invalid("vf", "goes without \"deviceID\"")),
            _ => return Err(fields.invalid("vf", "name the one PF it counts at in \"master\"")),
        }
    }
    Ok(device)
}

fn address(given: Argument) -> Result<PciAddr, CniError> {
    let parsed = given.value.as_str().map(str::parse::<PciAddr>);
    match parsed {
        Some(Ok(address)) => Ok(address),
        other => {
            let reason = match other {
                Some(Err(reason)) => reason.to_string(),
                _ => "want a text in quotes".to_owned(),
            };
            let next = "give the VF's PCI address like 0000:01:10.0; `berth vf list` shows them";
            Err(CniError::config(&given.origin, &given.value, reason, next))
        }
    }
}

/// One PF, or a list of them.
fn masters(fields: &Fields<'_>) -> Result<Vec<Master>, CniError> {
    let want = "want a PF, or a list of PFs, each by interface or PCI address";
    let texts: Vec<&str> = match fields.value("master") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => {
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            texts
                .filter(|texts| !texts.is_empty())
                .ok_or_else(|| fields.invalid("master", want))?
        }
        Some(_) => return Err(fields.invalid("master", want)),
    };
    let parse = |text: &str| {
        text.parse()
            .map_err(|reason: String| fields.invalid("master", reason))
    };
    texts.into_iter().map(parse).collect()
}

fn index(fields: &Fields<'_>) -> Result<Option<u32>, CniError> {
    let Some(number) = fields.whole("vf")? else {
        return Ok(None);
    };
    u32::try_from(number)
        .map(Some)
        .map_err(|_negative| fields.invalid("vf", "want the VF's index at its PF, counted from 0"))
}
