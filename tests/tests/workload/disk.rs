//! Directories with a quota: the kernel's own errors, and that it stays.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use berth_tests::{Context, Node, Result, Test, Tree, ensure, test};
use serde_json::{Value, json};

use crate::kit::{Agent, Dir, Home, MIB, NEEDS, refused, run};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("xfs_ends_where_it_was_told", NEEDS, |_| {
            limited("xfs", "ENOSPC")
        }),
        test("ext4_ends_where_it_was_told", NEEDS, |_| {
            limited("ext4", "EDQUOT")
        }),
        test("inodes_are_counted", NEEDS, inodes),
        test("a_full_directory_counts_from_the_first_byte", NEEDS, |_| {
            full("xfs")?;
            full("ext4")
        }),
        test("a_quota_outlives_agent_and_mount", NEEDS, remount),
        test("a_quota_changed_by_hand_is_repaired", NEEDS, repaired),
        test(
            "directories_that_cannot_have_one_are_refused",
            NEEDS,
            impossible,
        ),
    ]
    .into_iter()
    .map(|test| test.limit(Duration::from_secs(300)))
    .collect()
}

fn quota(dir: &Dir, bytes: u64) -> Value {
    json!({"disk": [{"path": dir.0, "limit_bytes": bytes}]})
}

/// A limit reached, raised live, lowered as far as it goes, taken off.
fn limited(kind: &str, errno: &str) -> Result<()> {
    let tree = Tree::create("berth-test-quota")?;
    let mut home = Home::make(&tree, "a")?;
    let dir = Dir::make(&format!("/data/{kind}/berth-test-quota"))?;
    let file = format!("{}/file", dir.0);
    let agent = Agent::start()?;
    agent.set("game", &home.spec(quota(&dir, 20 * MIB)))?;
    agent.settled("game")?;
    let written = home.worker.write(&file, 40 * MIB)?;
    ensure!(written.errno.as_deref() == Some(errno), "{written:?}");
    ensure!(written.bytes <= 20 * MIB, "{written:?}");
    ensure!(written.bytes >= 18 * MIB, "ended early: {written:?}");

    agent.change("game", &quota(&dir, 60 * MIB))?;
    let written = home.worker.write(&file, 40 * MIB)?;
    ensure!(written.errno.is_none(), "after the raise: {written:?}");

    let answer = agent.patch("game", &quota(&dir, 30 * MIB))?;
    refused(&answer, 409, "does_not_fit", &[&dir.0])?;
    let written = home.worker.write(&format!("{}/more", dir.0), 10 * MIB)?;
    ensure!(written.errno.is_none(), "it was lowered: {written:?}");
    agent.change("game", &quota(&dir, 51 * MIB))?;
    let written = home.worker.write(&format!("{}/most", dir.0), 10 * MIB)?;
    ensure!(written.errno.as_deref() == Some(errno), "{written:?}");

    agent.delete("game")?;
    ensure!(
        projects(&dir)?.iter().all(|(id, _)| *id == 0),
        "still tagged"
    );
    let written = home.worker.write(&file, 60 * MIB)?;
    ensure!(written.errno.is_none(), "after the end: {written:?}");
    Ok(())
}

fn inodes(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-inodes")?;
    let mut home = Home::make(&tree, "a")?;
    let dir = Dir::make("/data/xfs/berth-test-inodes")?;
    let agent = Agent::start()?;
    let spec = json!({"disk": [{"path": dir.0, "limit_bytes": 100 * MIB, "limit_inodes": 50}]});
    agent.set("game", &home.spec(spec))?;
    let (made, errno) = home.worker.make(&dir.0, 100)?;
    ensure!(errno.as_deref() == Some("ENOSPC"), "{errno:?}");
    // The directory itself is one.
    ensure!(made == 49, "{made} files");
    agent.delete("game")
}

/// What is in it already is tagged, links and pipes are left as they are, what is
/// outside is not touched.
fn full(kind: &str) -> Result<()> {
    let tree = Tree::create("berth-test-full")?;
    let mut home = Home::make(&tree, "a")?;
    let outside = Dir::make(&format!("/data/{kind}/berth-test-outside"))?;
    let dir = Dir::make(&format!("/data/{kind}/berth-test-full"))?;
    fs::write(format!("{}/kept", outside.0), "kept")?;
    let deep = format!("{}/one/two/three", dir.0);
    fs::create_dir_all(&deep)?;
    for n in 0..40 {
        fs::write(format!("{deep}/file-{n}"), vec![b'x'; 100_000])?;
    }
    symlink(&outside.0, format!("{}/away", dir.0))?;
    run(&format!("mkfifo {}/pipe", dir.0))?;

    let agent = Agent::start()?;
    let answer = agent.put("game", &home.spec(quota(&dir, MIB)))?;
    refused(&answer, 409, "does_not_fit", &[&dir.0])?;
    ensure!(
        projects(&dir)?.iter().all(|(id, _)| *id == 0),
        "it was begun"
    );

    agent.set("game", &home.spec(quota(&dir, 10 * MIB)))?;
    let tagged = projects(&dir)?;
    let project = tagged.first().context("nothing is there")?.0;
    ensure!(project != 0, "not tagged");
    // 40 files, the directories one, two, three; lsattr(1) does not list links.
    let of_it = tagged.iter().filter(|(id, _)| *id == project).count();
    ensure!(of_it >= 43, "{of_it} of {tagged:?}");
    ensure!(
        projects(&outside)?.iter().all(|(id, _)| *id == 0),
        "outside"
    );
    let written = home.worker.write(&format!("{deep}/new"), 20 * MIB)?;
    ensure!(
        written.errno.is_some() && written.bytes < 7 * MIB,
        "{written:?}"
    );

    agent.delete("game")?;
    ensure!(
        projects(&dir)?.iter().all(|(id, _)| *id == 0),
        "still tagged"
    );
    Ok(())
}

/// Project and flags of all in a directory, by lsattr(1).
fn projects(dir: &Dir) -> Result<Vec<(u32, String)>> {
    let listed = run(&format!("lsattr -Rap {}", dir.0))?;
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
    };
    Ok(listed.lines().filter_map(entry).collect())
}

const MOUNT: &str = "/run/slow";

/// The capped disk, mounted with project quota.
fn mount_slow() -> Result<()> {
    fs::create_dir_all(MOUNT)?;
    run(&format!("mount -t xfs -o prjquota /dev/lab/slow {MOUNT}")).map(drop)
}

fn remount(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-mount")?;
    let mut home = Home::make(&tree, "a")?;
    mount_slow()?;
    let dir = Dir::make(&format!("{MOUNT}/berth-test-mount"))?;
    let mut agent = Agent::start()?;
    agent.set("game", &home.spec(quota(&dir, 8 * MIB)))?;
    let over = |home: &mut Home, what: &str| {
        let written = home.worker.write(&format!("{}/file", dir.0), 16 * MIB)?;
        let held = written.errno.as_deref() == Some("ENOSPC") && written.bytes <= 8 * MIB;
        ensure!(held, "{what}: {written:?}");
        Ok(())
    };
    over(&mut home, "at first")?;
    agent.restart()?;
    over(&mut home, "after a restart")?;
    agent.kill()?;
    over(&mut home, "without an agent")?;
    run(&format!("umount {MOUNT}"))?;
    mount_slow()?;
    over(&mut home, "after a mount")?;
    agent.restart()?;
    let view = agent.settled("game")?;
    ensure!(view["repairs"] == 0, "nothing was to be repaired: {view}");
    agent.delete("game")?;
    ensure!(
        projects(&dir)?.iter().all(|(id, _)| *id == 0),
        "still tagged"
    );
    drop((agent, dir));
    run(&format!("umount {MOUNT}")).map(drop)
}

fn repaired(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-hand")?;
    let mut home = Home::make(&tree, "a")?;
    let dir = Dir::make("/data/xfs/berth-test-hand")?;
    let agent = Agent::start()?;
    agent.set("game", &home.spec(quota(&dir, 10 * MIB)))?;
    agent.settled("game")?;
    let project = projects(&dir)?.first().context("nothing is there")?.0;

    let seen = agent.last_event()?;
    let mut command = std::process::Command::new("xfs_quota");
    let limit = format!("limit -p bhard=0 {project}");
    berth_tests::command::run(command.args(["-x", "-c", &limit, "/data/xfs"]))?;
    agent.repaired(seen, "quota")?;
    let written = home.worker.write(&format!("{}/file", dir.0), 20 * MIB)?;
    ensure!(written.errno.as_deref() == Some("ENOSPC"), "{written:?}");

    let seen = agent.last_event()?;
    run(&format!("chattr -p 0 {}", dir.0))?;
    agent.repaired(seen, "project")?;
    ensure!(projects(&dir)?.first().map(|(id, _)| *id) == Some(project));
    agent.delete("game")
}

fn impossible(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-not")?;
    let home = Home::make(&tree, "a")?;
    let agent = Agent::start()?;
    fs::create_dir("/run/quota")?;
    let spec = json!({"disk": [{"path": "/run/quota", "limit_bytes": MIB}]});
    let answer = agent.put("game", &home.spec(spec))?;
    refused(&answer, 422, "unsupported", &["/run/quota"])?;
    let spec = json!({"disk": [{"path": "/data/xfs/none", "limit_bytes": MIB}]});
    let answer = agent.put("game", &home.spec(spec))?;
    refused(&answer, 404, "not_found", &["/data/xfs/none"])?;
    let dir = Dir::make("/data/xfs/berth-test-not")?;
    let inner = format!("{}/inner", dir.0);
    fs::create_dir(&inner)?;
    agent.set("game", &home.spec(quota(&dir, 10 * MIB)))?;
    let other = Home::make(&tree, "b")?;
    for path in [&dir.0, &inner] {
        let spec = json!({"disk": [{"path": path, "limit_bytes": MIB}]});
        let answer = agent.put("other", &other.spec(spec))?;
        refused(&answer, 409, "conflict", &["game"])?;
    }
    agent.delete("game")
}
