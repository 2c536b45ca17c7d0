//! The configuration of `host-local`, as the reference's keys have it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use berth_kernel::Root;
use berth_state::lease::Pool;
use serde_json::Value;

use super::ranges::{KEYS, Range, RangeSet};
use super::resolv;
use crate::error::CniError;
use crate::fields::Fields;
use crate::ipam::section::{check_count, list, refused, texts};
use crate::keys::{self, KeySpec};
use crate::request::{Call, Config, Request};
use crate::result::{Dns, Route};

/// Every key of `ipam` there is.
const OWN_KEYS: [KeySpec; 9] = [
    KeySpec::built("type"),
    KeySpec::built("ranges").mistaken_for(&["range", "rangeSets"]),
    KeySpec::built("subnet"),
    KeySpec::built("rangeStart"),
    KeySpec::built("rangeEnd"),
    KeySpec::built("gateway").mistaken_for(&["gw"]),
    KeySpec::built("routes"),
    KeySpec::built("dataDir"),
    KeySpec::built("resolvConf"),
];

/// What is to be given out.
#[derive(Debug, PartialEq)]
pub(super) struct Conf {
    /// One address comes from each.
    pub(super) sets: Vec<RangeSet>,
    pub(super) routes: Vec<Route>,
    pub(super) dns: Dns,
}

impl Conf {
    /// Reads and checks all of it.
    pub(super) fn of(call: &Call) -> Result<Self, CniError> {
        let config = &call.config;
        let raw = Fields::of(&config.raw);
        let ipam = raw
            .object("ipam")?
            .ok_or_else(|| raw.invalid("ipam", "it is missing"))?;
        if let Some(Value::Object(map)) = raw.value("ipam") {
            for note in keys::check(map, &OWN_KEYS).map_err(|error| error.context("ipam"))? {
                call.log().info(format_args!("ipam: {note}"));
            }
        }
        data_dir_to_use(&ipam)?;
        let sets = sets(&raw, &ipam)?;
        let v4 = sets.iter().filter(|set| set.is_v4()).count();
        check_count(config.version, v4, sets.len() - v4)?;
        let file = ipam.text("resolvConf")?.filter(|file| !file.is_empty());
        Ok(Self {
            sets,
            routes: list::<Route>(config, "routes")?,
            dns: match file {
                None => Dns::default(),
                Some(file) => resolv::read(Path::new(file))
                    .map_err(|error| ipam.invalid("resolvConf", error))?,
            },
        })
    }
}

/// The network's pool. DEL and GC need nothing else of the configuration, so this
/// takes a wrong one as it comes.
pub(super) fn pool(root: &Root, config: &Config) -> Pool {
    let own = config.raw.get("ipam").and_then(|ipam| ipam.get("dataDir"));
    let own = own.and_then(Value::as_str).filter(|dir| !dir.is_empty());
    let own = own.map(PathBuf::from);
    Pool::new(root, own.as_deref(), &config.name)
}

fn data_dir_to_use(ipam: &Fields<'_>) -> Result<(), CniError> {
    match ipam.text("dataDir")? {
        Some(dir) if !dir.is_empty() && !dir.starts_with('/') => {
            Err(ipam.invalid("dataDir", "want an absolute path"))
        }
        _ => Ok(()),
    }
}

/// The sets in the order in which addresses are given: of the runtime, of the old
/// single range, of `ranges`.
fn sets(raw: &Fields<'_>, ipam: &Fields<'_>) -> Result<Vec<RangeSet>, CniError> {
    let mut sets = Vec::new();
    if let Some(runtime) = raw.object("runtimeConfig")? {
        sets.extend(sets_at(&runtime, "ipRanges")?);
    }
    if ipam.value("subnet").is_some() {
        let name = ipam.name("subnet");
        sets.push(RangeSet::new(name, vec![Range::of(ipam)?])?);
    } else if let Some(key) = KEYS.iter().find(|key| ipam.value(key).is_some()) {
        let reason = "it belongs to ipam.subnet, which is not set: put it into the range of \
                      ipam.ranges it is meant for";
        return Err(ipam.invalid(key, reason));
    }
    sets.extend(sets_at(ipam, "ranges")?);
    if sets.is_empty() {
        let reason = "no IP ranges specified: want a list of lists like \
                      [[{\"subnet\": \"192.0.2.0/24\"}]]";
        return Err(ipam.invalid("ranges", reason));
    }
    for (index, one) in sets.iter().enumerate() {
        if let Some(other) = sets
            .iter()
            .skip(index + 1)
            .find(|other| one.overlaps(other))
        {
            return Err(CniError::config(
                one.name(),
                &one.to_string().into(),
                format!("range set {} ({other}) overlaps with it", other.name()),
                "give them ranges without a common address",
            ));
        }
    }
    Ok(sets)
}

fn sets_at(fields: &Fields<'_>, key: &str) -> Result<Vec<RangeSet>, CniError> {
    let shape = "want a list of range sets, each itself a list, like \
                 [[{\"subnet\": \"192.0.2.0/24\"}]]";
    let items = match fields.value(key) {
        None => return Ok(Vec::new()),
        Some(value) => value.as_array().ok_or_else(|| fields.invalid(key, shape))?,
    };
    let set = |(index, item): (usize, &Value)| {
        let name = format!("{}[{index}]", fields.name(key));
        let ranges = item.as_array().ok_or_else(|| fields.invalid(key, shape))?;
        let range = |(index, range): (usize, &Value)| {
            let fields = Fields::item(&format!("{name}[{index}]"), range)?;
            known_keys(&fields)?;
            Range::of(&fields)
        };
        let ranges = ranges.iter().enumerate().map(range);
        let ranges = ranges.collect::<Result<_, _>>()?;
        RangeSet::new(name, ranges)
    };
    items.iter().enumerate().map(set).collect()
}

/// A misspelt `rangeStart` would quietly give out addresses that are not meant.
fn known_keys(range: &Fields<'_>) -> Result<(), CniError> {
    match range.keys().find(|key| !KEYS.contains(key)) {
        Some(key) => {
            let reason = format!("no such key: a range has {}", KEYS.join(", "));
            Err(range.invalid(key, reason))
        }
        None => Ok(()),
    }
}

/// The addresses the runtime asks for, each at its set's place.
pub(super) fn asked(request: &Request, sets: &[RangeSet]) -> Result<Vec<Option<IpAddr>>, CniError> {
    let mut asked = vec![None; sets.len()];
    let Some(argument) = request.argument_at_runtime("ips") else {
        return Ok(asked);
    };
    for text in texts(&argument)? {
        let wrong = |reason: String| refused(&argument, &reason);
        // The prefix is the subnet's, whatever is said here.
        let bare = text.split_once('/').map_or(text.as_str(), |(bare, _)| bare);
        let address: IpAddr = bare
            .parse()
            .map_err(|_not_an_address| wrong(format!("{text:?} is not an IP address")))?;
        let address = address.to_canonical();
        let found = sets
            .iter()
            .zip(&mut asked)
            .find(|(set, _)| set.contains(address));
        let Some((set, place)) = found else {
            let all: Vec<String> = sets.iter().map(ToString::to_string).collect();
            return Err(wrong(format!(
                "{address} is in none of the network's ranges {}",
                all.join("; ")
            )));
        };
        if let Some(what) = set.reserved(address) {
            return Err(wrong(format!("{address} is its subnet's {what}")));
        }
        match place.replace(address) {
            None => {}
            Some(other) if other == address => {
                return Err(wrong(format!("{address} is asked for twice")));
            }
            Some(other) => {
                return Err(wrong(format!(
                    "{other} and {address} are both of range set {} ({set}), which gives one address",
                    set.name()
                )));
            }
        }
    }
    Ok(asked)
}
