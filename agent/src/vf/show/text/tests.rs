//! What people see; above all, that "not reported" is never "off".

use super::*;

fn side() -> AtPf {
    AtPf {
        mac: None,
        vlan: 100,
        vlan_qos: 3,
        vlan_proto: "802.1Q".into(),
        min_tx_rate_mbps: 0,
        max_tx_rate_mbps: 50,
        spoofchk: Some(false),
        trust: None,
        link_state: Some("auto".into()),
        query_rss: Some(true),
    }
}

fn printed(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn not_reported_is_not_off() {
    let text = printed(|out| block("at the PF", &at_pf(&side()), out));
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "at the PF",
            "  MAC          not reported",
            "  VLAN         100 qos 3 (802.1Q)",
            "  min_tx_rate  none",
            "  max_tx_rate  50 Mbit/s",
            "  spoofchk     off",
            "  trust        not reported",
            "  link_state   auto",
            "  query_rss    on",
        ]
    );
}

#[test]
fn interrupts_show_wish_setting_and_effect_apart() {
    let pinned = Pinned {
        vector: 1,
        irq: 45,
        role: "rx 0".into(),
        action: "net0-rx-0".into(),
        wished: Some([2].into_iter().collect()),
        actual: Some([2, 3].into_iter().collect()),
        effective: None,
        counts: [(2, 17), (9, 4)].into(),
    };
    let text = printed(|out| vectors(&[pinned], out));
    let last = text.lines().last().unwrap();
    let cells: Vec<&str> = last.split_whitespace().collect();
    assert_eq!(
        cells,
        ["1", "45", "rx", "0", "2", "2-3", "-", "cpu2:17", "cpu9:4"]
    );
    assert_eq!(printed(|out| vectors(&[], out)), "");
}

#[test]
fn an_empty_mask_is_not_an_unknown_one() {
    assert_eq!(cpus(None), "-");
    assert_eq!(cpus(Some(&CpuSet::default())), "none");
    let rx = [RxQueue {
        queue: 0,
        rps_cpus: Some(CpuSet::default()),
        rps_flow_cnt: Some(0),
    }];
    let tx = [TxQueue {
        queue: 0,
        xps_cpus: None,
    }];
    let text = printed(|out| queues(&rx, &tx, out));
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[3], ["rx", "0", "none", "0", "-"]);
    assert_eq!(lines[4], ["tx", "0", "-", "-", "-"]);
}
