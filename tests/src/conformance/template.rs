//! What a plugin claims and how it says things: the template of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::call::VERSIONS;

/// A behaviour that a plugin may have. Its name in a template is the variant's in camel
/// case; there it has the keys that ask the plugin for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Feature {
    /// The bridge's name is chosen; `$value` is a name.
    Bridge,
    /// An access VLAN; `$value` is its number.
    Vlan,
    /// VLANs by their tags; `$value` is a list of `{"id"}` and `{"minID", "maxID"}`.
    Trunk,
    /// The port stays in the bridge's default VLAN.
    DefaultVlan,
    /// The MTU of both ends; `$value` is a number.
    Mtu,
    /// The MAC address by `CNI_ARGS`, `args.cni` and `runtimeConfig`; no keys.
    MacArguments,
    /// The node has the gateway's address.
    Gateway,
    /// And the container a default route by it.
    DefaultGateway,
    /// The gateway's address replaces another.
    ForceAddress,
    /// What leaves the subnet leaves with the node's address.
    Masquerade,
    /// Frames may leave by the port they came from.
    Hairpin,
    /// The bridge is promiscuous.
    Promiscuous,
    /// Ports do not reach each other.
    Isolation,
    /// Frames from another MAC address are dropped.
    SpoofCheck,
    /// The container's end is left down.
    InterfaceDown,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{self:?}");
        let (first, rest) = name.split_at(1);
        write!(f, "{}{rest}", first.to_lowercase())
    }
}

/// How VLANs are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// One bridge that filters them.
    VlanAware,
    /// A bridge for each.
    PerVlan,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VlanAware => "vlan-aware",
            Self::PerVlan => "per-vlan",
        })
    }
}

/// The kind of link that has the gateway's address of a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayKind {
    /// The bridge itself.
    Bridge,
    /// An 802.1Q device on it.
    Vlan,
    /// One end of a veth pair, whose other end is a port of it.
    Veth,
}

/// Names of links; `$vlan` in them is a VLAN's number.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// The bridge of an attachment without the feature `vlan`.
    pub untagged: String,
    /// The bridge of an attachment in a VLAN.
    pub vlan: String,
    /// The link with the gateway's address of a VLAN.
    pub gateway: String,
}

/// A configuration template; `docs/conformance-template.md` describes the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Template {
    /// How reports call it.
    pub name: String,
    /// Versions of the specification, oldest first.
    pub versions: Vec<String>,
    /// The configuration all others are made of.
    pub base: Map<String, Value>,
    /// How VLANs are kept apart.
    pub layout: Layout,
    /// What its links are called.
    pub names: Names,
    /// What has a VLAN's gateway address.
    pub gateway: GatewayKind,
    /// The untagged VLAN of a trunk that was given none.
    #[serde(default)]
    pub native_vlan: Option<u16>,
    /// Commands whose output shows every packet filter rule the plugin makes.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Facts that stay after the last DEL because the plugin's documentation says so; a
    /// `*` stands for anything.
    #[serde(default)]
    pub stays: Vec<String>,
    features: BTreeMap<Feature, Map<String, Value>>,
}

impl Template {
    /// Reads a template from a JSON file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("read the template {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("template {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let template: Self = serde_json::from_str(text)?;
        ensure!(!template.versions.is_empty(), "\"versions\" is empty");
        for version in &template.versions {
            ensure!(
                VERSIONS.contains(&version.as_str()),
                "\"versions\": {version:?} is none of {VERSIONS:?}"
            );
        }
        ensure!(
            template.versions.is_sorted(),
            "\"versions\" must be oldest first"
        );
        ensure!(
            template.base.get("type").is_some_and(Value::is_string),
            "\"base\" needs \"type\", the plugin's own"
        );
        Ok(template)
    }

    /// Whether the plugin claims `feature`.
    pub fn claims(&self, feature: Feature) -> bool {
        self.features.contains_key(&feature)
    }

    /// The newest version it knows.
    pub fn newest(&self) -> &str {
        self.versions.last().map_or("", String::as_str)
    }

    /// Puts the keys that ask for `feature` into `conf`, with `value` where they have one.
    pub fn ask(&self, conf: &mut Value, feature: Feature, value: &Value) {
        for (key, wish) in self.features.get(&feature).into_iter().flatten() {
            conf[key] = filled(wish, value);
        }
    }

    /// Whether the fact of this name may stay after the last DEL.
    pub fn may_stay(&self, fact: &str) -> bool {
        self.stays.iter().any(|pattern| matches(pattern, fact))
    }
}

fn filled(wish: &Value, value: &Value) -> Value {
    match wish {
        Value::String(text) if text == "$value" => value.clone(),
        Value::Array(list) => list.iter().map(|one| filled(one, value)).collect(),
        Value::Object(map) => {
            let filled = map.iter().map(|(k, one)| (k.clone(), filled(one, value)));
            Value::Object(filled.collect())
        }
        other => other.clone(),
    }
}

/// Whether `text` is as `pattern`, in which each `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(rest) = text.strip_prefix(head) else {
        return false;
    };
    let mut ends = (0..=rest.len()).filter(|at| rest.is_char_boundary(*at));
    ends.any(|at| matches(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns_hold_any_text_at_their_stars() {
        assert!(matches("link br0", "link br0"));
        assert!(!matches("link br0", "link br0.100"));
        assert!(matches("route *\"br0\"*", "route {\"dev\":\"br0\"}"));
        assert!(!matches("route *\"br0\"*", "route {\"dev\":\"br1\"}"));
        assert!(matches("*", ""));
    }

    #[test]
    fn keys_are_filled_with_the_value() {
        let text = json!({
            "name": "x", "versions": ["1.0.0"], "base": {"type": "x"}, "layout": "per-vlan",
            "names": {"untagged": "br0", "vlan": "br0.$vlan", "gateway": "br0"},
            "gateway": "bridge",
            "features": {"vlan": {"tag": {"id": "$value"}}, "hairpin": {"hair": true}},
        });
        let template = Template::parse(&text.to_string()).unwrap();
        let mut conf = json!({});
        template.ask(&mut conf, Feature::Vlan, &json!(7));
        template.ask(&mut conf, Feature::Hairpin, &json!(null));
        template.ask(&mut conf, Feature::Mtu, &json!(1400));
        assert_eq!(conf, json!({"tag": {"id": 7}, "hair": true}));
        assert!(template.claims(Feature::Vlan) && !template.claims(Feature::Mtu));
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        let fine = json!({
            "name": "x", "versions": ["1.0.0"], "base": {"type": "x"}, "layout": "per-vlan",
            "names": {"untagged": "br0", "vlan": "br0", "gateway": "br0"},
            "gateway": "bridge", "features": {},
        });
        assert!(Template::parse(&fine.to_string()).is_ok());
        for (key, value) in [
            ("features", json!({"vlans": {}})),
            ("versions", json!(["1.0"])),
            ("versions", json!([])),
            ("versions", json!(["1.1.0", "1.0.0"])),
            ("base", json!({})),
            ("extra", json!(1)),
        ] {
            let mut bad = fine.clone();
            bad[key] = value;
            assert!(Template::parse(&bad.to_string()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_templates_that_come_with_the_suite_can_be_read() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            names.push(Template::read(&entry.unwrap().path()).unwrap().name);
        }
        assert!(names.len() >= 3, "{names:?}");
    }
}
