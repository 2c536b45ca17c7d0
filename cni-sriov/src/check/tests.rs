use super::*;

/// Interrupts 45 and 46 at CPUs 2 and 3.
fn tree() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    for (irq, cpus) in [(45, "2\n"), (46, "3\n")] {
        let path = root.proc.join(format!("irq/{irq}"));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("smp_affinity_list"), cpus).unwrap();
    }
    (dir, root)
}

fn drifts(set: &[(u32, u32)], steer: Option<&Steer>) -> bool {
    let (_dir, root) = tree();
    let set = set
        .iter()
        .map(|(irq, cpu)| (*irq, [*cpu].into_iter().collect()));
    let mut drift = Drift::default();
    irq_drift(&root, &set.collect(), steer, &mut drift).unwrap();
    !drift.is_empty()
}

#[test]
fn interrupts_the_agent_took_over_do_not_drift_and_others_do() {
    assert!(!drifts(&[(45, 2), (46, 3)], None));
    assert!(drifts(&[(45, 7)], None));
    assert!(drifts(&[(99, 1)], None), "gone");
    let steer = Steer {
        vf: "0000:01:10.2".parse().unwrap(),
        workload: Some("game".into()),
        irqs: [(45, "0-7".parse().unwrap())].into(),
        queues: false,
    };
    assert!(!drifts(&[(45, 7), (46, 3)], Some(&steer)));
    assert!(
        drifts(&[(45, 7), (46, 4)], Some(&steer)),
        "46 is not the agent's"
    );
}
