//! What a plugin's neighbours in the list, and the capabilities it declares, make of it.

use berth_cni::error::{CniError, code};
use berth_cni::ipam::foresee::Foreseen;
use berth_cni::keys::{self, KeySpec};
use berth_cni::steering::Cpus;
use berth_kernel::MacAddr;
use serde_json::{Map, Value};

use crate::conf::Conf;

/// A plugin among the others of its list.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The plugin, as written.
    pub(super) plugin: &'a Map<String, Value>,
    /// Those whose ADD comes first.
    pub(super) before: &'a [&'a Map<String, Value>],
    /// Those whose ADD comes later.
    pub(super) after: &'a [&'a Map<String, Value>],
}

/// The capabilities somebody here acts on: the plugin, and its IPAM.
const CAPABILITIES: [KeySpec; 5] = [
    KeySpec::built("bandwidth"),
    KeySpec::built("cgroupPath"),
    KeySpec::built("ipRanges"),
    KeySpec::built("ips"),
    KeySpec::built("mac"),
];

impl Place<'_> {
    fn declares(&self, capability: &str) -> bool {
        declares(self.plugin, capability)
    }
}

fn declares(plugin: &Map<String, Value>, capability: &str) -> bool {
    let declared = plugin
        .get("capabilities")
        .and_then(|all| all.get(capability));
    declared == Some(&Value::Bool(true))
}

fn is(plugin: &Map<String, Value>, kind: &str) -> bool {
    plugin.get("type").and_then(Value::as_str) == Some(kind)
}

/// What does not go together.
pub(super) fn problems(conf: &Conf, place: &Place<'_>) -> Vec<CniError> {
    let tuned = place.after.iter().filter(|plugin| is(plugin, "tuning"));
    let mut problems: Vec<CniError> = tuned.filter_map(|t| other_mac(conf, t)).collect();
    let mut others = place.before.iter().chain(place.after);
    if place.declares("bandwidth") && others.any(|plugin| is(plugin, "bandwidth")) {
        let declared = place.plugin.get("capabilities").unwrap_or(&Value::Null);
        problems.push(CniError::config(
            "capabilities",
            declared,
            "\"bandwidth\" is declared here, and plugin bandwidth is in the list: a limit \
             would be set twice",
            "take either out",
        ));
    }
    problems
}

/// An address that a later `tuning` gives the container's end, and that its port, which
/// was locked to another, does not let pass.
fn other_mac(conf: &Conf, tuning: &Map<String, Value>) -> Option<CniError> {
    if !conf.flags.locked {
        return None;
    }
    let in_args = tuning
        .get("args")
        .and_then(|args| args.get("cni")?.get("mac"));
    let (key, value) = [("mac", tuning.get("mac")), ("args.cni.mac", in_args)]
        .into_iter()
        .find_map(|(key, value)| Some((key, value?)))
        .filter(|(_, value)| value.as_str() != Some("") && !value.is_null())?;
    let theirs: Option<MacAddr> = value.as_str().and_then(|text| text.parse().ok());
    if theirs.is_some() && theirs == conf.mac {
        return None;
    }
    let error = CniError::new(
        code::CONFIG,
        format!(
            "invalid configuration: {key} = {value} of plugin tuning: \"macspoofchk\" is on, so \
             the port drops what the container sends from an address it is given later"
        ),
    );
    Some(error.details(
        "give the address in \"mac\" of this plugin and take it out of tuning, or set \
         \"macspoofchk\": false",
    ))
}

/// What is allowed and probably not meant.
pub(super) fn hints(conf: &Conf, ipam: &Foreseen, place: &Place<'_>) -> Vec<String> {
    let mut hints = Vec::new();
    let tuned = place.after.iter().filter(|plugin| is(plugin, "tuning"));
    let mtus = tuned.filter_map(|tuning| tuning.get("mtu")?.as_u64());
    for mtu in mtus.filter(|mtu| *mtu != 0 && conf.mtu.map(u64::from) != Some(*mtu)) {
        hints.push(format!(
            "plugin tuning sets mtu {mtu} in the container alone, and CHECK will name it: give \
             it in \"mtu\" of this plugin, for both ends"
        ));
    }
    let ips_missing = match ipam {
        Foreseen::Static(result) => result.ips.is_empty(),
        _ => false,
    };
    if ips_missing && !place.declares("ips") {
        hints.push(
            "key \"ipam\" has no addresses and capability \"ips\" is not declared: only \
             CNI_ARGS IP= can give one, without it ADD is refused"
                .into(),
        );
    }
    if conf.rps.cpus == Cpus::Auto && !place.declares("cgroupPath") {
        hints.push(
            "\"rps.cpus\" is auto and capability \"cgroupPath\" is not declared: the \
             container's own CPUs are not known, those near the uplink are taken"
                .into(),
        );
    }
    let tuned = place.after.iter().find(|plugin| is(plugin, "tuning"));
    if conf.flags.locked
        && !place.declares("mac")
        && tuned.is_some_and(|tuning| declares(tuning, "mac"))
    {
        hints.push(
            "plugin tuning declares capability \"mac\" and this plugin does not: an address \
             from the runtime would cut the container off; declare it here instead"
                .into(),
        );
    }
    hints.extend(declarations(place.plugin));
    hints
}

/// Declarations that do nothing as they are written.
fn declarations(plugin: &Map<String, Value>) -> Vec<String> {
    let Some(Value::Object(declared)) = plugin.get("capabilities") else {
        return Vec::new();
    };
    let mut hints = Vec::new();
    for (name, value) in declared {
        if !value.is_boolean() {
            hints.push(format!(
                "capabilities.{name} = {value} declares nothing: write true without quotes"
            ));
        }
        let one = Map::from_iter([(name.clone(), value.clone())]);
        if let Err(misspelt) = keys::check(&one, &CAPABILITIES) {
            hints.push(format!("capabilities: {}", misspelt.details));
        }
    }
    hints
}
