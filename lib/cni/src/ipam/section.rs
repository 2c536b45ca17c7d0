//! What the built-ins read alike: lists in `ipam`, and the addresses the runtime asks
//! for.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{CniError, code};
use crate::request::{Argument, Config};
use crate::version::SpecVersion;

/// Texts in a list (capability, `args.cni`) or between commas (`CNI_ARGS`).
pub(super) fn texts(argument: &Argument) -> Result<Vec<String>, CniError> {
    let not_texts = || refused(argument, "it must be a list of texts");
    match &argument.value {
        Value::String(text) => Ok(text.split(',').map(|t| t.trim().to_owned()).collect()),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(not_texts))
            .collect(),
        _ => Err(not_texts()),
    }
}

/// The error for what the runtime passes and cannot be used.
pub(super) fn refused(argument: &Argument, reason: &str) -> CniError {
    let error = CniError::config(
        &argument.origin,
        &argument.value,
        reason,
        "correct what the scheduler passes",
    );
    if argument.origin.starts_with("CNI_ARGS") {
        CniError {
            code: code::ENV,
            ..error
        }
    } else {
        error
    }
}

/// 0.1.0 and 0.2.0 have one address per family in their result.
pub(super) fn check_count(version: SpecVersion, v4: usize, v6: usize) -> Result<(), CniError> {
    if version.has_one_address_per_family() && (v4 > 1 || v6 > 1) {
        return Err(CniError::new(
            code::VERSION,
            format!("CNI version {version} does not support more than 1 address per family"),
        )
        .details("set cniVersion to 0.3.1 or later"));
    }
    Ok(())
}

/// The list at `ipam.key`, empty if absent.
pub(super) fn list<T: DeserializeOwned>(config: &Config, key: &str) -> Result<Vec<T>, CniError> {
    let items = match config.raw.get("ipam").and_then(|ipam| ipam.get(key)) {
        None | Some(Value::Null) => return Ok(vec![]),
        Some(Value::Array(items)) => items,
        Some(other) => {
            return Err(CniError::config(
                format_args!("ipam.{key}"),
                other,
                "it must be a list",
                "write [...]",
            ));
        }
    };
    let item = |(index, item)| decode(&format!("ipam.{key}[{index}]"), item);
    items.iter().enumerate().map(item).collect()
}

/// A value as a `T`; the error names `key`.
pub(super) fn decode<T: DeserializeOwned>(key: &str, value: &Value) -> Result<T, CniError> {
    T::deserialize(value).map_err(|e| CniError::config(key, value, e, "correct the value"))
}
