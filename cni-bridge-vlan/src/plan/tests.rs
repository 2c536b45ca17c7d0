use super::*;
use crate::conf::{Uplink, UplinkMode};
use berth_cni::conflict::Policy;
use berth_cni::container::Dad;
use berth_cni::steering::{Cpus, Rps};
use berth_kernel::MacAddr;
use berth_kernel::netlink::{Bridge, Port};
use berth_state::record::PortFlags;

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn vid(id: u16) -> VlanId {
    VlanId::try_from(id).unwrap()
}

fn conf(vlan: Option<u16>, uplink: Option<UplinkMode>) -> Conf {
    Conf {
        dns: None,
        bridge: name("br0"),
        uplink: uplink.map(|mode| Uplink {
            name: name("eth1"),
            mode,
            lower: None,
        }),
        vlan: vlan.map(vid),
        trunk: vec![],
        keep_default_vlan: false,
        mtu: None,
        mac: None,
        rps: Rps {
            cpus: Cpus::Off,
            flow_entries: 0,
        },
        flags: PortFlags::default(),
        gateway: None,
        masquerade: false,
        bpdu_filter: None,
        dad: Dad::Off,
        conflict: Policy::Off,
        leave_down: false,
        keep_ipv6: false,
        announce: true,
    }
}

fn link(text: &str, kind: Option<&str>) -> Link {
    Link {
        index: 7,
        name: name(text),
        altnames: Vec::new(),
        mac: Some(MacAddr([2, 0, 0, 0, 0, 9])),
        permanent_mac: None,
        mtu: 1500,
        up: true,
        running: true,
        carrier: true,
        promisc: false,
        allmulti: false,
        tx_queue_len: 1000,
        group: 0,
        parent: None,
        parent_bus: None,
        master: None,
        peer: None,
        peer_netns: None,
        kind: kind.map(str::to_owned),
        slave_kind: None,
        alias: None,
        bridge: None,
        port: None,
        vlan: None,
    }
}

fn bridge(filtering: bool, alias: Option<&str>) -> Link {
    let bridge = Bridge {
        vlan_filtering: filtering,
        vlan_capable: true,
        vlan_protocol: None,
        default_pvid: 1,
        stp: false,
        nf_call_iptables: false,
        nf_call_ip6tables: false,
        nf_call_arptables: false,
    };
    Link {
        bridge: Some(bridge),
        alias: alias.map(str::to_owned),
        ..link("br0", Some("bridge"))
    }
}

fn uplink() -> UplinkSeen {
    UplinkSeen {
        link: link("eth1", None),
        master: Some(name("br0")),
        vlans: vec![],
        addresses: vec![],
        stacked: vec![],
    }
}

fn seen(bridge: Option<Link>) -> Observed {
    Observed {
        bridge,
        ports: vec![],
        filtering: vec![],
        uplink: Some(uplink()),
        rival: None,
    }
}

fn untouched() -> BridgeRecord {
    BridgeRecord::untouched(&name("br0"))
}

fn refusal(conf: &Conf, seen: &Observed) -> String {
    let error = decide(conf, seen, &untouched()).unwrap_err();
    assert_eq!(error.code, code::CONFIG);
    assert!(!error.details.is_empty(), "no next step: {error}");
    error.msg
}

#[test]
fn an_absent_bridge_is_created_with_the_uplinks_mtu() {
    let mut seen = seen(None);
    let uplink = seen.uplink.as_mut().unwrap();
    (uplink.master, uplink.link.mtu, uplink.link.up) = (None, 9000, false);
    let plan = decide(
        &conf(Some(100), Some(UplinkMode::Ensure)),
        &seen,
        &untouched(),
    );
    let plan = plan.unwrap();
    assert_eq!(plan.bridge, BridgeStep::Create);
    assert_eq!(plan.mtu, 9000);
    assert_eq!(plan.unwanted_vlan, None);
    let step = plan.uplink.unwrap();
    assert_eq!(
        (step.enslave, step.raise, step.add_vlans),
        (true, true, vec![vid(100).into()])
    );
}

#[test]
fn a_vlan_on_the_uplink_already_is_not_added_again() {
    let mut seen = seen(Some(bridge(true, None)));
    let entry = VlanEntry {
        vid: vid(100),
        pvid: false,
        untagged: false,
    };
    seen.uplink.as_mut().unwrap().vlans = vec![entry];
    let plan = decide(
        &conf(Some(100), Some(UplinkMode::Verify)),
        &seen,
        &untouched(),
    );
    let plan = plan.unwrap();
    assert_eq!(plan.bridge, BridgeStep::Keep);
    assert_eq!(plan.unwanted_vlan, Some(VlanId::DEFAULT));
    let step = plan.uplink.unwrap();
    assert_eq!(
        (step.enslave, step.raise, step.add_vlans),
        (false, false, vec![])
    );
}

#[test]
fn a_trunk_lets_its_missing_vlans_through_and_keeps_the_default_one_by_wish() {
    let mut conf = conf(Some(100), Some(UplinkMode::Verify));
    conf.trunk = VlanRange::of([101, 200, 201, 202].map(vid));
    let mut seen = seen(Some(bridge(true, None)));
    let carried = [1, 201].map(|id| VlanEntry {
        vid: vid(id),
        pvid: false,
        untagged: false,
    });
    seen.uplink.as_mut().unwrap().vlans = carried.to_vec();
    let plan = decide(&conf, &seen, &untouched()).unwrap();
    let missing = plan.uplink.unwrap().add_vlans;
    assert_eq!(VlanRange::list(&missing), "100-101, 200, 202");
    let default = Some(VlanId::DEFAULT);
    assert_eq!((plan.unwanted_vlan, plan.kept_vlan), (default, None));
    conf.keep_default_vlan = true;
    let plan = decide(&conf, &seen, &untouched()).unwrap();
    assert_eq!((plan.unwanted_vlan, plan.kept_vlan), (None, default));
    seen.uplink.as_mut().unwrap().stacked = vec![(name("eth1.201"), 201)];
    assert!(refusal(&conf, &seen).contains("eth1.201 takes all frames of VLAN 201"));
}

#[test]
fn an_explicit_vlan_1_keeps_vlan_1() {
    let plan = decide(
        &conf(Some(1), None),
        &seen(Some(bridge(true, None))),
        &untouched(),
    );
    assert_eq!(plan.unwrap().unwanted_vlan, None);
}

#[test]
fn a_foreign_bridge_without_filtering_is_refused_for_a_vlan() {
    let msg = refusal(&conf(Some(100), None), &seen(Some(bridge(false, None))));
    assert!(msg.contains("VLAN 100 would not be isolated"), "{msg}");
    assert!(msg.contains("not Berth's"), "{msg}");
}

#[test]
fn our_bridge_is_switched_to_filtering_only_while_nobody_uses_it() {
    let conf = conf(Some(100), None);
    let mut seen = seen(Some(bridge(false, Some(BRIDGE_ALIAS))));
    let plan = decide(&conf, &seen, &untouched()).unwrap();
    assert_eq!(plan.bridge, BridgeStep::Finish { filter: true });
    seen.ports = vec![link("bv0", Some("veth"))];
    assert!(refusal(&conf, &seen).contains("would cut off bv0"));
}

#[test]
fn a_half_made_bridge_is_known_by_its_recorded_address_and_finished() {
    let mut half = bridge(true, None);
    half.up = false;
    let conf = conf(Some(100), None);
    let seen = seen(Some(half));
    assert!(
        refusal(&conf, &seen).contains("is down"),
        "a foreign one is not touched"
    );
    let record = BridgeRecord {
        created_with: Some(MacAddr([2, 0, 0, 0, 0, 9])),
        ..untouched()
    };
    let plan = decide(&conf, &seen, &record).unwrap();
    assert_eq!(plan.bridge, BridgeStep::Finish { filter: false });
}

#[test]
fn a_bootstrapped_bridge_is_ours_and_stays() {
    let kept = bridge(true, Some("berth1 bridge keep"));
    assert!(is_ours(&kept, &untouched()));
    assert!(!is_made_by_add(&kept, &untouched()));
    assert!(!is_ours(
        &bridge(true, Some("berth1 bridges")),
        &untouched()
    ));
}

#[test]
fn an_untagged_port_is_refused_where_it_would_reach_nobody() {
    let conf = conf(None, None);
    let ours = seen(Some(bridge(true, Some(BRIDGE_ALIAS))));
    assert!(refusal(&conf, &ours).contains("filters VLANs"));
    let mut foreign = bridge(true, None);
    decide(&conf, &seen(Some(foreign.clone())), &untouched()).unwrap();
    foreign.bridge.as_mut().unwrap().default_pvid = 0;
    assert!(refusal(&conf, &seen(Some(foreign))).contains("filters VLANs"));
}

#[test]
fn what_is_no_bridge_or_has_stp_or_is_down_is_refused() {
    let conf = conf(Some(100), None);
    assert!(refusal(&conf, &seen(Some(link("br0", Some("veth"))))).contains("is a veth"));
    let mut stp = bridge(true, None);
    stp.bridge.as_mut().unwrap().stp = true;
    assert!(refusal(&conf, &seen(Some(stp))).contains("spanning tree"));
    let mut provider = bridge(true, None);
    provider.bridge.as_mut().unwrap().vlan_protocol = Some(0x88a8);
    assert!(refusal(&conf, &seen(Some(provider))).contains("802.1ad"));
    let mut down = bridge(true, None);
    down.up = false;
    assert!(refusal(&conf, &seen(Some(down))).contains("is down"));
}

#[test]
fn a_packet_filter_that_must_not_see_the_frames_is_refused() {
    let mut conf = conf(None, None);
    let mut seen = seen(Some(bridge(false, None)));
    seen.filtering = vec!["net/bridge/bridge-nf-call-iptables"];
    decide(&conf, &seen, &untouched()).unwrap();
    conf.flags.unfiltered = true;
    let msg = refusal(&conf, &seen);
    assert!(msg.contains("bridge-nf-call-iptables is on"), "{msg}");
    seen.filtering.clear();
    decide(&conf, &seen, &untouched()).unwrap();
    let own = seen.bridge.as_mut().unwrap().bridge.as_mut().unwrap();
    own.nf_call_ip6tables = true;
    assert!(refusal(&conf, &seen).contains("br0 has nf_call_ip6tables on"));
}

#[test]
fn an_uplink_is_never_taken_from_another_master() {
    for mode in [UplinkMode::Verify, UplinkMode::Ensure] {
        let mut seen = seen(Some(bridge(true, None)));
        seen.uplink.as_mut().unwrap().master = Some(name("bond0"));
        let msg = refusal(&conf(Some(100), Some(mode)), &seen);
        assert!(msg.contains("eth1 already belongs to bond0"), "{msg}");
    }
}

#[test]
fn an_uplink_that_would_get_nothing_is_refused() {
    let mut wish = conf(None, Some(UplinkMode::Verify));
    let mut seen = seen(Some(bridge(false, None)));
    seen.uplink.as_mut().unwrap().link.port = Some(Port::default());
    assert!(refusal(&wish, &seen).contains("eth1 is a disabled port of bridge br0"));
    seen.uplink.as_mut().unwrap().link.running = false;
    decide(&wish, &seen, &untouched()).unwrap();
    let port = Port {
        state: 3,
        isolated: true,
        ..Port::default()
    };
    seen.uplink.as_mut().unwrap().link.port = Some(port);
    decide(&wish, &seen, &untouched()).unwrap();
    wish.flags.isolated = true;
    assert!(refusal(&wish, &seen).contains("eth1 is an isolated port of bridge br0, too"));
}

#[test]
fn a_stacked_device_that_would_steal_the_vlan_is_refused() {
    let mut seen = seen(Some(bridge(true, None)));
    seen.uplink.as_mut().unwrap().stacked = vec![(name("eth1.100"), 100)];
    let msg = refusal(&conf(Some(100), Some(UplinkMode::Verify)), &seen);
    assert!(
        msg.contains("eth1.100 takes all frames of VLAN 100"),
        "{msg}"
    );
    decide(
        &conf(Some(200), Some(UplinkMode::Verify)),
        &seen,
        &untouched(),
    )
    .unwrap();
}

#[test]
fn only_a_bare_uplink_is_enslaved() {
    let wish = conf(Some(100), Some(UplinkMode::Ensure));
    let mut seen = seen(Some(bridge(true, None)));
    let uplink = seen.uplink.as_mut().unwrap();
    uplink.master = None;
    uplink.addresses = vec!["192.0.2.1/24".to_owned()];
    assert!(refusal(&wish, &seen).contains("has addresses (192.0.2.1/24)"));
    let uplink = seen.uplink.as_mut().unwrap();
    uplink.addresses.clear();
    uplink.stacked = vec![(name("eth1.7"), 7)];
    assert!(refusal(&wish, &seen).contains("carries eth1.7"));
}

#[test]
fn verify_changes_nothing_on_the_uplink_but_vlans() {
    let wish = conf(Some(100), Some(UplinkMode::Verify));
    let mut seen = seen(Some(bridge(true, None)));
    seen.uplink.as_mut().unwrap().link.up = false;
    assert!(refusal(&wish, &seen).contains("is down"));
    seen.uplink.as_mut().unwrap().master = None;
    assert!(refusal(&wish, &seen).contains("not a port of bridge br0"));
    seen.uplink = None;
    assert!(refusal(&wish, &seen).contains("eth1 of bridge br0 does not exist"));
}

#[test]
fn an_mtu_above_the_uplinks_is_refused_and_below_is_kept() {
    let mut wish = conf(Some(100), Some(UplinkMode::Verify));
    let seen = seen(Some(bridge(true, None)));
    wish.mtu = Some(9000);
    assert!(refusal(&wish, &seen).contains("eth1 carries 1500 at most"));
    wish.mtu = Some(1400);
    assert_eq!(decide(&wish, &seen, &untouched()).unwrap().mtu, 1400);
}

#[test]
fn an_uplink_goes_on_record_by_its_own_name_not_by_an_alternative_one() {
    let mut seen = seen(Some(bridge(true, None)));
    seen.uplink.as_mut().unwrap().link.name = name("enp3s0");
    let conf = conf(Some(100), Some(UplinkMode::Verify));
    let plan = decide(&conf, &seen, &untouched()).unwrap();
    assert_eq!(plan.uplink.unwrap().name, name("enp3s0"));
}

#[test]
fn a_bridge_is_named_by_its_own_name() {
    let mut link = bridge(true, None);
    link.name = name("bridge0");
    let said = refusal(&conf(Some(100), None), &seen(Some(link)));
    assert!(said.contains("br0 is only an alternative name"), "{said}");
}

#[test]
fn a_second_uplink_is_refused_when_it_would_have_to_be_changed() {
    let mut seen = seen(Some(bridge(true, None)));
    seen.rival = Some(name("eth7"));
    let conf = conf(Some(100), Some(UplinkMode::Verify));
    let said = refusal(&conf, &seen);
    assert!(
        said.contains("eth7 already") && said.contains("eth1"),
        "{said}"
    );
    let entry = VlanEntry {
        vid: vid(100),
        pvid: false,
        untagged: false,
    };
    seen.uplink.as_mut().unwrap().vlans.push(entry);
    assert!(decide(&conf, &seen, &untouched()).is_ok());
}
