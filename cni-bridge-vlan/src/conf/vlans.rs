//! The VLANs of a port: keys `vlan` and `vlanTrunk`.

use berth_cni::error::{CniError, code};
use berth_cni::fields::Fields;
use berth_kernel::VlanId;
use berth_kernel::netlink::VlanRange;
use serde_json::Value;

/// 0 means no VLAN, as in the reference plugin.
pub(super) fn native(fields: &Fields<'_>) -> Result<Option<VlanId>, CniError> {
    let Some(number) = fields.whole("vlan")? else {
        return Ok(None);
    };
    if number == 0 {
        return Ok(None);
    }
    let id = u16::try_from(number)
        .ok()
        .and_then(|id| VlanId::try_from(id).ok());
    id.map(Some).ok_or_else(|| {
        CniError::new(
            code::CONFIG,
            format!("invalid VLAN ID {number} (must be between 0 and 4094)"),
        )
        .details("key \"vlan\"; leave it out for a plain untagged bridge")
    })
}

/// The tagged VLANs, less the untagged one: a list of `{"id": N}` and `{"minID": N,
/// "maxID": N}`, as the reference plugin has it, with its words where they are refused.
pub(super) fn trunk(fields: &Fields<'_>) -> Result<Vec<VlanRange>, CniError> {
    let invalid = |reason: &str| fields.invalid("vlanTrunk", reason);
    let items = match fields.value("vlanTrunk") {
        None => return Ok(vec![]),
        Some(Value::Array(items)) => items,
        Some(_) => {
            return Err(invalid(
                "want a list of {\"id\": N} or {\"minID\": N, \"maxID\": N}",
            ));
        }
    };
    let mut ids: Vec<VlanId> = Vec::new();
    for item in items {
        let item = item
            .as_object()
            .ok_or_else(|| invalid("want objects in the list"))?;
        let unknown = item
            .keys()
            .find(|key| !["id", "minID", "maxID"].contains(&key.as_str()));
        if let Some(key) = unknown {
            return Err(invalid(&format!(
                "{key:?} is none of \"id\", \"minID\", \"maxID\""
            )));
        }
        let id = |key: &str, reason: &str| match item.get(key).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => vid(value).map(Some).ok_or_else(|| invalid(reason)),
        };
        match (
            id("minID", "incorrect trunk minID parameter")?,
            id("maxID", "incorrect trunk maxID parameter")?,
        ) {
            (Some(first), Some(last)) if first > last => {
                return Err(invalid("minID is greater than maxID in trunk parameter"));
            }
            (Some(first), Some(last)) => ids.extend(VlanRange { first, last }.ids()),
            (None, Some(_)) => return Err(invalid("minID parameter is missing")),
            (Some(_), None) => return Err(invalid("maxID parameter is missing")),
            (None, None) => {}
        }
        ids.extend(id("id", "incorrect trunk id parameter")?);
    }
    let native = native(fields)?;
    ids.retain(|id| Some(*id) != native);
    Ok(VlanRange::of(ids))
}

fn vid(value: &Value) -> Option<VlanId> {
    let number = u16::try_from(value.as_u64()?).ok()?;
    VlanId::try_from(number).ok()
}
