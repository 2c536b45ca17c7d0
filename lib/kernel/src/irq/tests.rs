use super::*;
use crate::error::Kind;

/// IRQ 44 of a machine with CPUs 0-3 and 5, of which 3 is offline; plain files stand for
/// the kernel's.
fn tree() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    for (path, text) in [
        (root.proc.join("irq/default_smp_affinity"), "2f\n"),
        (root.proc.join("irq/44/smp_affinity_list"), "0-3,5\n"),
        (root.proc.join("irq/44/effective_affinity_list"), "2\n"),
        (root.proc.join("irq/44/node"), "1\n"),
        (root.sys.join("kernel/irq/44/actions"), "net0-rx-0\n"),
        (root.sys.join("kernel/irq/44/per_cpu_count"), "0,7,0,0,9\n"),
        (root.sys.join("kernel/irq/45/actions"), "\n"),
        (root.sys.join("devices/system/cpu/possible"), "0-3,5\n"),
        (root.sys.join("devices/system/cpu/online"), "0-2,5\n"),
    ] {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    (dir, root)
}

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

#[test]
fn an_interrupt_with_a_handler_tells_all_about_itself() {
    let (_dir, root) = tree();
    let irq = Irq(44);
    assert!(exists(&root, irq));
    assert_eq!(affinity(&root, irq), Ok(set("0-3,5")));
    assert_eq!(effective_affinity(&root, irq), Ok(Some(set("2"))));
    assert_eq!(default_affinity(&root), Ok(set("0-3,5")));
    assert_eq!(node(&root, irq), Ok(Some(1)));
    assert_eq!(actions(&root, irq), Ok(vec!["net0-rx-0".to_owned()]));
    let counted = BTreeMap::from([(0, 0), (1, 7), (2, 0), (3, 0), (5, 9)]);
    assert_eq!(
        counts(&root, irq),
        Ok(counted),
        "counts belong to possible CPUs"
    );
}

#[test]
fn before_its_first_handler_it_has_no_affinity() {
    let (_dir, root) = tree();
    let irq = Irq(45);
    assert!(!exists(&root, irq));
    assert_eq!(affinity(&root, irq).unwrap_err().kind(), Kind::NotFound);
    let error = set_affinity(&root, irq, &set("1")).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(effective_affinity(&root, irq), Ok(None));
    assert_eq!(actions(&root, irq), Ok(vec![]));
    assert_eq!(actions(&root, Irq(46)).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn an_affinity_never_placed_is_not_an_empty_one() {
    let (_dir, root) = tree();
    std::fs::write(root.proc.join("irq/44/effective_affinity_list"), "\n").unwrap();
    assert_eq!(effective_affinity(&root, Irq(44)), Ok(None));
    std::fs::write(root.proc.join("irq/44/node"), "-1\n").unwrap();
    assert_eq!(node(&root, Irq(44)), Ok(None));
}

#[test]
fn affinity_is_written_as_a_list_if_it_differs() {
    let (_dir, root) = tree();
    let file = root.proc.join("irq/44/smp_affinity_list");
    // Same CPUs in another notation: what is so already is not written.
    std::fs::write(&file, "0,1,2,3,5\n").unwrap();
    set_affinity(&root, Irq(44), &set("0-3,5")).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "0,1,2,3,5\n");
    std::fs::write(&file, "0\n").unwrap();
    set_affinity(&root, Irq(44), &set("1-2")).unwrap();
    assert_eq!(affinity(&root, Irq(44)), Ok(set("1-2")));
}

#[test]
fn a_new_interrupt_may_arrive_at_default_cpus_of_its_node() {
    let (_dir, root) = tree();
    let nodes = root.sys.join("devices/system/node/node1");
    std::fs::create_dir_all(&nodes).unwrap();
    let initial = |cpulist: &str, default: &str| {
        std::fs::write(nodes.join("cpulist"), cpulist).unwrap();
        std::fs::write(root.proc.join("irq/default_smp_affinity"), default).unwrap();
        initial_affinity(&root, Irq(44)).unwrap().to_string()
    };
    // CPU 3 is offline.
    assert_eq!(initial("2-3,5\n", "2f\n"), "2,5");
    assert_eq!(initial("2-3,5\n", "3\n"), "0-1", "none of them on the node");
    assert_eq!(initial("2-3,5\n", "8\n"), "2,5", "none of them online");
    std::fs::write(root.proc.join("irq/44/node"), "-1\n").unwrap();
    assert_eq!(initial("2-3,5\n", "2f\n"), "0-2,5", "no node");
}

#[test]
fn interrupts_are_listed_by_number() {
    let (_dir, root) = tree();
    for name in ["9", "120"] {
        std::fs::create_dir_all(root.proc.join("irq").join(name)).unwrap();
    }
    assert_eq!(all(&root), Ok(vec![Irq(9), Irq(44), Irq(120)]));
    let nowhere = Root::under(std::path::Path::new("/nonexistent"));
    assert_eq!(all(&nowhere).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn the_default_is_written_as_a_mask_of_the_kernels_own_length() {
    let (_dir, root) = tree();
    let file = root.proc.join("irq/default_smp_affinity");
    let text = || std::fs::read_to_string(&file).unwrap();
    set_default_affinity(&root, &set("0-3,5")).unwrap();
    assert_eq!(text(), "2f\n", "what is so already is not written");
    set_default_affinity(&root, &set("0,2")).unwrap();
    assert_eq!(text(), "00000005");
    std::fs::write(&file, "00000000,0000ffff").unwrap();
    set_default_affinity(&root, &set("0,33")).unwrap();
    assert_eq!(text(), "00000002,00000001");
    let error = set_default_affinity(&root, &set("64")).unwrap_err();
    assert!(
        error.to_string().contains("default_smp_affinity"),
        "{error}"
    );
}

#[test]
fn no_cpu_is_refused_before_the_write() {
    let (_dir, root) = tree();
    let error = set_affinity(&root, Irq(44), &set("")).unwrap_err();
    assert_eq!(error.errno, Some(Errno::EINVAL));
    assert!(
        error.to_string().contains("an interrupt needs a CPU"),
        "{error}"
    );
    assert_eq!(affinity(&root, Irq(44)), Ok(set("0-3,5")));
}

#[test]
fn what_the_kernel_keeps_instead_is_told() {
    let (_dir, root) = tree();
    // A plain file keeps the tail of the longer text: 5,5 is read back as 5.
    std::fs::write(root.proc.join("irq/44/smp_affinity_list"), "0,5").unwrap();
    let error = set_affinity(&root, Irq(44), &set("1")).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("write CPUs \"1\" to "), "{text}");
    assert!(
        text.ends_with("irq/44/smp_affinity_list: the kernel keeps \"1,5\""),
        "{text}"
    );
}

#[test]
fn a_refused_affinity_is_explained() {
    let (_dir, root) = tree();
    let why = |errno, cpus| refusal(&root, errno, &set(cpus)).unwrap_or_default();
    for managed in [Errno::EIO, Errno::EPERM] {
        assert!(why(managed, "1").contains("a managed interrupt"));
    }
    assert!(why(Errno::EINVAL, "3").ends_with("online are 0-2,5"));
    assert_eq!(why(Errno::EINVAL, "2-3"), "", "one of them is online");
    for beyond in [Errno::ERANGE, Errno::EOVERFLOW] {
        assert!(why(beyond, "9").ends_with("no other CPUs than 0-3,5"));
    }
    assert!(why(Errno::ENOSPC, "1").contains("no room"));
    assert_eq!(why(Errno::ENOENT, "1"), "");
}

#[test]
fn counts_that_do_not_fit_the_machine_name_the_file() {
    let (_dir, root) = tree();
    for garbled in ["1,2\n", "1,x,3,4,5\n", "\n"] {
        std::fs::write(root.sys.join("kernel/irq/44/per_cpu_count"), garbled).unwrap();
        let error = counts(&root, Irq(44)).unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed);
        assert!(error.object.ends_with("irq/44/per_cpu_count"), "{error}");
    }
}

/// The running kernel's interrupts are understood, whatever they are.
#[test]
fn this_machines_interrupts_are_read() {
    let root = Root::host();
    let Ok(names) = file::names(&root.sys.join("kernel/irq")) else {
        return;
    };
    for number in names.iter().filter_map(|name| name.parse().ok()) {
        let irq = Irq(number);
        // An interrupt may be freed while we look.
        let counted = counts(&root, irq).absent_is_fine().unwrap();
        assert!(counted.is_none_or(|counts| !counts.is_empty()));
        actions(&root, irq).absent_is_fine().unwrap();
        affinity(&root, irq).absent_is_fine().unwrap();
        effective_affinity(&root, irq).unwrap();
    }
}
