use super::super::wire::Request;
use super::*;
use proptest::prelude::*;

const MBIT: u64 = 125_000;

fn tbf(rate: u64, burst: u32, limit: u32) -> Tbf {
    Tbf { rate, burst, limit }
}

fn body(tbf: &Tbf) -> Vec<u8> {
    let request = Request::from(RouteNetlinkMessage::NewQueueDiscipline(new_tbf(7, tbf)));
    assert_eq!(request.kind, libc::RTM_NEWQDISC);
    request.body
}

fn attr(attrs: Attrs<'_>, kind: u16) -> Option<Vec<u8>> {
    let mut attrs = attrs;
    Some(attrs.find(|attr| attr.kind == kind)?.value.to_vec())
}

/// What `tc qdisc add dev X root handle 1: tbf rate 8mbit burst 10000 limit 35000` sends,
/// less the table of rates that only kernels before 3.8 look into.
#[test]
fn a_bucket_is_sent_in_bytes_and_ticks() {
    let body = body(&tbf(8 * MBIT, 10_000, 35_000));
    let word = |at| u32_at(&body, at);
    assert_eq!(word(4), Some(7), "link");
    assert_eq!(word(8), Some(0x1_0000), "handle 1:");
    assert_eq!(word(12), Some(u32::MAX), "root");
    let top = Attrs::after(&body, TCMSG);
    assert_eq!(attr(top, TCA_KIND).unwrap(), b"tbf\0");
    let options = attr(top, TCA_OPTIONS).unwrap();
    let options = Attrs::after(&options, 0);
    let parms = attr(options, TCA_TBF_PARMS).unwrap();
    assert_eq!(parms.len(), 36, "struct tc_tbf_qopt");
    assert_eq!(parms[1], LINKLAYER_ETHERNET);
    assert_eq!(u32_at(&parms, 8), Some(1_000_000), "rate");
    assert_eq!(u32_at(&parms, 24), Some(35_000), "limit");
    // 10 000 bytes at 1 000 000 bytes/s are 10 ms.
    assert_eq!(u32_at(&parms, 28), Some(10_000_000 / 64), "bucket");
    assert_eq!(
        attr(options, TCA_TBF_BURST).unwrap(),
        10_000u32.to_ne_bytes()
    );
    assert_eq!(attr(options, TCA_TBF_RATE64), None);
}

#[test]
fn a_rate_of_more_than_32_bits_is_sent_whole() {
    let fast = tbf(12_500_000_000, 1_000_000, u32::MAX);
    let body = body(&fast);
    let options = attr(Attrs::after(&body, TCMSG), TCA_OPTIONS).unwrap();
    let parms = attr(Attrs::after(&options, 0), TCA_TBF_PARMS).unwrap();
    assert_eq!(u32_at(&parms, 8), Some(u32::MAX));
    let live = decode(&body).unwrap();
    assert_eq!((live.rate, live.limit), (fast.rate, fast.limit));
    assert!(fast.is_met_by(&live));
}

#[test]
fn another_rate_limit_or_bucket_is_told_apart() {
    let wish = tbf(MBIT, 20_000, 23_125);
    let live = decode(&body(&wish)).unwrap();
    assert!(wish.is_met_by(&live));
    assert_eq!(live.burst(), 20_000);
    for other in [
        tbf(MBIT + 1, 20_000, 23_125),
        tbf(MBIT, 20_001, 23_125),
        tbf(MBIT, 20_000, 23_126),
    ] {
        assert!(!other.is_met_by(&live), "{other:?}");
    }
}

/// 8 bits/s and 4 GB: the ticks do not fit the kernel's field, which keeps their end.
#[test]
fn a_bucket_that_takes_an_age_to_fill_is_known_again() {
    let wish = tbf(1, 536_870_911, 536_870_911);
    let ticks = wish.ticks();
    assert!(ticks > u128::from(u32::MAX));
    let kept = u32::try_from(ticks % (1 << 32)).unwrap();
    let live = |ticks| LiveTbf {
        rate: 1,
        limit: 536_870_911,
        ticks,
    };
    assert!(wish.is_met_by(&live(kept)));
    assert!(!wish.is_met_by(&live(kept.wrapping_add(1 << 31))));
}

#[test]
fn other_disciplines_are_none() {
    let ingress = message(
        7,
        (INGRESS_HANDLE, TcHandle::INGRESS),
        vec![TcAttribute::Kind("ingress".into())],
    );
    let request = Request::from(RouteNetlinkMessage::NewQueueDiscipline(ingress));
    assert_eq!(decode(&request.body), None);
    assert_eq!(decode(&[]), None);
}

/// The kernel here counts in these ticks, too: the second word of four.
#[test]
fn a_tick_is_what_the_kernel_says() {
    let Ok(text) = std::fs::read_to_string("/proc/net/psched") else {
        return;
    };
    let word = text.split_whitespace().nth(1).unwrap();
    let tick = u128::from_str_radix(word, 16).unwrap();
    assert_eq!(tick, NANOSECONDS_PER_TICK);
}

#[test]
fn a_part_the_kernel_lacks_is_named() {
    let error = Error::errno("add", "eth0", Errno::ENOENT);
    let told = lacking(error, "tbf (CONFIG_NET_SCH_TBF)");
    assert_eq!(told.kind(), crate::Kind::Unsupported);
    assert!(told.to_string().contains("CONFIG_NET_SCH_TBF"), "{told}");
    let other = Error::errno("add", "eth0", Errno::EEXIST);
    assert_eq!(lacking(other.clone(), "tbf"), other);
}

proptest! {
    #[test]
    fn every_bucket_is_read_as_it_was_written(rate in 1u64.., burst in 1u32.., limit: u32) {
        let wish = tbf(rate, burst, limit);
        prop_assume!(wish.ticks() <= u128::from(u32::MAX));
        prop_assert!(wish.is_met_by(&decode(&body(&wish)).unwrap()));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
        let _tbf = decode(&bytes);
    }
}
