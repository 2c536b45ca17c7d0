//! Buffered writes within their limit, and in proportion to their weights.

use std::fs;
use std::time::Duration;

use berth_tests::{Cgroup, Context, Node, Result, Test, Tree, ensure, test};
use serde_json::{Value, json};

use crate::kit::{Agent, Dir, Home, MIB, NEEDS, device_of, run};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("a_limit_holds_on_xfs", NEEDS, |_| limit("/data/xfs")),
        test("a_limit_holds_on_ext4", NEEDS, |_| limit("/data/ext4")),
        test("a_share_is_a_part_of_what_the_disk_can_do", NEEDS, share),
        test("weights_divide_a_disk", NEEDS, weights),
    ]
    .into_iter()
    .map(|test| test.limit(Duration::from_secs(900)))
    .collect()
}

const RATE: u64 = 5 * MIB;
/// At the limit this takes 24 s.
const BYTES: u64 = 120 * MIB;

/// Written and synced: what the process measures is at most 10 % above and 25 % below.
fn limit(mount: &str) -> Result<()> {
    let tree = Tree::create("berth-test-rate")?;
    let mut home = Home::make(&tree, "a")?;
    let dir = Dir::make(&format!("{mount}/berth-test-rate"))?;
    let agent = Agent::start()?;
    let spec = home.spec(json!({
        "memory": {"max_bytes": 256 * MIB},
        "io": [{"path": dir.0, "write_bytes_per_sec": RATE}],
    }));
    agent.set("game", &spec)?;
    let device = device_of(mount)?;
    let live = home.cgroup.of_device("io.max", &device, "wbps")?;
    ensure!(live == Some(RATE.to_string()), "{live:?}");
    // Without a wished memory limit as well.
    for patch in [json!({}), json!({"memory": null})] {
        agent.change("game", &patch)?;
        let written = home.worker.write(&format!("{}/file", dir.0), BYTES)?;
        ensure!(written.errno.is_none(), "{written:?}");
        ensure!(written.seconds >= 20.0, "too short to say: {written:?}");
        let ratio = rate(written.bytes, written.seconds) / rate(RATE, 1.0);
        ensure!(
            (0.75..=1.10).contains(&ratio),
            "{ratio:.2} of the limit with {patch}: {written:?}"
        );
    }
    ensure!(home.cgroup.entry("memory.events", "oom_kill")? == 0);
    agent.delete("game")?;
    ensure!(home.cgroup.of_device("io.max", &device, "wbps")?.is_none());
    Ok(())
}

fn rate(bytes: u64, seconds: f64) -> f64 {
    // Whole KiB lose nothing here and fit.
    f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / seconds
}

fn share(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-share")?;
    let home = Home::make(&tree, "a")?;
    let disk = "[[disk]]\npath = \"/data/xfs\"\nread_bytes_per_sec = 41943040\n\
        write_bytes_per_sec = 20971520\n";
    let agent = Agent::with(disk)?;
    agent.set("game", &home.spec(shared(0.25)))?;
    let device = device_of("/data/xfs")?;
    let live = |key: &str| home.cgroup.of_device("io.max", &device, key);
    ensure!(
        live("wbps")?.as_deref() == Some("5242880"),
        "{:?}",
        live("wbps")?
    );
    ensure!(
        live("rbps")?.as_deref() == Some("10485760"),
        "{:?}",
        live("rbps")?
    );
    agent.change("game", &shared(0.5))?;
    ensure!(
        live("wbps")?.as_deref() == Some("10485760"),
        "{:?}",
        live("wbps")?
    );

    // Shares are promises: more than the whole disk is not given.
    let other = Home::make(&tree, "b")?;
    let answer = agent.put("other", &other.spec(shared(0.6)))?;
    crate::kit::refused(&answer, 409, "does_not_fit", &["/data/xfs"])?;
    let unknown = json!({"io": [{"path": "/data/ext4", "share": 0.1}]});
    let answer = agent.put("other", &other.spec(unknown))?;
    crate::kit::refused(&answer, 422, "unsupported", &["/data/ext4"])?;
    agent.delete("game")?;
    ensure!(home.cgroup.read("io.max")?.is_empty());
    Ok(())
}

fn shared(share: f64) -> Value {
    json!({"io": [{"path": "/data/xfs", "share": share}]})
}

const MOUNT: &str = "/run/slow";
/// Below the 20 MB/s at which the guest's disk is capped.
const SLOW: &str = "[[disk]]\npath = \"/run/slow\"\niocost = true\n\
    read_bytes_per_sec = 15728640\nwrite_bytes_per_sec = 15728640\n\
    read_iops = 2000\nwrite_iops = 2000\n";

/// Both writers begin with empty caches and write at memory speed until these are full.
const WARM_UP: Duration = Duration::from_secs(45);
/// Writeback comes in steps of some MiB, and in emulation the host's other work stops the
/// guest now and then: shorter windows say less.
const WINDOW: Duration = Duration::from_secs(75);

/// Two buffered writers at 1:3.
fn weights(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-weight")?;
    fs::create_dir_all(MOUNT)?;
    run(&format!("mount -t xfs /dev/lab/slow {MOUNT}"))?;
    let disk = fs::canonicalize("/dev/lab/slow")?;
    let name = disk.file_name().context("no name")?.to_string_lossy();
    let latency = format!("/sys/block/{name}/queue/wbt_lat_usec");
    let before = fs::read_to_string(&latency)?;
    let device = device_of(MOUNT)?;
    let dir = Dir::make(&format!("{MOUNT}/berth-test-weight"))?;
    let agent = Agent::with(SLOW)?;

    let mut homes = [Home::make(&tree, "one")?, Home::make(&tree, "three")?];
    for ((id, weight), home) in [("one", 100), ("three", 300)].into_iter().zip(&mut homes) {
        let spec = home.spec(json!({
            "memory": {"max_bytes": 512 * MIB},
            "io": [{"path": dir.0, "weight": weight}],
        }));
        agent.set(id, &spec)?;
    }
    let qos = Cgroup::root().of_device("io.cost.qos", &device, "enable")?;
    ensure!(qos.as_deref() == Some("1"), "iocost is not on: {qos:?}");
    for (home, id) in homes.iter_mut().zip(["one", "three"]) {
        home.worker.pour(&format!("{}/{id}", dir.0), 300 * MIB)?;
    }
    std::thread::sleep(WARM_UP);
    let begun = written(&homes, &device)?;
    std::thread::sleep(WINDOW);
    let ended = written(&homes, &device)?;
    let [one, three] = [0, 1].map(|n| rate(ended[n].saturating_sub(begun[n]), 1.0));
    ensure!(one > 0.0, "one of both wrote nothing");
    let ratio = three / one;
    ensure!((2.7..=3.3).contains(&ratio), "{ratio:.2} in {WINDOW:?}");

    drop(homes.map(|home| home.worker));
    agent.delete("one")?;
    agent.delete("three")?;
    let qos = Cgroup::root().of_device("io.cost.qos", &device, "enable")?;
    ensure!(qos.as_deref() != Some("1"), "iocost is still on");
    ensure!(
        fs::read_to_string(&latency)? == before,
        "writeback throttling"
    );
    drop((agent, dir));
    run(&format!("umount {MOUNT}")).map(drop)
}

fn written(homes: &[Home; 2], device: &str) -> Result<[u64; 2]> {
    let of = |home: &Home| -> Result<u64> {
        let bytes = home.cgroup.of_device("io.stat", device, "wbytes")?;
        Ok(bytes.unwrap_or_default().parse().unwrap_or_default())
    };
    Ok([of(&homes[0])?, of(&homes[1])?])
}
