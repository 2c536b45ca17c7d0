//! `etc/berth/agent.toml`: what the operator says of this node. `docs/agent.toml` is a
//! commented file with every key at its default.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use berth_kernel::{CpuSet, Root};
use log::LevelFilter;
use serde_json::{Map, Value};

use crate::capacity::{DiskCapability, IoRate, Settings};
use crate::fields::{Fields, LARGEST, invalid};
use crate::policy::io::Capability;
use crate::refusal::{Code, Refusal};
use crate::spec::read::LONGEST_SEC;

const KEYS: [&str; 12] = [
    "reserved_cpus",
    "reserved_memory_bytes",
    "reconcile_sec",
    "audit_sec",
    "ttl_sec",
    "lost_ttl_sec",
    "require_if_match",
    "log_level",
    "zone",
    "labels",
    "disk",
    "irq",
];
const DISK: [&str; 7] = [
    "path",
    "read_bytes_per_sec",
    "write_bytes_per_sec",
    "read_iops",
    "write_iops",
    "iocost",
    "overcommit_percent",
];
const IRQ: [&str; 1] = ["leave"];

/// The longest period between two looks at the node: an hour.
const LONGEST_PERIOD: u64 = 3600;
/// The longest time between two looks at the files of a quota: a week.
const LONGEST_AUDIT: u64 = 604_800;
/// The longest label, key or value, in bytes.
const LONGEST_LABEL: usize = 253;

/// The configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// `reserved_cpus`: logical CPUs for the node itself, which no workload gets alone
    /// (`"0,16"`); absent: the lowest core of each NUMA node.
    pub(crate) reserved_cpus: Option<CpuSet>,
    /// `reserved_memory_bytes`: memory no workload is promised; default 512 MiB.
    pub(crate) reserved_memory_bytes: u64,
    /// `reconcile_sec`: seconds between two comparisons of the wished with the live (1
    /// to 3600); outside writes that are noticed are repaired at once. Default 10.
    pub(crate) reconcile_sec: u64,
    /// `audit_sec`: seconds between two looks for files that have left the quota of their
    /// directory (1 to 604800), each of which reads the whole tree; 0: never. Default
    /// 3600.
    pub(crate) audit_sec: u64,
    /// `ttl_sec`: seconds a reservation lives while its target is absent, where the spec
    /// does not say; default 300.
    pub(crate) ttl_sec: u64,
    /// `lost_ttl_sec`: seconds a workload stays committed after its target is gone,
    /// where the spec does not say; default 60.
    pub(crate) lost_ttl_sec: u64,
    /// `require_if_match`: refuse changes without `If-Match`, so that schedulers that
    /// share the node cannot book past each other; default false.
    pub(crate) require_if_match: bool,
    /// `log_level`: the least that is logged: `error`, what was asked for failed; `warn`,
    /// odd, but done; `info` (default), state changed; `debug`, each write to the kernel.
    pub(crate) log_level: LevelFilter,
    /// `zone`: the failure domain, as the report names it; default none.
    pub(crate) zone: Option<String>,
    /// `labels`: the report's labels; default none.
    pub(crate) labels: BTreeMap<String, String>,
    /// `[[disk]]`: what disks can do; default none.
    pub(crate) disks: Vec<Disk>,
    /// `irq.leave`: interrupts that stay where they are, each the beginning of a name
    /// (`nvme0q`) in `proc/irq/N`; default none.
    pub(crate) irq_leave: Vec<String>,
}

/// What a disk can do: needed for `io[].share` and, with `iocost`, for `io[].weight`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    /// `path`: a directory on the disk.
    pub(crate) path: PathBuf,
    /// `read_bytes_per_sec`: what it reads at best.
    pub(crate) read_bytes_per_sec: Option<u64>,
    /// `write_bytes_per_sec`: what it writes at best.
    pub(crate) write_bytes_per_sec: Option<u64>,
    /// `read_iops`: how many reads of 4 KiB it does per second; default: as many as the
    /// bytes allow.
    pub(crate) read_iops: Option<u64>,
    /// `write_iops`: the same of writes.
    pub(crate) write_iops: Option<u64>,
    /// `iocost`: weights are enforced on it, by a cost model of the rates above. They
    /// should lie a little below what it can do; its writeback throttling is switched
    /// off meanwhile. Default false.
    pub(crate) iocost: bool,
    /// `overcommit_percent`: how much of its size quotas may promise (1 to 1000);
    /// default 100.
    pub(crate) overcommit_percent: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            reserved_cpus: None,
            reserved_memory_bytes: 512 << 20,
            reconcile_sec: 10,
            audit_sec: 3600,
            ttl_sec: 300,
            lost_ttl_sec: 60,
            require_if_match: false,
            log_level: LevelFilter::Info,
            zone: None,
            labels: BTreeMap::new(),
            disks: Vec::new(),
            irq_leave: Vec::new(),
        }
    }
}

impl Config {
    /// What the disk of the filesystem mounted at `mount` can do, if the configuration
    /// says so: by the entry whose path is on it.
    pub(crate) fn capability(&self, on_it: impl Fn(&Path) -> bool) -> Option<Capability> {
        let disk = self.disks.iter().find(|disk| on_it(&disk.path))?;
        Some(Capability {
            read_bytes_per_sec: disk.read_bytes_per_sec?,
            write_bytes_per_sec: disk.write_bytes_per_sec?,
            read_iops: disk.read_iops,
            write_iops: disk.write_iops,
            weights: disk.iocost,
        })
    }

    /// What the report takes from it.
    pub(crate) fn report_settings(&self) -> Settings {
        let disks = self.disks.iter().map(|disk| DiskCapability {
            path: disk.path.clone(),
            rate: IoRate {
                read: disk.read_bytes_per_sec,
                write: disk.write_bytes_per_sec,
            },
            iocost: disk.iocost,
            overcommit_percent: disk.overcommit_percent,
        });
        Settings {
            zone: self.zone.clone(),
            labels: self.labels.clone(),
            reserved_memory_bytes: self.reserved_memory_bytes,
            disks: disks.collect(),
        }
    }

    /// The file's place.
    pub(crate) fn path(root: &Root) -> PathBuf {
        root.etc.join("berth/agent.toml")
    }

    /// Reads the file; the defaults if there is none.
    ///
    /// # Errors
    /// It cannot be read, is no TOML, has an unknown key or a wrong value; the object
    /// names file and key.
    pub(crate) fn load(root: &Root) -> Result<Self, Refusal> {
        let path = Self::path(root);
        match path.try_exists() {
            Ok(false) => Ok(Self::default()),
            _ => Self::read(&path),
        }
    }

    /// Reads the file an operator named, which has to be there; without a name, as
    /// [`Config::load`].
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn named(path: Option<&Path>, root: &Root) -> Result<Self, Refusal> {
        path.map_or_else(|| Self::load(root), Self::read)
    }

    fn read(path: &Path) -> Result<Self, Refusal> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let next = "correct the file or its permissions, or remove it";
                let reason = error.to_string();
                return Err(Refusal::new(
                    Code::Invalid,
                    shown(path),
                    "read",
                    reason,
                    next,
                ));
            }
        };
        Self::parse(&text).map_err(|refused| Refusal {
            object: match refused.object.as_str() {
                "" => shown(path),
                key => format!("{key} in {}", path.display()),
            },
            ..refused
        })
    }

    fn parse(text: &str) -> Result<Self, Refusal> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let next = "correct the line; docs/agent.toml is an example";
            let reason = error.to_string().trim_end().to_owned();
            Refusal::new(Code::Invalid, "", "read as TOML", reason, next)
        })?;
        let value = json(toml::Value::Table(table));
        let fields = Fields::of("", &value, &KEYS)?;
        let default = Self::default();
        let irq = fields.value("irq").map_or(Ok(Vec::new()), irq_leave)?;
        Ok(Self {
            reserved_cpus: reserved_cpus(&fields)?,
            reserved_memory_bytes: fields
                .number("reserved_memory_bytes", 0..=LARGEST)?
                .unwrap_or(default.reserved_memory_bytes),
            reconcile_sec: fields
                .number("reconcile_sec", 1..=LONGEST_PERIOD)?
                .unwrap_or(default.reconcile_sec),
            audit_sec: fields
                .number("audit_sec", 0..=LONGEST_AUDIT)?
                .unwrap_or(default.audit_sec),
            ttl_sec: fields
                .number("ttl_sec", 1..=LONGEST_SEC)?
                .unwrap_or(default.ttl_sec),
            lost_ttl_sec: fields
                .number("lost_ttl_sec", 0..=LONGEST_SEC)?
                .unwrap_or(default.lost_ttl_sec),
            require_if_match: fields.flag("require_if_match")?,
            log_level: log_level(&fields)?.unwrap_or(default.log_level),
            zone: zone(&fields)?,
            labels: labels(&fields)?,
            disks: disks(&fields)?,
            irq_leave: irq,
        })
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// TOML as JSON, for [`Fields`]. What JSON has no word for becomes text and is refused
/// where a number is expected.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) if number.is_finite() => number.into(),
        toml::Value::Float(number) => Value::String(number.to_string()),
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(values) => values.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            let members = table.into_iter().map(|(key, value)| (key, json(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
    }
}

fn reserved_cpus(fields: &Fields) -> Result<Option<CpuSet>, Refusal> {
    let Some(text) = fields.text("reserved_cpus")? else {
        return Ok(None);
    };
    let next = "write a CPU list like \"0-1,8\"; leave the key out for the default";
    let wrong = |reason: String| fields.invalid("reserved_cpus", reason, next);
    let cpus: CpuSet = text.parse().map_err(|error| wrong(format!("{error}")))?;
    if cpus.is_empty() {
        return Err(wrong("the node itself needs at least one CPU".to_owned()));
    }
    Ok(Some(cpus))
}

fn log_level(fields: &Fields) -> Result<Option<LevelFilter>, Refusal> {
    let Some(name) = fields.text("log_level")? else {
        return Ok(None);
    };
    let level = berth_cni::log::level_of(name);
    let wrong = || {
        fields.invalid(
            "log_level",
            "there is no such level",
            berth_cni::log::LEVELS,
        )
    };
    level.map(Some).ok_or_else(wrong)
}

fn zone(fields: &Fields) -> Result<Option<String>, Refusal> {
    let zone = fields.text("zone")?.filter(|zone| !zone.is_empty());
    match zone {
        Some(zone) if !is_label(zone) => Err(fields.invalid("zone", LABEL, LABEL_NEXT)),
        _ => Ok(zone.map(str::to_owned)),
    }
}

const LABEL: &str = "it is too long or has a control character";
const LABEL_NEXT: &str = "write at most 253 bytes of printable text";

fn is_label(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && !text.chars().any(char::is_control)
}

fn labels(fields: &Fields) -> Result<BTreeMap<String, String>, Refusal> {
    let value = fields.value("labels");
    let Some(Value::Object(map)) = value else {
        return match value {
            None => Ok(BTreeMap::new()),
            Some(_) => Err(fields.invalid("labels", "it is no table", "write [labels]")),
        };
    };
    let mut labels = BTreeMap::new();
    for (key, value) in map {
        let path = format!("labels.{key}");
        let Value::String(text) = value else {
            let next = "write the value in quotes";
            return Err(invalid(path, value, "a label is a text", next));
        };
        if key.is_empty() || !is_label(key) || !is_label(text) {
            return Err(invalid(path, value, LABEL, LABEL_NEXT));
        }
        labels.insert(key.clone(), text.clone());
    }
    Ok(labels)
}

fn disks(fields: &Fields) -> Result<Vec<Disk>, Refusal> {
    let mut disks: Vec<Disk> = Vec::new();
    for (path, value) in fields.list("disk")? {
        let disk = disk(&path, value)?;
        if disks.iter().any(|other| other.path == disk.path) {
            let value = Value::String(shown(&disk.path));
            let next = "write both into one [[disk]]";
            return Err(invalid(
                format!("{path}.path"),
                &value,
                "it is there twice",
                next,
            ));
        }
        disks.push(disk);
    }
    Ok(disks)
}

fn disk(path: &str, value: &Value) -> Result<Disk, Refusal> {
    let fields = Fields::of(path, value, &DISK)?;
    let dir = fields.path("path")?;
    let disk = Disk {
        path: dir.ok_or_else(|| fields.absent("path", "write a directory on the disk"))?,
        read_bytes_per_sec: fields.number("read_bytes_per_sec", 1..=LARGEST)?,
        write_bytes_per_sec: fields.number("write_bytes_per_sec", 1..=LARGEST)?,
        read_iops: fields.number("read_iops", 1..=LARGEST)?,
        write_iops: fields.number("write_iops", 1..=LARGEST)?,
        iocost: fields.flag("iocost")?,
        overcommit_percent: fields
            .number("overcommit_percent", 1..=1000)?
            .unwrap_or(100),
    };
    let known = disk.read_bytes_per_sec.is_some() && disk.write_bytes_per_sec.is_some();
    if disk.iocost && !known {
        let reason = "the cost model is made of the disk's rates, and they are not both there";
        let next = "write read_bytes_per_sec and write_bytes_per_sec of this disk";
        return Err(fields.invalid("iocost", reason, next));
    }
    Ok(disk)
}

fn irq_leave(value: &Value) -> Result<Vec<String>, Refusal> {
    let fields = Fields::of("irq", value, &IRQ)?;
    let mut names = Vec::new();
    for (path, value) in fields.list("leave")? {
        match value.as_str() {
            Some(name) if !name.is_empty() => names.push(name.to_owned()),
            _ => {
                let next = "write the beginning of an interrupt's name, \"nvme0q\"";
                return Err(invalid(path, value, "it is no name", next));
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
