//! JSON to a [`Spec`], checked: what comes out of here contradicts neither itself nor
//! any kernel. Whether it fits this node is asked elsewhere.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    CpuMode, CpuNuma, CpuSpec, DiskSpec, IoSpec, MemoryNuma, MemorySpec, NetworkSpec, PacketWork,
    PartitionWish, Smt, Spec, Target, WorkloadId,
};
use crate::fields::{Fields, LARGEST, invalid};
use crate::refusal::Refusal;

/// The keys of a spec.
pub(super) const KEYS: [&str; 9] = [
    "id",
    "target",
    "cpu",
    "memory",
    "disk",
    "io",
    "network",
    "ttl_sec",
    "lost_ttl_sec",
];
/// The keys of `target`.
pub(super) const TARGET: [&str; 3] = ["cgroup", "pid", "container_id"];
/// The keys of `cpu`.
pub(super) const CPU: [&str; 7] = [
    "cores",
    "cpus",
    "mode",
    "smt",
    "numa",
    "partition",
    "best_effort",
];
/// The keys of `memory`.
pub(super) const MEMORY: [&str; 2] = ["max_bytes", "numa"];
/// The keys of `network`.
pub(super) const NETWORK: [&str; 3] = ["irq", "rps", "attachments"];
const DISK: [&str; 4] = ["path", "limit_bytes", "limit_inodes", "best_effort"];
const IO: [&str; 6] = [
    "path",
    "read_bytes_per_sec",
    "write_bytes_per_sec",
    "share",
    "weight",
    "best_effort",
];

/// Least `memory.max_bytes`: below it a process hardly starts.
const LEAST_MEMORY: u64 = 4 << 20;
/// The page `memory.max` is counted in on x86-64.
const PAGE: u64 = 4096;
/// Least `disk[].limit_bytes`: one block; 0 would mean no limit to the kernel
/// (quotactl(2)).
const LEAST_DISK: u64 = 4096;
/// Least rate of `io[]`: below it one readahead of the kernel takes seconds.
const LEAST_RATE: u64 = 64 << 10;
/// With `io[].weight`, which is spoilt by a `memory.high` far below the limit, the least
/// `memory.max_bytes` under which waiting writes still find room.
const LEAST_MEMORY_WITH_WEIGHT: u64 = 256 << 20;
/// `share` is kept in millionths, so that it reads back as it was written.
const SHARE_STEPS: f64 = 1e6;
/// The highest pid (`PID_MAX_LIMIT`, include/linux/threads.h).
const PID_MAX: u64 = 1 << 22;
/// One more than the highest CPU number any kernel can be built for.
const MAX_CPUS: u64 = berth_kernel::cpu::MAX_CPUS as u64;
/// A year: the longest a reservation is kept.
pub(crate) const LONGEST_SEC: u64 = 366 * 24 * 3600;

/// The spec of workload `id` in `body`, in which `id` may be absent.
///
/// `memory.max_bytes` is rounded down to a page, as the kernel does; `share` to
/// millionths.
///
/// # Errors
/// The first thing that is wrong, by the path of its key.
pub(crate) fn spec(id: &WorkloadId, body: &Value) -> Result<Spec, Refusal> {
    let fields = Fields::of("", body, &KEYS)?;
    check_id(id, &fields)?;
    let spec = Spec {
        id: id.clone(),
        target: target(&fields)?,
        cpu: fields.value("cpu").map(cpu).transpose()?,
        memory: fields.value("memory").map(memory).transpose()?,
        disk: each(&fields, "disk", disk)?,
        io: each(&fields, "io", io)?,
        network: fields.value("network").map(network).transpose()?,
        ttl_sec: fields.number("ttl_sec", 1..=LONGEST_SEC)?,
        lost_ttl_sec: fields.number("lost_ttl_sec", 0..=LONGEST_SEC)?,
    };
    check_disks(&spec.disk)?;
    check_io(&spec)?;
    check_exclusive(&spec)?;
    Ok(spec)
}

fn each<T>(
    fields: &Fields,
    key: &str,
    read: impl Fn(&str, &Value) -> Result<T, Refusal>,
) -> Result<Vec<T>, Refusal> {
    let members = fields.list(key)?;
    members
        .iter()
        .map(|(path, value)| read(path, value))
        .collect()
}

fn check_id(id: &WorkloadId, fields: &Fields) -> Result<(), Refusal> {
    match fields.text("id")? {
        Some(given) if given != id.as_str() => {
            let reason = format!("the request is about workload {id}");
            Err(fields.invalid("id", reason, "make them equal, or leave id out"))
        }
        _ => Ok(()),
    }
}

/// Exactly one of `keys`, else an error about the object `of`.
fn one_of<'k>(of: &str, fields: &Fields, keys: &[&'k str]) -> Result<&'k str, Refusal> {
    let all = keys.join(", ");
    match fields.given(keys)[..] {
        [key] => Ok(key),
        [] => {
            let reason = format!("none of {all} is there");
            let next = "write exactly one of them";
            Err(Refusal::new(
                crate::refusal::Code::Invalid,
                of,
                "absent",
                reason,
                next,
            ))
        }
        [first, second, ..] => {
            let reason = format!("{first} and {second} exclude each other");
            let next = format!("write exactly one of {all}; a PATCH deletes the other with null");
            Err(fields.invalid(second, reason, next))
        }
    }
}

fn target(fields: &Fields) -> Result<Target, Refusal> {
    let Some(value) = fields.value("target") else {
        return Err(fields.absent(
            "target",
            "say whom it is about: {\"cgroup\": \"/machine.slice/game.scope\"}, \
             {\"pid\": 4711} or {\"container_id\": \"...\"}",
        ));
    };
    let fields = Fields::of("target", value, &TARGET)?;
    let missing = |key| fields.absent(key, "write it");
    match one_of("target", &fields, &TARGET)? {
        "pid" => {
            let pid = fields.small("pid", 1..=PID_MAX)?;
            pid.map(Target::Pid).ok_or_else(|| missing("pid"))
        }
        "cgroup" => {
            let path = fields.path("cgroup")?.ok_or_else(|| missing("cgroup"))?;
            check_cgroup(&fields, &path)?;
            Ok(Target::Cgroup(path))
        }
        _ => container_id(&fields).map(Target::ContainerId),
    }
}

fn check_cgroup(fields: &Fields, path: &Path) -> Result<(), Refusal> {
    if path == Path::new("/") {
        let reason = "the root cgroup is the whole node";
        return Err(fields.invalid("cgroup", reason, "name a cgroup below it"));
    }
    match path.strip_prefix("/sys/fs/cgroup") {
        Ok(below) => {
            let reason = "a cgroup's path begins at the root cgroup, not at the mount point";
            let next = format!("write /{}", below.display());
            Err(fields.invalid("cgroup", reason, next))
        }
        Err(_) => Ok(()),
    }
}

fn container_id(fields: &Fields) -> Result<String, Refusal> {
    let id = fields.text("container_id")?.unwrap_or_default();
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if (12..=64).contains(&id.len()) && id.bytes().all(hex) {
        return Ok(id.to_owned());
    }
    let next =
        "write it as the runtime prints it; for a container with another name, give target.cgroup";
    Err(fields.invalid("container_id", "it is not 12 to 64 of 0-9 a-f", next))
}

fn cpu(value: &Value) -> Result<CpuSpec, Refusal> {
    let fields = Fields::of("cpu", value, &CPU)?;
    let counted = one_of("cpu", &fields, &["cores", "cpus"])?;
    let modes = [
        ("exclusive", CpuMode::Exclusive),
        ("shared", CpuMode::Shared),
    ];
    let spec = CpuSpec {
        cores: fields.small("cores", 1..=MAX_CPUS)?,
        cpus: fields.small("cpus", 1..=MAX_CPUS)?,
        mode: fields.choice("mode", &modes)?,
        smt: fields.choice("smt", &[("whole-core", Smt::WholeCore), ("any", Smt::Any)])?,
        numa: fields.choice(
            "numa",
            &[("single", CpuNuma::Single), ("any", CpuNuma::Any)],
        )?,
        partition: fields.choice(
            "partition",
            &[
                ("root", PartitionWish::Root),
                ("isolated", PartitionWish::Isolated),
            ],
        )?,
        best_effort: fields.flag("best_effort")?,
    };
    if counted == "cpus" && spec.smt != Smt::Any {
        let reason = "logical CPUs are counted only where threads of one core may be parted";
        let next = "write cores instead, or add \"smt\": \"any\"";
        return Err(fields.invalid("cpus", reason, next));
    }
    if spec.mode == CpuMode::Shared && spec.partition == PartitionWish::Isolated {
        let reason = "a workload in the shared pool has no partition of its own";
        let next = "leave partition out, or write \"mode\": \"exclusive\"";
        return Err(fields.invalid("partition", reason, next));
    }
    Ok(spec)
}

fn memory(value: &Value) -> Result<MemorySpec, Refusal> {
    let fields = Fields::of("memory", value, &MEMORY)?;
    let bytes = fields.number("max_bytes", LEAST_MEMORY..=LARGEST)?;
    let bytes = bytes.ok_or_else(|| fields.absent("max_bytes", "write the limit in bytes"))?;
    Ok(MemorySpec {
        max_bytes: bytes - bytes % PAGE,
        numa: fields.choice(
            "numa",
            &[("any", MemoryNuma::Any), ("bind", MemoryNuma::Bind)],
        )?,
    })
}

fn path_of(fields: &Fields) -> Result<PathBuf, Refusal> {
    let path = fields.path("path")?;
    path.ok_or_else(|| fields.absent("path", "write the directory's path on the host"))
}

fn disk(path: &str, value: &Value) -> Result<DiskSpec, Refusal> {
    let fields = Fields::of(path, value, &DISK)?;
    let dir = path_of(&fields)?;
    if dir == Path::new("/") {
        let reason = "the node's own files would count, too";
        return Err(fields.invalid("path", reason, "give the workload a directory of its own"));
    }
    let bytes = fields.number("limit_bytes", LEAST_DISK..=LARGEST)?;
    Ok(DiskSpec {
        path: dir,
        limit_bytes: bytes
            .ok_or_else(|| fields.absent("limit_bytes", "write the limit in bytes"))?,
        limit_inodes: fields.number("limit_inodes", 1..=LARGEST)?,
        best_effort: fields.flag("best_effort")?,
    })
}

fn io(path: &str, value: &Value) -> Result<IoSpec, Refusal> {
    let fields = Fields::of(path, value, &IO)?;
    let spec = IoSpec {
        path: path_of(&fields)?,
        read_bytes_per_sec: fields.number("read_bytes_per_sec", LEAST_RATE..=LARGEST)?,
        write_bytes_per_sec: fields.number("write_bytes_per_sec", LEAST_RATE..=LARGEST)?,
        share: share(&fields)?,
        weight: fields.small("weight", 1..=10_000)?,
        best_effort: fields.flag("best_effort")?,
    };
    let limits = spec.read_bytes_per_sec.is_some() || spec.write_bytes_per_sec.is_some();
    let ways = [limits, spec.share.is_some(), spec.weight.is_some()];
    let next = "write limits (read_bytes_per_sec, write_bytes_per_sec), or share, or weight";
    match ways.into_iter().filter(|way| *way).count() {
        1 => Ok(spec),
        0 => Err(invalid(path, value, "it limits nothing", next)),
        _ => {
            let reason = "limits, share and weight are three ways of which one is chosen";
            let next = format!("{next}; a PATCH replaces the whole list");
            Err(invalid(path, value, reason, next))
        }
    }
}

fn share(fields: &Fields) -> Result<Option<f64>, Refusal> {
    let Some(value) = fields.value("share") else {
        return Ok(None);
    };
    let rounded = value
        .as_f64()
        .map(|share| (share * SHARE_STEPS).round() / SHARE_STEPS);
    match rounded {
        Some(share) if share > 0.0 && value.as_f64() <= Some(1.0) => Ok(Some(share)),
        _ => {
            let next =
                "write a number from 0.000001 to 1: 0.25 is a quarter of the disk's capability";
            Err(fields.invalid("share", "it is no part of a whole", next))
        }
    }
}

fn network(value: &Value) -> Result<NetworkSpec, Refusal> {
    let fields = Fields::of("network", value, &NETWORK)?;
    let words = [
        ("own-cores", PacketWork::OwnCores),
        ("off", PacketWork::Off),
    ];
    let mut attachments = Vec::new();
    for (path, value) in fields.list("attachments")? {
        let key = value.as_str().ok_or_else(|| "it is no text".to_owned());
        let key = key.and_then(|text| text.parse().map_err(|error| format!("{error}")));
        let next = "write NETWORK/CONTAINERID:IFNAME, each attachment once";
        let key = key.map_err(|reason| invalid(&path, value, reason, next))?;
        if attachments.contains(&key) {
            return Err(invalid(&path, value, "it is named twice", next));
        }
        attachments.push(key);
    }
    Ok(NetworkSpec {
        irq: fields.choice("irq", &words)?,
        rps: fields.choice("rps", &words)?,
        attachments,
    })
}

/// A file has one project, so no directory may lie in another.
fn check_disks(disks: &[DiskSpec]) -> Result<(), Refusal> {
    for (at, disk) in disks.iter().enumerate() {
        let others = disks.iter().enumerate().take(at);
        for (earlier, other) in others {
            let nested = disk.path.starts_with(&other.path) || other.path.starts_with(&disk.path);
            if nested {
                return Err(twice(
                    &format!("disk[{at}].path"),
                    &disk.path,
                    format!(
                        "it is, holds or lies in {} of disk[{earlier}], and a file counts in one quota only",
                        other.path.display()
                    ),
                    "give them directories side by side, or one limit for both",
                ));
            }
        }
    }
    Ok(())
}

fn check_io(spec: &Spec) -> Result<(), Refusal> {
    for (at, io) in spec.io.iter().enumerate() {
        let same = |other: &IoSpec| other.path == io.path;
        if let Some(earlier) = spec.io.iter().take(at).position(same) {
            return Err(twice(
                &format!("io[{at}].path"),
                &io.path,
                format!("io[{earlier}] is about the same path"),
                "write both into one entry",
            ));
        }
        let memory = spec.memory.as_ref().map(|memory| memory.max_bytes);
        let (Some(weight), Some(bytes)) = (io.weight, memory) else {
            continue;
        };
        if bytes < LEAST_MEMORY_WITH_WEIGHT {
            let reason = format!(
                "a weight works only without a tight memory.high, and under memory.max_bytes {bytes} \
                 the writer could then be killed for want of memory"
            );
            let next = format!(
                "write memory.max_bytes of at least {LEAST_MEMORY_WITH_WEIGHT}, or a limit or share instead of the weight"
            );
            return Err(invalid(
                format!("io[{at}].weight"),
                &weight.into(),
                reason,
                next,
            ));
        }
    }
    Ok(())
}

fn twice(key: &str, path: &Path, reason: String, next: &str) -> Refusal {
    let value = Value::String(path.display().to_string());
    invalid(key, &value, reason, next)
}

/// What needs cores of its own.
fn check_exclusive(spec: &Spec) -> Result<(), Refusal> {
    let exclusive = |cpu: &CpuSpec| cpu.mode == CpuMode::Exclusive;
    if spec.cpu.as_ref().is_some_and(exclusive) {
        return Ok(());
    }
    let bound = |memory: &MemorySpec| memory.numa == MemoryNuma::Bind;
    if spec.memory.as_ref().is_some_and(bound) {
        let next = "write \"numa\": \"any\", or exclusive cores in cpu";
        let reason = "memory is bound to the nodes of exclusive cores, and there are none";
        return Err(invalid("memory.numa", &"bind".into(), reason, next));
    }
    let Some(network) = &spec.network else {
        return Ok(());
    };
    for (key, work) in [("irq", network.irq), ("rps", network.rps)] {
        if work == PacketWork::OwnCores {
            let reason = "the workload has no exclusive cores; absent means own-cores";
            let next = format!("write \"{key}\": \"off\", or exclusive cores in cpu");
            let key = format!("network.{key}");
            return Err(invalid(key, &"own-cores".into(), reason, next));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
