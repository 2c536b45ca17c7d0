//! JSON merge patch (RFC 7396) of a spec: members replace members, `null` deletes,
//! lists are replaced as a whole.

use serde_json::{Map, Value};

use super::{Spec, read};
use crate::fields::{Fields, invalid};
use crate::refusal::{Code, Refusal};

/// The spec with the patch merged in. A misspelt key is refused also where it deletes.
///
/// # Errors
/// The patch is no object, names a key that does not exist, changes `id`, or its
/// result is no valid spec.
pub(crate) fn merge(spec: &Spec, patch: &Value) -> Result<Spec, Refusal> {
    check(spec, patch)?;
    let mut merged = serde_json::to_value(spec).map_err(|error| {
        let object = format!("workload {}", spec.id);
        let next = "PUT the whole spec";
        Refusal::new(Code::Invalid, object, "PATCH", error.to_string(), next)
    })?;
    merge_into(&mut merged, patch);
    read::spec(&spec.id, &merged)
}

fn check(spec: &Spec, patch: &Value) -> Result<(), Refusal> {
    Fields::of("", patch, &read::KEYS)?;
    let nested: [(&str, &[&str]); 4] = [
        ("target", &read::TARGET),
        ("cpu", &read::CPU),
        ("memory", &read::MEMORY),
        ("network", &read::NETWORK),
    ];
    for (key, keys) in nested {
        if let Some(value @ Value::Object(_)) = patch.get(key) {
            Fields::of(key, value, keys)?;
        }
    }
    match patch.get("id") {
        Some(id) if id.as_str() != Some(spec.id.as_str()) => {
            let next = "PUT a new workload and DELETE this one";
            Err(invalid("id", id, "a workload keeps its id", next))
        }
        _ => Ok(()),
    }
}

/// `MergePatch` of RFC 7396, section 2.
fn merge_into(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge_into(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests;
