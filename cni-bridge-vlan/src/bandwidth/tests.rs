use super::*;
use berth_cni::error::code;
use berth_cni::request::Argument;
use serde_json::{Value, json};

const LEAST: u64 = (1500 + 14) * 8;

fn given(value: Value) -> Argument {
    Argument {
        value,
        origin: "runtimeConfig.bandwidth".to_owned(),
    }
}

fn wished(value: Value) -> Result<Bandwidth, CniError> {
    of(Some(&given(value)))
}

fn limit_of(rate: u64, burst: u64) -> RateLimit {
    RateLimit { rate, burst }
}

#[test]
fn each_direction_is_limited_for_itself() {
    assert_eq!(of(None).unwrap(), Bandwidth::default());
    let none = json!({"ingressRate": 0, "ingressBurst": 0, "egressRate": null});
    assert!(wished(none).unwrap().is_unlimited());
    let down = json!({"ingressRate": 1_000_000, "ingressBurst": 80_000});
    let down = wished(down).unwrap();
    assert_eq!(down.ingress, Some(limit_of(1_000_000, 80_000)));
    assert_eq!(down.egress, None);
    // What containerd gives: as much at once as it can say.
    let up = json!({"egressRate": 10_000_000, "egressBurst": u32::MAX, "shapedSubnets": []});
    let up = wished(up).unwrap();
    assert_eq!(up.egress, Some(limit_of(10_000_000, u32::MAX.into())));
    assert_eq!(up.ingress, None);
}

#[test]
fn a_wrong_wish_names_key_value_and_way_out() {
    for (value, says) in [
        (
            json!({"ingressRate": 1000}),
            &["ingressRate = 1000", "\"ingressBurst\""],
        ),
        (
            json!({"egressBurst": 1000}),
            &["egressBurst = 1000", "\"egressRate\""],
        ),
        (
            json!({"egressRate": 7, "egressBurst": 80_000}),
            &["egressRate = 7", "8 bits"],
        ),
        (
            json!({"ingressRate": 8, "ingressBurst": 34_359_738_360_u64}),
            &["ingressBurst = 34359738360", "4 GB"],
        ),
        (
            json!({"ingressRate": -1}),
            &["ingressRate = -1", "0 or more"],
        ),
        (
            json!({"ingressRate": "1M"}),
            &["ingressRate = \"1M\"", "without quotes"],
        ),
        (json!({"ingressrate": 8}), &["ingressrate", "egressBurst"]),
        (json!("1M"), &["bandwidth = \"1M\"", "object"]),
    ] {
        let error = wished(value).unwrap_err();
        assert_eq!(error.code, code::CONFIG, "{error}");
        for part in says {
            assert!(error.msg.contains(part), "{part} is not in {error}");
        }
        assert!(error.msg.contains("runtimeConfig.bandwidth"), "{error}");
    }
    let subnets = json!({"unshapedSubnets": ["10.0.0.0/8"]});
    let error = wished(subnets).unwrap_err();
    assert_eq!(error.code, code::UNSUPPORTED, "{error}");
}

/// What the reference plugin computes for the same wish: bits by 8, 25 ms of the rate and
/// the burst in the queue.
#[test]
fn a_bucket_is_the_reference_plugins() {
    assert_eq!(
        bucket(limit_of(8_000_000, 80_000)),
        Tbf {
            rate: 1_000_000,
            burst: 10_000,
            limit: 35_000,
        }
    );
    assert_eq!(
        bucket(limit_of(7_999_999, 80_007)),
        Tbf {
            rate: 999_999,
            burst: 10_000,
            limit: 34_999,
        }
    );
    // A queue of more than the kernel can count is the longest it can.
    let fast = bucket(limit_of(8 << 40, 8 * (u64::from(u32::MAX) - 1)));
    assert_eq!((fast.rate, fast.limit), (1 << 40, u32::MAX));
    assert_eq!(fast.burst, u32::MAX - 1);
}

#[test]
fn a_burst_holds_a_frame() {
    holds_a_frame(limit_of(8, LEAST), "egressBurst", 1500).unwrap();
    let error = holds_a_frame(limit_of(8, LEAST - 1), "egressBurst", 1500).unwrap_err();
    assert_eq!(error.code, code::CONFIG);
    let text = error.to_string();
    assert!(
        text.contains("egressBurst = 12111") && text.contains("12112"),
        "{text}"
    );
}

#[test]
fn a_difference_says_what_was_set() {
    let limit = limit_of(8_000_000, 80_000);
    let mut drift = Drift::default();
    bucket_drift("limit", limit, None, &mut drift);
    let text = format!("{drift:?}");
    assert!(text.contains("limit is gone"), "{text}");
}
