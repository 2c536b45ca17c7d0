//! A node without a kernel: knobs in a map, with the kernel's rules that transactions
//! depend on, and faults on demand. The map outlives an engine, as a node does.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use berth_kernel::{CpuSet, Error, Limit, PciAddr, Result};
use nix::errno::Errno;

use crate::capacity::ledger::DiskTotal;
use crate::capacity::{Inventory, IoRate, Totals};
use crate::engine::errands::{Ended, Errand};
use crate::engine::handle::Condition;
use crate::engine::knob::{Knob, Partition, Value};
use crate::engine::node::{Directory, Node, Packets};
use crate::engine::plan::Step;
use crate::engine::wanted::{Disk, Sibling};
use crate::policy::cpu::Machine;
use crate::policy::io::Capability;
use crate::refusal::{Missing, Refusal};
use crate::spec::{Spec, Target, WorkloadId};
use crate::store::{Bound, Record};
use crate::vf::survey::State as VfState;

/// What happens at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strike {
    /// The write fails and does nothing.
    FailBefore,
    /// The write is done and then reported as failed.
    FailAfter,
    /// The agent dies before the write.
    DieBefore,
    /// The agent dies after it.
    DieAfter,
}

/// The panic of an agent that dies.
pub(super) const DEATH: &str = "killed";

/// What there is.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Settings that were set.
    pub(super) knobs: BTreeMap<Knob, Value>,
    /// Cgroups with their inodes.
    pub(super) cgroups: BTreeMap<PathBuf, u64>,
    /// Directories with what is in them, bytes.
    pub(super) directories: BTreeMap<PathBuf, u64>,
    /// Memory in use per cgroup.
    pub(super) memory: BTreeMap<PathBuf, u64>,
    /// What happens at which write, counted from 0.
    pub(super) strike: Option<(usize, Strike)>,
    /// Writes so far.
    pub(super) writes: usize,
    /// Writes to these are refused.
    pub(super) refused: BTreeSet<Knob>,
    /// Other pinners.
    pub(super) rivals: Vec<(String, String)>,
    /// CPUs that are offline.
    pub(super) offline: CpuSet,
    /// Packet work that is wished.
    pub(super) packets: Vec<(Knob, Value, String)>,
    /// What others have put back.
    pub(super) put_back: Vec<Knob>,
    /// What plugins were told are the node's own CPUs.
    pub(super) housekeeping: CpuSet,
    /// Virtual functions in quarantine, and why.
    pub(super) quarantined: BTreeMap<PciAddr, String>,
    /// All others.
    pub(super) free: Vec<PciAddr>,
    /// What the engine sent for.
    pub(super) sent: Vec<Errand>,
    /// What has ended of that and was not asked for yet.
    pub(super) ended: Vec<Ended>,
    /// Why they cannot be told.
    pub(super) deaf: Option<Condition>,
}

/// The node; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Fake(pub(super) Rc<RefCell<State>>);

impl Fake {
    /// Makes a cgroup.
    pub(super) fn cgroup(&self, path: &str, inode: u64) {
        self.0.borrow_mut().cgroups.insert(path.into(), inode);
    }

    /// Removes a cgroup with what is set on it.
    pub(super) fn remove_cgroup(&self, path: &str) {
        let mut state = self.0.borrow_mut();
        state.cgroups.remove(Path::new(path));
        state
            .knobs
            .retain(|knob, _| knob.cgroup() != Some(Path::new(path)));
    }

    /// Somebody else's write.
    pub(super) fn meddle(&self, knob: &Knob, value: Value) {
        self.0.borrow_mut().knobs.insert(knob.clone(), value);
    }

    /// What differs from a node nobody has touched.
    pub(super) fn touched(&self) -> BTreeMap<Knob, Value> {
        let state = self.0.borrow();
        let set = state
            .knobs
            .iter()
            .filter(|(knob, value)| **value != untouched(knob));
        set.map(|(knob, value)| (knob.clone(), value.clone()))
            .collect()
    }

    /// The setting of a knob of a cgroup that is there.
    pub(super) fn get(&self, knob: &Knob) -> Option<Value> {
        let state = self.0.borrow();
        if knob
            .cgroup()
            .is_some_and(|path| !state.cgroups.contains_key(path))
        {
            return None;
        }
        Some(
            state
                .knobs
                .get(knob)
                .cloned()
                .unwrap_or_else(|| untouched(knob)),
        )
    }

    /// The rules of the kernel that an order of writes can break.
    fn rules(&self, step: &Step) -> Result<()> {
        let get = |knob: &Knob| self.get(knob).unwrap_or_else(|| untouched(knob));
        let set = |value: Value| match value {
            Value::Set(set) => set,
            _ => CpuSet::new(),
        };
        match (&step.knob, &step.to) {
            // A partition's CPUs are handed down, and no sibling has them.
            (Knob::Partition { cgroup }, Value::Partition(Partition::Of(_))) => {
                let cpus = set(get(&Knob::ExclusiveCpus {
                    cgroup: cgroup.clone(),
                }));
                for path in cgroup.ancestors().filter(|path| path.parent().is_some()) {
                    let handed = set(get(&Knob::ExclusiveCpus {
                        cgroup: path.to_owned(),
                    }));
                    if cpus.is_empty() || !cpus.is_subset(&handed) {
                        return Err(refused(step, "Invalid cpu list in cpuset.cpus.exclusive"));
                    }
                }
                for other in self.beside(cgroup) {
                    if !set(get(&Knob::Cpus { cgroup: other }))
                        .intersection(&cpus)
                        .is_empty()
                    {
                        return Err(refused(step, "Cpu list in cpuset.cpus not exclusive"));
                    }
                }
                Ok(())
            }
            (Knob::ExclusiveCpus { cgroup }, Value::Set(cpus)) => {
                for other in self.beside(cgroup) {
                    let theirs = set(get(&Knob::ExclusiveCpus { cgroup: other }));
                    if !theirs.intersection(cpus).is_empty() {
                        return Err(refused(step, "exclusive elsewhere"));
                    }
                }
                Ok(())
            }
            // Above what is in use the kernel would kill.
            (Knob::MemoryMax { cgroup }, Value::Limit(Limit::At(limit))) => {
                let used = self.0.borrow().memory.get(cgroup).copied().unwrap_or(0);
                assert!(used <= *limit, "memory.max below what is in use kills");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn beside(&self, cgroup: &Path) -> Vec<PathBuf> {
        let state = self.0.borrow();
        let beside = state
            .cgroups
            .keys()
            .filter(|path| path.parent() == cgroup.parent());
        beside.filter(|path| *path != cgroup).cloned().collect()
    }
}

/// A knob's setting on a node nobody has touched.
pub(super) fn untouched(knob: &Knob) -> Value {
    if let Some(value) = knob.untouched() {
        return value;
    }
    match knob {
        Knob::IoCost { .. } => Value::IoCost {
            model: String::new(),
            qos: String::new(),
        },
        Knob::WritebackLatency { .. } => Value::Number(75_000),
        Knob::Project { .. } => Value::Project(0),
        Knob::Quota { .. } => Value::Unset,
        Knob::Irq { .. } | Knob::DefaultIrq | Knob::Rps { .. } | Knob::Xps { .. } => {
            Value::Set("0-15".parse().unwrap())
        }
        cgroup => unreachable!("{cgroup} has a default"),
    }
}

fn refused(step: &Step, why: &str) -> Error {
    Error::errno("write", &step.knob, Errno::EINVAL).because(Some(why.to_owned()))
}

/// 2 nodes of 4 cores with 2 threads.
pub(super) fn machine(offline: &CpuSet) -> Machine {
    let cores: Vec<_> = (0..8)
        .map(|core| {
            serde_json::json!({
                "cpus": format!("{}-{}", core * 2, core * 2 + 1),
                "node": core / 4,
                "llc": core / 4 * 8,
            })
        })
        .collect();
    let all: CpuSet = "0-15".parse().unwrap();
    let machine = serde_json::json!({
        "cores": cores,
        "online": all.difference(offline).to_string(),
        "reserved": "0-1,8-9",
    });
    serde_json::from_value(machine).unwrap()
}

impl Node for Fake {
    fn machine(&mut self) -> Result<Machine> {
        Ok(machine(&self.0.borrow().offline))
    }

    fn partitions(&self) -> bool {
        true
    }

    fn find(&mut self, target: &Target) -> std::result::Result<Option<Bound>, Refusal> {
        let Target::Cgroup(path) = target else {
            return Ok(None);
        };
        let inode = self.0.borrow().cgroups.get(path).copied();
        Ok(inode.map(|inode| Bound {
            cgroup: path.clone(),
            inode,
        }))
    }

    fn still_there(&self, bound: &Bound) -> bool {
        self.0.borrow().cgroups.get(&bound.cgroup) == Some(&bound.inode)
    }

    fn settle_packets(&mut self) -> Vec<Condition> {
        Vec::new()
    }

    fn tell_housekeeping(&mut self, cpus: &CpuSet) -> Option<Condition> {
        let mut state = self.0.borrow_mut();
        state.housekeeping = cpus.clone();
        state.deaf.clone()
    }

    fn quarantined(&mut self) -> Result<BTreeMap<PciAddr, String>> {
        Ok(self.0.borrow().quarantined.clone())
    }

    fn send(&mut self, errand: Errand) {
        self.0.borrow_mut().sent.push(errand);
    }

    fn ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.0.borrow_mut().ended)
    }

    fn inventory(&mut self) -> Inventory {
        let state = self.0.borrow();
        let stuck = state
            .quarantined
            .keys()
            .map(|vf| (*vf, VfState::Quarantined));
        let free = state.free.iter().map(|vf| (*vf, VfState::Free));
        Inventory::of_vfs(stuck.chain(free))
    }

    fn lacks(&mut self) -> Vec<Condition> {
        Vec::new()
    }

    fn totals(&self, _inventory: &Inventory) -> Totals {
        let device = "254:16".parse().unwrap();
        let rate = IoRate {
            read: Some(100 << 20),
            write: Some(100 << 20),
        };
        let disk = DiskTotal {
            mount: "/data".into(),
            bytes: 1 << 30,
        };
        Totals {
            memory: [(0, 8 << 30), (1, 8 << 30)].into(),
            reserved_memory: 1 << 30,
            disk: [(device, disk)].into(),
            io: [(device, rate)].into(),
        }
    }

    fn file(&self, _knob: &Knob) -> Option<PathBuf> {
        None
    }

    fn directory_of(&self, cgroup: &Path) -> PathBuf {
        cgroup.to_owned()
    }

    fn siblings(
        &mut self,
        exclusive: &BTreeSet<PathBuf>,
        ours: &BTreeSet<PathBuf>,
    ) -> Result<Vec<Sibling>> {
        let all: BTreeSet<PathBuf> = exclusive
            .iter()
            .flat_map(|path| self.beside(path))
            .collect();
        let foreign = all.into_iter().filter(|path| !ours.contains(path));
        let siblings = foreign.filter_map(|cgroup| {
            match self.get(&Knob::Cpus {
                cgroup: cgroup.clone(),
            }) {
                Some(Value::Set(cpus)) if !cpus.is_empty() => Some(Sibling {
                    cgroup,
                    cpus,
                    beside_target: true,
                }),
                _ => None,
            }
        });
        Ok(siblings.collect())
    }

    fn disk(&mut self, path: &Path) -> Result<Disk> {
        if !path.starts_with("/data") {
            return Err(Error::errno("find disk of", path.display(), Errno::ENODEV));
        }
        let device = "254:16".parse().unwrap();
        Ok(Disk {
            mount: "/data".into(),
            filesystem: device,
            limits: device,
            weights: vec![device],
            capability: Some(Capability {
                read_bytes_per_sec: 100 << 20,
                write_bytes_per_sec: 100 << 20,
                read_iops: None,
                write_iops: None,
                weights: true,
            }),
        })
    }

    fn directory(&mut self, path: &Path) -> Result<Option<Directory>> {
        let there = self.0.borrow().directories.contains_key(path);
        let Some(Value::Project(project)) = self.get(&Knob::Project {
            dir: path.to_owned(),
        }) else {
            unreachable!("a project is a project");
        };
        Ok(there.then(|| Directory {
            dev: 1,
            inode: 2,
            mount: "/data".into(),
            no_quota: None,
            project,
        }))
    }

    fn usage(&mut self, path: &Path) -> Result<(u64, u64)> {
        let used = self.0.borrow().directories.get(path).copied();
        Ok((used.unwrap_or(0), 1))
    }

    fn whole_blocks(&mut self, _path: &Path, bytes: u64) -> Result<Limit> {
        Ok(Limit::At(bytes))
    }

    fn free_project(&mut self, _mount: &Path, taken: &BTreeSet<u32>) -> Result<u32> {
        Ok((1..).find(|id| !taken.contains(id)).unwrap())
    }

    fn packets(
        &mut self,
        _records: &BTreeMap<WorkloadId, Record>,
        before: &BTreeMap<Knob, Value>,
    ) -> Result<Packets> {
        let state = self.0.borrow();
        let orphans = state.put_back.iter();
        Ok(Packets {
            settings: state.packets.clone(),
            notes: Vec::new(),
            orphans: orphans
                .filter(|knob| before.contains_key(knob))
                .cloned()
                .collect(),
        })
    }

    fn rivals(&mut self, _ours: &BTreeSet<PathBuf>) -> Vec<(String, String)> {
        self.0.borrow().rivals.clone()
    }

    fn near(&mut self, _spec: &Spec) -> Option<u32> {
        None
    }

    fn controllers(&mut self, _record: &Record, _cgroup: &Path) -> Result<()> {
        Ok(())
    }

    fn read(&mut self, knob: &Knob) -> Result<Option<Value>> {
        Ok(self.get(knob))
    }

    fn write(&mut self, step: &Step) -> Result<()> {
        let (count, strike) = {
            let mut state = self.0.borrow_mut();
            state.writes += 1;
            (state.writes - 1, state.strike)
        };
        let strike = strike
            .filter(|(at, _)| *at == count)
            .map(|(_, strike)| strike);
        match strike {
            Some(Strike::FailBefore) => return Err(refused(step, "struck")),
            Some(Strike::DieBefore) => panic!("{DEATH}"),
            _ => {}
        }
        if self.0.borrow().refused.contains(&step.knob) {
            return Err(refused(step, "refused"));
        }
        self.rules(step)?;
        let gone = step
            .knob
            .cgroup()
            .is_some_and(|p| !self.0.borrow().cgroups.contains_key(p));
        if gone {
            return Err(Error::errno("write", &step.knob, Errno::ENOENT));
        }
        self.0
            .borrow_mut()
            .knobs
            .insert(step.knob.clone(), step.to.clone());
        match strike {
            Some(Strike::FailAfter) => Err(refused(step, "struck")),
            Some(Strike::DieAfter) => panic!("{DEATH}"),
            _ => Ok(()),
        }
    }

    fn room(&mut self, step: &Step) -> Result<std::result::Result<(), Missing>> {
        let (Knob::MemoryMax { cgroup }, Value::Limit(Limit::At(limit))) = (&step.knob, &step.to)
        else {
            return Ok(Ok(()));
        };
        let used = self.0.borrow().memory.get(cgroup).copied().unwrap_or(0);
        Ok(if used > *limit {
            Err(Missing {
                what: "memory".to_owned(),
                asked: used,
                available: *limit,
            })
        } else {
            Ok(())
        })
    }
}
