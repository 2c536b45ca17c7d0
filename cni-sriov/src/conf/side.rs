//! What the PF is told about the VF: VLAN, checks, rates.

use berth_cni::error::CniError;
use berth_cni::fields::Fields;
use berth_kernel::MacAddr;
use berth_kernel::netlink::{VfLinkState, VfVlan, VlanProto};
use berth_state::vf::{PfSide, TxRate};

/// The PF's settings of the VF, as wished; none: left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SideWish {
    /// The VLAN tag the NIC puts on and takes off.
    pub vlan: Option<VfVlan>,
    /// Whether frames with a foreign source MAC address are dropped.
    pub spoofchk: Option<bool>,
    /// Whether the VF may change its own MAC address and listen promiscuously.
    pub trust: Option<bool>,
    /// The carrier the VF sees.
    pub link_state: Option<VfLinkState>,
    /// Guaranteed transmit rate in Mbit/s; 0: none.
    pub min_tx_rate: Option<u32>,
    /// Limit of the transmit rate in Mbit/s; 0: none.
    pub max_tx_rate: Option<u32>,
}

impl SideWish {
    /// What the PF shall say of a VF of which it says `now`: what is not wished is not
    /// in it. Both rates travel in one message, so the one that is not wished keeps its
    /// value.
    pub fn target(&self, mac: Option<MacAddr>, now: &PfSide) -> PfSide {
        let before = now.rate.unwrap_or_default();
        let rate = match (self.min_tx_rate, self.max_tx_rate) {
            (None, None) => None,
            (min, max) => Some(TxRate {
                min: min.unwrap_or(before.min),
                max: max.unwrap_or(before.max),
            }),
        };
        PfSide {
            mac,
            vlan: self.vlan,
            rate,
            spoofchk: self.spoofchk,
            trust: self.trust,
            link_state: self.link_state,
            query_rss: None,
        }
    }
}

/// Reads the keys of the PF's side.
pub(super) fn side(fields: &Fields<'_>) -> Result<SideWish, CniError> {
    let switch = [("on", true), ("off", false)];
    let link_states = [
        ("auto", VfLinkState::Auto),
        ("enable", VfLinkState::Enable),
        ("disable", VfLinkState::Disable),
    ];
    let wish = SideWish {
        vlan: vlan(fields)?,
        spoofchk: fields.choice("spoofchk", &switch)?,
        trust: fields.choice("trust", &switch)?,
        link_state: fields.choice("link_state", &link_states)?,
        min_tx_rate: rate(fields, "min_tx_rate")?,
        max_tx_rate: rate(fields, "max_tx_rate")?,
    };
    match (wish.min_tx_rate, wish.max_tx_rate) {
        (Some(min), Some(max)) if max != 0 && min > max => Err(fields.invalid(
            "min_tx_rate",
            format!("above \"max_tx_rate\", which is {max}"),
        )),
        _ => Ok(wish),
    }
}

/// 0 takes a tag off, absent leaves it; that is the reference plugin's meaning too.
fn vlan(fields: &Fields<'_>) -> Result<Option<VfVlan>, CniError> {
    let id = match fields.whole("vlan")? {
        None => None,
        Some(number) => Some(
            u16::try_from(number)
                .ok()
                .filter(|id| *id <= 4094)
                .ok_or_else(|| {
                    fields.invalid("vlan", "want 0 to 4094; 0 is no tag, leave it out to keep")
                })?,
        ),
    };
    let (qos, proto) = (qos(fields)?, proto(fields)?);
    if id.unwrap_or(0) == 0 {
        if qos != 0 {
            return Err(fields.invalid("vlanQoS", "a priority goes with a \"vlan\" from 1 to 4094"));
        }
        if proto == VlanProto::Dot1Ad {
            return Err(fields.invalid("vlanProto", "goes with a \"vlan\" from 1 to 4094"));
        }
    }
    Ok(id.map(|id| VfVlan { id, qos, proto }))
}

fn qos(fields: &Fields<'_>) -> Result<u8, CniError> {
    let number = fields.whole("vlanQoS")?.unwrap_or(0);
    u8::try_from(number)
        .ok()
        .filter(|qos| *qos <= 7)
        .ok_or_else(|| fields.invalid("vlanQoS", "want a priority from 0 to 7"))
}

fn proto(fields: &Fields<'_>) -> Result<VlanProto, CniError> {
    match fields.text("vlanProto")? {
        None => Ok(VlanProto::Dot1Q),
        Some(text) if text.eq_ignore_ascii_case("802.1q") => Ok(VlanProto::Dot1Q),
        Some(text) if text.eq_ignore_ascii_case("802.1ad") => Ok(VlanProto::Dot1Ad),
        Some(_) => Err(fields.invalid("vlanProto", "want \"802.1q\" or \"802.1ad\"")),
    }
}

fn rate(fields: &Fields<'_>, key: &str) -> Result<Option<u32>, CniError> {
    let Some(number) = fields.whole(key)? else {
        return Ok(None);
    };
    let rate = u32::try_from(number);
    rate.map(Some)
        .map_err(|_range| fields.invalid(key, "want a rate in Mbit/s; 0 is no limit"))
}
