use super::*;
use berth_kernel::Irq;
use berth_kernel::irq::Role;

fn key(name: &str) -> Key {
    format!("net/{name}:net1").parse().unwrap()
}

/// With one interrupt, `number`.
fn attachment(name: &str, number: u32, netns: u64) -> Attachment {
    Attachment {
        key: key(name),
        vf: format!("0000:01:10.{}", number % 8).parse().unwrap(),
        index: number,
        numa_node: None,
        netns,
        vectors: vec![Vector {
            irq: Irq(number),
            role: Role::RxTx(0),
            action: "net1-rx-0".into(),
        }],
        interface: None,
    }
}

#[test]
fn interrupts_are_told_by_their_attachments() {
    let all = Attachments {
        found: vec![attachment("a", 41, 1), attachment("b", 42, 2)],
        notes: vec![],
    };
    let owners = all.owners();
    assert_eq!(owners.len(), 2);
    assert_eq!(owners[&42], ("0000:01:10.2".parse().unwrap(), key("b")));
}

#[test]
fn named_attachments_are_taken_and_absent_ones_noted() {
    let all = Attachments {
        found: vec![attachment("a", 41, 1), attachment("b", 42, 2)],
        notes: vec![],
    };
    let root = Root::under(std::path::Path::new("/nonexistent"));
    let spec = NetworkSpec {
        attachments: vec![key("b"), key("gone")],
        ..NetworkSpec::default()
    };
    let (keys, notes) = all.of_workload(&root, &spec, &[1]).unwrap();
    assert_eq!(keys, [key("b")].into());
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].starts_with("attachment net/gone:net1"),
        "{notes:?}"
    );
    // Without names processes decide; those that have ended are none.
    let nothing = NetworkSpec::default();
    let (keys, notes) = all.of_workload(&root, &nothing, &[1]).unwrap();
    assert!(keys.is_empty() && notes.is_empty());
}

#[test]
#[ignore = "kernel: root"]
fn without_names_the_processes_namespaces_decide() {
    let here = NetNs::current().unwrap().cookie().unwrap();
    let all = Attachments {
        found: vec![attachment("a", 41, here), attachment("b", 42, u64::MAX)],
        notes: vec![],
    };
    let pids = [std::process::id(), std::process::id(), u32::MAX];
    let spec = NetworkSpec::default();
    let (keys, _) = all.of_workload(&Root::host(), &spec, &pids).unwrap();
    assert_eq!(keys, [key("a")].into());
}

#[test]
fn a_broken_record_is_a_note_and_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    let network = root.run.join("berth/attachments/net");
    std::fs::create_dir_all(&network).unwrap();
    std::fs::write(network.join("a:net1.json"), "{").unwrap();
    let all = Attachments::read(&root, &mut Namespaces::default());
    assert!(all.found.is_empty());
    assert!(all.notes[0].contains("net/a:net1.json"), "{:?}", all.notes);
}
