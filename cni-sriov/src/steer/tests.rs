use super::*;
use berth_cni::steering::Rps;
use berth_kernel::placement::vf::{IrqPlacement, IrqPolicy};

/// A container pinned to CPUs 2 to 5, two cores of a machine of eight CPUs.
fn plan(wish: &conf::Work) -> Plan<'_> {
    let core = |first: u32| Core {
        cpus: [first, first + 1].into_iter().collect(),
        node: 0,
        llc: 0,
    };
    let online: CpuSet = "0-7".parse().unwrap();
    Plan {
        wish,
        cpus: AutoInput {
            container: Some("2-5".parse().unwrap()),
            node_online: online.clone(),
            root_effective: online.clone(),
            numa_local: Some(online),
            housekeeping: None,
        },
        cores: vec![core(0), core(2), core(4), core(6)],
        node: Some(0),
        isolated: CpuSet::new(),
        turn: 0,
    }
}

fn work(channels: Channels) -> conf::Work {
    conf::Work {
        channels,
        irq: IrqPolicy::Cpuset,
        placement: IrqPlacement::Own,
        rps: Rps {
            cpus: Cpus::Auto,
            flow_entries: 0,
        },
        xps: Cpus::Auto,
    }
}

/// Four channels are in use of eight.
fn count(channels: Channels) -> Result<Option<u32>, CniError> {
    let four = ChannelCounts {
        combined: 4,
        ..ChannelCounts::default()
    };
    let now = ethtool::Channels {
        current: four,
        max: ChannelCounts {
            combined: 8,
            ..four
        },
    };
    let wish = work(channels);
    let count = plan(&wish).channel_count(Some(&now), "iavf");
    count.map(|changed| changed.map(|(count, _)| count))
}

#[test]
fn channels_are_changed_only_if_they_are_others() {
    assert_eq!(count(Channels::Count(2)), Ok(Some(2)));
    assert_eq!(count(Channels::Count(8)), Ok(Some(8)));
    assert_eq!(count(Channels::Count(4)), Ok(None));
    assert_eq!(count(Channels::Auto), Ok(Some(2)), "one per core");
    assert_eq!(count(Channels::Keep), Ok(None));
    let error = count(Channels::Count(9)).unwrap_err();
    assert!(error.msg.contains("channels = 9") && error.msg.contains('8'));
}

#[test]
fn a_driver_with_fixed_channels_is_an_error_only_for_a_number() {
    let fixed = |channels| {
        plan(&work(channels))
            .channel_count(None, "igbvf")
            .map(|_| ())
    };
    assert_eq!(fixed(Channels::Auto), Ok(()));
    assert_eq!(fixed(Channels::Keep), Ok(()));
    let error = fixed(Channels::Count(1)).unwrap_err();
    assert_eq!(error.code, code::CONFIG);
    assert!(error.msg.contains("igbvf"), "{error}");
}
