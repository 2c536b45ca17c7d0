//! What stood in the kernel before us: written before a knob is first changed, so that
//! a release knows what to bring back.

use std::collections::BTreeMap;

use berth_state::format;
use serde::{Deserialize, Serialize};

use super::Damaged;
use super::files::{self, Place};
use crate::engine::knob::{Knob, Value};
use crate::refusal::Refusal;

const FORMAT: u64 = 1;

/// Settings as we found them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Before {
    /// The boot they were found in; set by the store.
    pub(crate) boot_id: String,
    /// The generation when they were written; set by the store.
    #[serde(default)]
    pub(crate) generation: u64,
    /// Each changed knob with its earlier setting.
    #[serde(with = "pairs")]
    pub(crate) entries: BTreeMap<Knob, Value>,
}

impl Before {
    /// The earlier setting of a knob.
    pub(crate) fn get(&self, knob: &Knob) -> Option<&Value> {
        self.entries.get(knob)
    }
}

/// A map as a list of pairs: JSON's own maps have only texts as keys.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::engine::knob::{Knob, Value};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<Knob, Value>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Knob, Value>, D::Error> {
        let pairs = Vec::<(Knob, Value)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().collect())
    }
}

/// Whether a setting is still there after a reboot: projects and their quotas are on
/// the disk, all else is the kernel's.
fn outlives_boot(knob: &Knob) -> bool {
    matches!(knob, Knob::Project { .. } | Knob::Quota { .. })
}

/// What is stored, without what this boot never had; and the file itself if it cannot
/// be used.
pub(super) fn read(place: &Place, boot_id: &str) -> (Before, Option<Damaged>) {
    let path = place.before();
    let mut before: Before = match format::read(&path, FORMAT) {
        Ok(before) => before.unwrap_or_default(),
        Err(error) => {
            let reason = error.to_string();
            return (Before::default(), Some(Damaged { path, reason }));
        }
    };
    if before.boot_id != boot_id {
        before.entries.retain(|knob, _| outlives_boot(knob));
        boot_id.clone_into(&mut before.boot_id);
    }
    (before, None)
}

pub(super) fn write(place: &Place, before: &Before) -> Result<(), Refusal> {
    let path = place.before();
    let bytes = format::write(&path, FORMAT, before)
        .map_err(|error| files::failed("write what stood before", &error))?;
    files::replace(&path, &bytes)
}
