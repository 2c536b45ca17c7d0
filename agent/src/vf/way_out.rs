//! What to do about a VF that is in use.

use berth_kernel::PciAddr;
use berth_state::vf::free::Reason;

/// What ends the use of a VF.
pub(crate) fn way_out(user: &Reason, address: PciAddr) -> String {
    match user {
        Reason::Claimed(key) => format!(
            "end container {id}, or berth detach --container-id {id} --ifname {ifname}",
            id = key.container_id(),
            ifname = key.ifname()
        ),
        Reason::Quarantined(_) => format!("berth vf release {address}"),
        Reason::UnreadableClaim(_) => format!("see berth vf show {address}"),
        Reason::ReferenceOwner(_) => "end that container".to_owned(),
        Reason::NotHere => "end the container that has it".to_owned(),
        Reason::Userspace(driver) => format!("end the program, and take {driver} off it"),
        Reason::Master(_) => "take it out of there".to_owned(),
        Reason::Uppers(_) => "remove what stands on it".to_owned(),
        Reason::Addresses(_) => "remove the address".to_owned(),
        Reason::Reserved | Reason::NoDriver | Reason::Several(_) => "release it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_named_as_detach_wants_it() {
        let address = "0000:01:10.2".parse().unwrap();
        let key = "game/web-1:net1".parse().unwrap();
        assert_eq!(
            way_out(&Reason::Claimed(key), address),
            "end container web-1, or berth detach --container-id web-1 --ifname net1"
        );
        let quarantined = Reason::Quarantined("MTU".into());
        assert_eq!(
            way_out(&quarantined, address),
            "berth vf release 0000:01:10.2"
        );
    }
}
