//! Each condition alone keeps a VF from being free, and none of them is missed when
//! it is read from the trees.

use std::os::unix::fs::symlink;

use berth_kernel::netlink::AddressFlags;
use berth_kernel::pci;
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::boot::Writer;

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn key() -> Key {
    "game/web-1:net1".parse().unwrap()
}

fn free() -> Facts {
    Facts {
        driver: Some("igbvf".into()),
        netdevs: vec![name("ens1v0")],
        ..Facts::default()
    }
}

fn reasons(facts: &Facts) -> Vec<Reason> {
    match facts.verdict() {
        Verdict::Free(_) => Vec::new(),
        Verdict::Busy(reasons) => reasons,
    }
}

fn quarantine(reason: &str) -> Claim {
    let text = format!(r#"{{"state": "quarantined", "reason": "{reason}"}}"#);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_vf_with_a_driver_and_one_device_here_is_free() {
    assert_eq!(free().verdict(), Verdict::Free(name("ens1v0")));
}

#[test]
fn each_condition_alone_is_a_reason() {
    let writer = Writer::current(&Root::host()).unwrap();
    let claimed = Claim::Claimed {
        owner: key(),
        writer,
    };
    let both = vec![name("a"), name("b")];
    let address: IpNetwork = "10.0.0.5/24".parse().unwrap();
    let path = PathBuf::from("/run/netns/blue");
    type Spoil = fn(&mut Facts, &Claim);
    let cases: Vec<(Spoil, Reason)> = vec![
        (|f, _| f.driver = None, Reason::NoDriver),
        (
            |f, _| f.driver = Some("vfio-pci".into()),
            Reason::Userspace("vfio-pci".into()),
        ),
        (|f, _| f.netdevs.clear(), Reason::NotHere),
        (
            |f, _| f.netdevs = vec![name("a"), name("b")],
            Reason::Several(both),
        ),
        (
            |f, claim| f.claim = Some(Ok(claim.clone())),
            Reason::Claimed(key()),
        ),
        (
            |f, _| f.claim = Some(Ok(quarantine("MAC"))),
            Reason::Quarantined("MAC".into()),
        ),
        (
            |f, _| f.claim = Some(Err("format 9".into())),
            Reason::UnreadableClaim("format 9".into()),
        ),
        (
            |f, _| f.master = Some("br0".into()),
            Reason::Master("br0".into()),
        ),
        (
            |f, _| f.uppers = vec!["v5".into()],
            Reason::Uppers(vec!["v5".into()]),
        ),
        (
            |f, _| f.addresses = vec!["10.0.0.5/24".parse().unwrap()],
            Reason::Addresses(vec![address]),
        ),
        (
            |f, _| f.reference_owner = Some("/run/netns/blue".into()),
            Reason::ReferenceOwner(path),
        ),
        (|f, _| f.reserved = true, Reason::Reserved),
    ];
    for (spoil, reason) in cases {
        let mut facts = free();
        spoil(&mut facts, &claimed);
        assert_eq!(reasons(&facts), [reason]);
    }
}

#[test]
fn every_reason_is_told_the_owner_first() {
    let facts = Facts {
        master: Some("br0".into()),
        claim: Some(Ok(quarantine("MTU is 9000"))),
        reserved: true,
        ..free()
    };
    let texts: Vec<String> = reasons(&facts).iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "in quarantine (MTU is 9000)",
            "reserved in node.json",
            "it is a port of br0"
        ]
    );
}

#[test]
fn unusable_is_what_waiting_does_not_cure() {
    assert!(Reason::NoDriver.is_unusable() && !Reason::NoDriver.is_use());
    assert!(Reason::Userspace("vfio-pci".into()).is_unusable());
    assert!(!Reason::NotHere.is_unusable() && Reason::NotHere.is_use());
    assert!(Reason::Claimed(key()).is_use() && !Reason::Reserved.is_use());
}

/// A PF with two VFs of these network devices.
fn tree(devices: [&str; 2]) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    let pci = root.sys.join("bus/pci/devices");
    let pf = pci.join("0000:01:00.0");
    fs::create_dir_all(pf.join("net/ens1")).unwrap();
    for (file, text) in [
        ("class", "0x020000\n"),
        ("sriov_totalvfs", "7\n"),
        ("sriov_numvfs", "2\n"),
        ("numa_node", "0\n"),
    ] {
        fs::write(pf.join(file), text).unwrap();
    }
    for (index, device) in devices.iter().enumerate() {
        let address = format!("0000:01:10.{}", 2 * index);
        let vf = pci.join(&address);
        fs::create_dir_all(vf.join("net").join(device)).unwrap();
        fs::create_dir_all(root.sys.join("class/net").join(device)).unwrap();
        symlink("../../../bus/pci/drivers/igbvf", vf.join("driver")).unwrap();
        symlink(format!("../{address}"), pf.join(format!("virtfn{index}"))).unwrap();
    }
    (dir, root)
}

fn vfs(root: &Root) -> Vec<VirtualFunction> {
    pci::physical_functions(root).unwrap().remove(0).vfs
}

#[test]
fn masters_and_uppers_are_told_apart() {
    let (_dir, root) = tree(["ens1v0", "ens1v1"]);
    let device = root.sys.join("class/net/ens1v0");
    assert_eq!(stacked(&root, &name("ens1v0")), Ok((None, Vec::new())));
    for link in ["master", "upper_br0", "upper_ens1v0.5"] {
        let target = link.strip_prefix("upper_").unwrap_or("br0");
        symlink(format!("../{target}"), device.join(link)).unwrap();
    }
    let expected = (Some("br0".to_owned()), vec!["ens1v0.5".to_owned()]);
    assert_eq!(stacked(&root, &name("ens1v0")), Ok(expected));
}

#[test]
fn a_file_of_the_reference_plugin_counts_while_its_namespace_lives() {
    let (_dir, root) = tree(["ens1v0", "ens1v1"]);
    let address = vfs(&root)[0].address;
    let dir = root.var.join("lib/cni/sriov/pci");
    fs::create_dir_all(&dir).unwrap();
    assert_eq!(reference_owner(&root, address), Ok(None));
    fs::write(dir.join(address.to_string()), "/nonexistent/netns").unwrap();
    assert_eq!(reference_owner(&root, address), Ok(None));
    let own = "/proc/self/ns/net";
    fs::write(dir.join(address.to_string()), format!("{own}\n")).unwrap();
    assert_eq!(
        reference_owner(&root, address),
        Ok(Some(PathBuf::from(own)))
    );
}

#[test]
fn a_device_that_moved_meanwhile_is_not_here() {
    let (_dir, root) = tree(["not-a-link-here", "lo"]);
    let net = Net::open().unwrap();
    let reader = Reader::new(&root, &net).unwrap();
    let verdict = reader.verdict(&vfs(&root)[0]).unwrap();
    assert_eq!(verdict, Verdict::Busy(vec![Reason::NotHere]));
}

#[test]
fn a_broken_node_file_hides_no_reservation() {
    let (_dir, root) = tree(["ens1v0", "ens1v1"]);
    dirs::ensure(&root, Path::new("")).unwrap();
    let path = dirs::berth(&root).join("node.json");
    fs::write(&path, r#"{"format": 1, "reservedVfs": []}"#).unwrap();
    let net = Net::open().unwrap();
    assert!(Reader::new(&root, &net).is_err());
    fs::write(&path, r#"{"format": 1, "reserved_vfs": ["0000:01:10.0"]}"#).unwrap();
    let reader = Reader::new(&root, &net).unwrap();
    let facts = reader.facts(&vfs(&root)[0]).unwrap();
    assert!(facts.reserved);
}

#[test]
fn claims_are_facts_even_if_unreadable() {
    let (_dir, root) = tree(["lo", "ens1v1"]);
    let net = Net::open().unwrap();
    let reader = Reader::new(&root, &net).unwrap();
    let vf = &vfs(&root)[0];
    let writer = Writer::current(&Root::host()).unwrap();
    Claims::new(&root)
        .claim(vf.address, &key(), writer)
        .unwrap();
    let facts = reader.facts(vf).unwrap();
    assert_eq!(reasons(&facts)[0], Reason::Claimed(key()));
    let path = dirs::berth(&root).join("vf").join(vf.address.to_string());
    fs::write(path, "garbage").unwrap();
    let facts = reader.facts(vf).unwrap();
    assert!(matches!(reasons(&facts)[0], Reason::UnreadableClaim(_)));
}

/// `lo` stands in for the VF's network device: it is in every new namespace.
#[test]
#[ignore = "kernel: root"]
fn an_address_of_the_host_is_a_use() {
    let (_dir, root) = tree(["lo", "ens1v1"]);
    let check = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let net = Net::open().unwrap();
        let reader = Reader::new(&root, &net).unwrap();
        let vf = &vfs(&root)[0];
        assert_eq!(reader.verdict(vf).unwrap(), Verdict::Free(name("lo")));
        let address: IpNetwork = "10.9.0.1/32".parse().unwrap();
        net.add_address(1, address, AddressFlags::default())
            .unwrap();
        let expected = vec![Reason::Addresses(vec![address])];
        assert_eq!(reader.verdict(vf).unwrap(), Verdict::Busy(expected));
    };
    std::thread::spawn(check).join().unwrap();
}
