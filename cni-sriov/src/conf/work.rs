//! Which CPUs work for the VF: its channels, interrupts and packets.

use berth_cni::error::CniError;
use berth_cni::fields::Fields;
use berth_cni::steering::{Cpus, Rps};
use berth_kernel::Root;
use berth_kernel::cpu::{self, CpuSet};
use berth_kernel::placement::vf::{IrqPlacement, IrqPolicy};
use serde_json::Value;

/// The CPUs that work for the VF, as wished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// How many combined channels.
    pub channels: Channels,
    /// Which CPUs its interrupts may arrive at.
    pub irq: IrqPolicy,
    /// Which of them are taken.
    pub placement: IrqPlacement,
    /// Which CPUs share received packets.
    pub rps: Rps,
    /// Which CPUs share packets to be sent.
    pub xps: Cpus,
}

/// How many combined channels the VF gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// As many as it has.
    Keep,
    /// One for each core of a pinned container, at most as many as it has.
    Auto,
    /// This many.
    Count(u32),
}

/// Reads the keys `channels`, `irq`, `rps` and `xps`.
pub(super) fn work(fields: &Fields<'_>) -> Result<Work, CniError> {
    let (irq, placement) = irq(fields)?;
    Ok(Work {
        channels: channels(fields)?,
        irq,
        placement,
        rps: Rps::of(fields)?,
        xps: Cpus::of_xps(fields)?,
    })
}

impl Work {
    /// Refuses CPUs that are not online, in any of the lists.
    pub fn must_be_online(&self, root: &Root) -> Result<(), CniError> {
        let online = cpu::online(root)?;
        self.rps.cpus.must_be_online("rps.cpus", &online)?;
        self.xps.must_be_online("xps.cpus", &online)?;
        match &self.irq {
            IrqPolicy::Cpus(cpus) => Cpus::List(cpus.clone()).must_be_online("irq.cpus", &online),
            _ => Ok(()),
        }
    }
}

fn channels(fields: &Fields<'_>) -> Result<Channels, CniError> {
    let count = match fields.value("channels") {
        None => return Ok(Channels::Keep),
        Some(Value::String(text)) if text == "auto" => return Ok(Channels::Auto),
        Some(value) => value.as_u64().and_then(|count| u32::try_from(count).ok()),
    };
    let count = count.filter(|count| *count > 0);
    count.map(Channels::Count).ok_or_else(|| {
        fields.invalid(
            "channels",
            "want \"auto\" or a number of combined channels from 1",
        )
    })
}

/// The policy's words; `cpus` brings its list along.
const POLICIES: [&str; 6] = ["cpuset", "numa", "spread", "single", "cpus", "off"];

const PLACEMENTS: [(&str, IrqPlacement); 4] = [
    ("own", IrqPlacement::Own),
    ("first", IrqPlacement::First),
    ("sibling", IrqPlacement::Sibling),
    ("housekeeping", IrqPlacement::Housekeeping),
];

fn irq(fields: &Fields<'_>) -> Result<(IrqPolicy, IrqPlacement), CniError> {
    let Some(irq) = fields.object("irq")? else {
        return Ok((IrqPolicy::Cpuset, IrqPlacement::Own));
    };
    let known = ["policy", "placement", "cpus"];
    if let Some(key) = irq.keys().find(|key| !known.contains(key)) {
        let want = "unknown; \"irq\" takes \"policy\", \"placement\" and \"cpus\"";
        return Err(irq.invalid(key, want));
    }
    let words = POLICIES.map(|word| (word, word));
    let cpus = cpus(&irq)?;
    // A list alone says which policy is meant.
    let word = match (irq.choice("policy", &words)?, &cpus) {
        (None, Some(_)) => "cpus",
        (word, _) => word.unwrap_or("cpuset"),
    };
    let policy = match (word, cpus) {
        ("cpus", Some(cpus)) => IrqPolicy::Cpus(cpus),
        ("cpus", None) => return Err(irq.invalid("policy", "goes with a list in \"irq.cpus\"")),
        (_, Some(_)) => return Err(irq.invalid("cpus", "goes with \"policy\": \"cpus\" only")),
        ("numa", None) => IrqPolicy::Numa,
        ("spread", None) => IrqPolicy::Spread,
        ("single", None) => IrqPolicy::Single,
        ("off", None) => IrqPolicy::Off,
        (_, None) => IrqPolicy::Cpuset,
    };
    let placement = irq.choice("placement", &PLACEMENTS)?;
    match (&policy, placement) {
        (IrqPolicy::Cpus(_), Some(IrqPlacement::Housekeeping)) => Err(irq.invalid(
            "placement",
            "goes without \"irq.cpus\": either says where interrupts arrive",
        )),
        _ => Ok((policy, placement.unwrap_or(IrqPlacement::Own))),
    }
}

fn cpus(irq: &Fields<'_>) -> Result<Option<CpuSet>, CniError> {
    let Some(text) = irq.text("cpus")? else {
        return Ok(None);
    };
    match text.parse::<CpuSet>() {
        Ok(cpus) if !cpus.is_empty() => Ok(Some(cpus)),
        _ => Err(irq.invalid("cpus", "want a list of CPUs like \"2-5,8\"")),
    }
}
