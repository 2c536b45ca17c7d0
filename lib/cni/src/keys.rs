//! The keys of a configuration: a misspelt one of ours is refused with the right
//! spelling, one that this build cannot honour is refused when it asks for
//! something, and what others inject passes with a note.

use serde_json::{Map, Value};

use crate::error::{CniError, code};

/// A value by which a key asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Inactive {
    /// A boolean.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A text.
    Str(&'static str),
    /// `[]` or `{}`.
    Empty,
}

impl Inactive {
    fn is(self, value: &Value) -> bool {
        match self {
            Self::Bool(b) => value.as_bool() == Some(b),
            Self::Int(i) => value.as_i64() == Some(i),
            Self::Str(s) => value.as_str() == Some(s),
            Self::Empty => {
                value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(Map::is_empty)
            }
        }
    }
}

/// One key a plugin knows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeySpec {
    /// The one right spelling.
    pub name: &'static str,
    /// Whether this build honours it.
    pub built: bool,
    /// Values that ask for nothing, accepted though the key is not built; `null` is
    /// always one.
    pub inactive: &'static [Inactive],
    /// Wrong spellings that are too far from `name` to be recognised by likeness.
    pub mistaken: &'static [&'static str],
}

impl KeySpec {
    /// A key that is honoured.
    pub const fn built(name: &'static str) -> Self {
        Self {
            name,
            built: true,
            inactive: &[],
            mistaken: &[],
        }
    }

    /// A key that will be honoured by a later version.
    pub const fn unbuilt(name: &'static str, inactive: &'static [Inactive]) -> Self {
        Self {
            name,
            built: false,
            inactive,
            mistaken: &[],
        }
    }

    /// Adds names people write instead of this one.
    #[must_use]
    pub const fn mistaken_for(mut self, names: &'static [&'static str]) -> Self {
        self.mistaken = names;
        self
    }
}

/// Keys of the specification and of this library, which every plugin has.
pub const COMMON: [KeySpec; 15] = [
    KeySpec::built("args"),
    KeySpec::built("capabilities"),
    KeySpec::built("cniVersion"),
    KeySpec::built("cniVersions"),
    KeySpec::built("disableCheck"),
    KeySpec::built("disableGC"),
    KeySpec::built("dns"),
    KeySpec::built("ipam"),
    KeySpec::built("loadOnlyInlinedPlugins"),
    KeySpec::built("logFile"),
    KeySpec::built("logLevel"),
    KeySpec::built("name"),
    KeySpec::built("prevResult"),
    KeySpec::built("runtimeConfig"),
    KeySpec::built("type"),
];

/// Keys other software puts into configurations, never taken for a misspelt one.
const INJECTED: [&str; 6] = [
    "deviceID",
    "pciBusID",
    "resourceName",
    "delegates",
    "clusterNetwork",
    "plugins",
];

/// Looks at every key of `raw`. The notes name keys that are nobody's here.
///
/// # Errors
/// Code 7 for a misspelt key of ours, code 2 for an active key that is not built.
pub fn check(raw: &Map<String, Value>, own: &[KeySpec]) -> Result<Vec<String>, CniError> {
    let mut notes = Vec::new();
    for (key, value) in raw {
        if let Some(spec) = find(own, key) {
            refuse_unbuilt(spec, value)?;
        } else if let Some(spec) = find_like(own, key) {
            return Err(misspelt(key, value, spec.name));
        } else if !COMMON.iter().any(|spec| spec.name == key) {
            notes.push(format!("key {key:?} is not known here and has no effect"));
        }
    }
    Ok(notes)
}

fn find<'a>(own: &'a [KeySpec], key: &str) -> Option<&'a KeySpec> {
    own.iter().find(|spec| spec.name == key)
}

/// The key of ours that `key` was probably meant to be.
fn find_like<'a>(own: &'a [KeySpec], key: &str) -> Option<&'a KeySpec> {
    let foreign = INJECTED.contains(&key)
        || key.starts_with("cni.dev/")
        || COMMON.iter().any(|spec| spec.name == key);
    if foreign {
        return None;
    }
    let given = plain(key);
    let all = || own.iter().chain(&COMMON);
    all()
        .find(|spec| plain(spec.name) == given || spec.mistaken.contains(&key))
        .or_else(|| all().find(|spec| is_like(&plain(spec.name), &given)))
}

fn refuse_unbuilt(spec: &KeySpec, value: &Value) -> Result<(), CniError> {
    let asks_nothing = value.is_null() || spec.inactive.iter().any(|i| i.is(value));
    if spec.built || asks_nothing {
        return Ok(());
    }
    Err(CniError::unsupported(
        spec.name,
        value,
        format!(
            "remove the key {:?}: this version does not have it yet",
            spec.name
        ),
    ))
}

fn misspelt(key: &str, value: &Value, right: &str) -> CniError {
    let msg =
        format!("invalid configuration: {key} = {value}: no such key, did you mean {right:?}?");
    CniError::new(code::CONFIG, msg).details(format!(
        "rename {key:?} to {right:?}; keys are case-sensitive"
    ))
}

/// The key without what people vary: case, `-`, `_`, `.` and blanks.
fn plain(key: &str) -> Vec<char> {
    key.chars()
        .filter(|c| !matches!(c, '-' | '_' | '.' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Whether `given` is within a typing error of `ours`: one edit in names of four
/// letters or more, two in names of eight or more. Shorter names are too close to
/// each other (`mac`, `max`).
fn is_like(ours: &[char], given: &[char]) -> bool {
    let allowed = match ours.len().min(given.len()) {
        0..=3 => return false,
        4..=7 => 1,
        _ => 2,
    };
    distance(ours, given) <= allowed
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one into
/// the other (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(from != to))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OWN: [KeySpec; 8] = [
        KeySpec::built("bridge"),
        KeySpec::built("vlan").mistaken_for(&["vlanId"]),
        KeySpec::built("vlanTrunk"),
        KeySpec::built("max_tx_rate"),
        KeySpec::built("spoofchk"),
        KeySpec::built("mac"),
        KeySpec::built("mtu"),
        KeySpec::unbuilt("ipMasq", &[Inactive::Bool(false)]),
    ];

    fn check(config: Value) -> Result<Vec<String>, CniError> {
        super::check(config.as_object().unwrap(), &OWN)
    }

    #[test]
    fn a_near_miss_is_refused_with_the_right_spelling() {
        for (wrong, right) in [
            ("max-tx-rate", "max_tx_rate"),
            ("maxTxRate", "max_tx_rate"),
            ("VLAN", "vlan"),
            ("Vlan", "vlan"),
            ("vlna", "vlan"),
            ("vlans", "vlan"),
            ("vlanId", "vlan"),
            ("vlan_trunk", "vlanTrunk"),
            ("vlanTrunks", "vlanTrunk"),
            ("spoofCheck", "spoofchk"),
            ("spoofChk", "spoofchk"),
            ("MTU", "mtu"),
            ("IPAM", "ipam"),
            ("ip-masq", "ipMasq"),
            ("runtimeconfig", "runtimeConfig"),
            ("log_level", "logLevel"),
        ] {
            let error = check(json!({wrong: 1})).unwrap_err();
            assert_eq!(error.code, code::CONFIG, "{wrong}");
            assert!(
                error.msg.contains(&format!("{right:?}")),
                "{wrong}: {error}"
            );
            assert!(error.msg.contains(wrong), "{wrong}: {error}");
        }
    }

    #[test]
    fn right_and_common_keys_pass_without_a_note() {
        let config = json!({"cniVersion": "1.0.0", "name": "n", "type": "t", "bridge": "b",
            "vlan": 1, "mac": "x", "ipam": {}, "args": {}, "capabilities": {}, "dns": {},
            "prevResult": {}, "runtimeConfig": {}, "logLevel": "info"});
        assert_eq!(check(config), Ok(vec![]));
    }

    #[test]
    fn what_others_inject_passes_with_a_note() {
        for key in [
            "deviceID",
            "pciBusID",
            "cni.dev/valid-attachments",
            "cni.dev/vlan",
            "kubernetes",
            "max",
            "mode",
            "x",
            "isolate",
            "rate",
        ] {
            let notes = check(json!({key: 1})).unwrap();
            assert_eq!(notes.len(), 1, "{key}");
            assert!(notes[0].contains(key));
        }
    }

    #[test]
    fn an_unbuilt_key_is_refused_only_when_it_asks_for_something() {
        for nothing in [json!(false), json!(null)] {
            assert_eq!(check(json!({"ipMasq": nothing})), Ok(vec![]));
        }
        let error = check(json!({"ipMasq": true})).unwrap_err();
        assert_eq!(error.code, code::UNSUPPORTED);
        assert!(error.msg.contains("ipMasq = true"), "{error}");
    }

    #[test]
    fn every_kind_of_inactive_value_is_recognised() {
        for (inactive, yes, no) in [
            (Inactive::Bool(true), json!(true), json!(false)),
            (Inactive::Int(0), json!(0), json!(1)),
            (Inactive::Str("keep"), json!("keep"), json!("off")),
            (Inactive::Empty, json!([]), json!([1])),
            (Inactive::Empty, json!({}), json!({"a": 1})),
        ] {
            assert!(inactive.is(&yes), "{inactive:?}");
            assert!(!inactive.is(&no), "{inactive:?}");
        }
    }

    #[test]
    fn distance_counts_edits_and_swaps() {
        let of = |a: &str, b: &str| distance(&plain(a), &plain(b));
        assert_eq!(of("vlan", "vlan"), 0);
        assert_eq!(of("vlan", "vlna"), 1);
        assert_eq!(of("spoofchk", "spoofcheck"), 2);
        assert_eq!(of("", "abc"), 3);
        assert_eq!(of("abc", ""), 3);
        assert_eq!(of("kitten", "sitting"), 3);
    }
}
