use proptest::prelude::*;

use super::*;
use crate::error::Kind;

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

#[test]
fn lists_are_read_and_written_as_the_kernel_does() {
    for (text, cpus, back) in [
        ("", vec![], ""),
        ("\n", vec![], ""),
        ("0\n", vec![0], "0"),
        ("0-3,8", vec![0, 1, 2, 3, 8], "0-3,8"),
        ("8,0-3", vec![0, 1, 2, 3, 8], "0-3,8"),
        ("0, 2 ,4-5", vec![0, 2, 4, 5], "0,2,4-5"),
        ("0-1,1-2", vec![0, 1, 2], "0-2"),
        ("7-7", vec![7], "7"),
        ("8191", vec![8191], "8191"),
    ] {
        let parsed = set(text);
        assert_eq!(parsed, cpus.into_iter().collect(), "{text:?}");
        assert_eq!(parsed.to_string(), back, "{text:?}");
    }
}

#[test]
fn bad_lists_are_refused_with_the_member_at_fault() {
    for (text, why) in [
        ("0,,1", "\"\" is neither"),
        ("3-0", "3-0 goes backwards"),
        ("a", "\"a\" is neither"),
        ("0-", "\"0-\" is neither"),
        ("-1", "\"-1\" is neither"),
        ("+1", "\"+1\" is neither"),
        ("0-1-2", "\"0-1-2\" is neither"),
        ("0x3", "\"0x3\" is neither"),
        ("8192", "CPU 8192 is not below 8192"),
        ("0-4294967296", "CPU 4294967296 is not below 8192"),
    ] {
        let error = text.parse::<CpuSet>().unwrap_err().to_string();
        assert!(error.contains(why), "{text:?}: {error}");
        assert!(error.contains(&format!("{text:?}")), "{text:?}: {error}");
    }
}

/// All CPUs of machines on both sides of each group edge, as the kernel prints them
/// (`%*pb`: the first group is only as wide as its bits) and as we write them.
#[test]
fn masks_of_whole_machines() {
    for (cpus, kernel, ours) in [
        (1, "1", "00000001"),
        (2, "3", "00000003"),
        (31, "7fffffff", "7fffffff"),
        (32, "ffffffff", "ffffffff"),
        (33, "1,ffffffff", "00000001,ffffffff"),
        (63, "7fffffff,ffffffff", "7fffffff,ffffffff"),
        (64, "ffffffff,ffffffff", "ffffffff,ffffffff"),
        (65, "1,ffffffff,ffffffff", "00000001,ffffffff,ffffffff"),
        (
            128,
            "ffffffff,ffffffff,ffffffff,ffffffff",
            "ffffffff,ffffffff,ffffffff,ffffffff",
        ),
        (
            129,
            "1,ffffffff,ffffffff,ffffffff,ffffffff",
            "00000001,ffffffff,ffffffff,ffffffff,ffffffff",
        ),
    ] {
        let all: CpuSet = (0..cpus).collect();
        assert_eq!(CpuSet::from_mask(kernel), Ok(all.clone()), "{cpus}");
        assert_eq!(CpuSet::from_mask(ours), Ok(all.clone()), "{cpus}");
        assert_eq!(
            all.to_mask(mask_groups(kernel)).as_deref(),
            Ok(ours),
            "{cpus}"
        );
    }
}

#[test]
fn masks_of_sparse_sets() {
    for (list, groups, mask) in [
        ("", 1, "00000000"),
        ("", 3, "00000000,00000000,00000000"),
        ("0", 2, "00000000,00000001"),
        ("31", 1, "80000000"),
        ("32", 2, "00000001,00000000"),
        ("0,32,63", 2, "80000001,00000001"),
        (
            "1,64,128",
            5,
            "00000001,00000000,00000001,00000000,00000002",
        ),
    ] {
        assert_eq!(set(list).to_mask(groups).as_deref(), Ok(mask), "{list}");
        assert_eq!(CpuSet::from_mask(mask), Ok(set(list)), "{list}");
    }
}

#[test]
fn a_mask_too_narrow_for_the_set_is_refused() {
    let error = set("0,32").to_mask(1).unwrap_err().to_string();
    assert!(error.contains("CPU 32 does not fit"), "{error}");
    assert!(set("0").to_mask(0).is_err());
    assert_eq!(set("").to_mask(0).as_deref(), Ok(""));
}

#[test]
fn bad_masks_are_refused() {
    let too_wide = vec!["0"; 257].join(",");
    for mask in [
        "",
        ",",
        "1,",
        ",1",
        "0x3",
        "0-1",
        "g",
        "+1",
        "100000000",
        "1,,1",
        &too_wide,
    ] {
        assert!(CpuSet::from_mask(mask).is_err(), "{mask:?}");
    }
    let widest = vec!["f"; 256].join(",");
    assert_eq!(CpuSet::from_mask(&widest).map(|s| s.len()), Ok(1024));
}

#[test]
fn json_is_the_list_as_a_string() {
    let de = |value: &'static str| {
        use serde::de::IntoDeserializer;
        let text: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
            value.into_deserializer();
        CpuSet::deserialize(text)
    };
    assert_eq!(de("0-3"), Ok(set("0-3")));
    assert!(de("3-0").is_err());
    assert_eq!(String::from(set("0,1,2,9")), "0-2,9");
}

#[test]
fn cpu_files_are_read_from_the_given_tree() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    let put = |name: &str, text: &str| {
        let path = root.sys.join("devices/system").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    assert_eq!(online(&root).unwrap_err().kind(), Kind::NotFound);
    put("cpu/online", "0-5,7\n");
    put("cpu/possible", "0-7\n");
    assert_eq!(online(&root), Ok(set("0-5,7")));
    assert_eq!(possible(&root), Ok(set("0-7")));
    assert_eq!(isolated(&root), Ok(set("")));
    put("cpu/isolated", "2\n");
    put("cpu/nohz_full", "  (null)\n");
    assert_eq!(isolated(&root), Ok(set("2")));
    put("cpu/nohz_full", "2-3\n");
    assert_eq!(isolated(&root), Ok(set("2-3")));
    // No NUMA in this kernel yet.
    assert_eq!(nodes(&root), Ok(vec![0]));
    assert_eq!(of_node(&root, 0), Ok(set("0-5,7")));
    assert_eq!(local_to(&root, None), Ok(Some(set("0-5,7"))));
    assert_eq!(of_node(&root, 1).unwrap_err().kind(), Kind::NotFound);
    put("node/online", "0,2\n");
    put("node/node0/cpulist", "0-3\n");
    put("node/node2/cpulist", "4-7\n");
    assert_eq!(nodes(&root), Ok(vec![0, 2]));
    assert_eq!(of_node(&root, 2), Ok(set("4-7")));
    assert_eq!(local_to(&root, Some(2)), Ok(Some(set("4-7"))));
    assert_eq!(local_to(&root, None), Ok(None));
    put("cpu/cpu1/topology/thread_siblings_list", "1,5\n");
    assert_eq!(siblings(&root, 1), Ok(set("1,5")));
    put("cpu/online", "nonsense\n");
    let error = online(&root).unwrap_err();
    assert_eq!(error.kind(), Kind::Malformed);
    assert!(error.to_string().contains("cpu/online"), "{error}");
}

fn sets() -> impl Strategy<Value = CpuSet> {
    prop_oneof![
        prop::collection::btree_set(0_u32..160, 0..40),
        prop::collection::btree_set(0..MAX_CPUS, 0..40),
    ]
    .prop_map(|cpus| cpus.into_iter().collect())
}

proptest! {
    #[test]
    fn every_list_round_trips(set in sets()) {
        prop_assert_eq!(set.to_string().parse(), Ok(set));
    }

    /// With exactly the groups the set needs, and with more.
    #[test]
    fn every_mask_round_trips(set in sets(), spare in 0_usize..3) {
        let needed = set.last().map_or(1, |cpu| cpu as usize / 32 + 1);
        let groups = needed.saturating_add(spare).min(256);
        let mask = set.to_mask(groups).unwrap();
        prop_assert_eq!(mask.len(), groups * 9 - 1);
        prop_assert_eq!(mask_groups(&mask), groups);
        prop_assert_eq!(CpuSet::from_mask(&mask), Ok(set.clone()));
        if !set.is_empty() {
            prop_assert!(set.to_mask(needed - 1).is_err());
        }
    }

    /// A mask is an ordinary big number with commas: bit n is CPU n.
    #[test]
    fn masks_agree_with_plain_arithmetic(bits in any::<u128>()) {
        let hex = format!("{bits:032x}");
        let mask = [&hex[..8], &hex[8..16], &hex[16..24], &hex[24..]].join(",");
        let set: CpuSet = (0..128).filter(|cpu| bits & (1 << cpu) != 0).collect();
        prop_assert_eq!(set.to_mask(4), Ok(mask));
    }

    #[test]
    fn set_algebra_agrees_with_membership(a in sets(), b in sets(), cpu in 0_u32..160) {
        prop_assert_eq!(a.union(&b).contains(cpu), a.contains(cpu) || b.contains(cpu));
        prop_assert_eq!(a.intersection(&b).contains(cpu), a.contains(cpu) && b.contains(cpu));
        prop_assert_eq!(a.difference(&b).contains(cpu), a.contains(cpu) && !b.contains(cpu));
        prop_assert!(a.intersection(&b).is_subset(&a));
        prop_assert_eq!(a.is_subset(&b), a.difference(&b).is_empty());
    }

    /// Whatever is accepted is understood: written out, it reads the same again.
    #[test]
    fn no_text_makes_parsing_panic(text in "[0-9a-fx,+ -]{0,24}") {
        if let Ok(set) = text.parse::<CpuSet>() {
            prop_assert_eq!(set.to_string().parse(), Ok(set));
        }
        if let Ok(set) = CpuSet::from_mask(&text) {
            prop_assert_eq!(set.to_mask(mask_groups(&text)).and_then(|m| CpuSet::from_mask(&m)), Ok(set));
        }
    }
}
