//! The node under this agent: the engine's [`Node`] on the real kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_kernel::cgroup::{Cgroup, Controller, cpuset};
use berth_kernel::error::AbsentIsFine;
use berth_kernel::quota::{self, ProjectId};
use berth_kernel::{
    CpuSet, DeviceNumber, Error, Kind, Limit, PciAddr, Result, Root, block, mounts,
};

use berth_state::{Claim, Claims, NodeFile};
use nix::errno::Errno;

use crate::apply::{self, Reach, Written};
use crate::capacity::{Inventory, rivals};
use crate::config::Config;
use crate::doctor;
use crate::engine::errands::{Ended, Errand};
use crate::engine::handle::Condition;
use crate::engine::knob::{Knob, Value};
use crate::engine::node::{Directory, Node, Packets};
use crate::engine::plan::Step;
use crate::engine::wanted::{Disk, Sibling};
use crate::policy::cpu::{Machine, Reserved};
use crate::refusal::{Missing, Refusal};
use crate::spec::{Spec, Target, WorkloadId};
use crate::store::{Bound, Record};
use crate::target;

mod errands;
mod packets;

pub(crate) use errands::Bell;
use errands::Errands;
use packets::PacketWork;

/// What the node lacks is looked at again after so long.
const LACKS_AGE: Duration = Duration::from_secs(60);
/// Project ids of ours begin here: others' schemes count up from low numbers.
const FIRST_PROJECT: u32 = 0x4000_0000;
/// Ids tried before the filesystem is given up.
const TRIES: u32 = 100_000;

/// The kernel this runs on.
#[derive(Debug)]
pub(crate) struct Host {
    root: Root,
    config: Config,
    reach: Reach,
    packets: PacketWork,
    machine: Option<Machine>,
    lacks: Option<(Instant, Vec<Condition>)>,
    errands: Errands,
}

impl Host {
    /// The node whose trees are below `root`. `bell` is rung when an errand has ended.
    pub(crate) fn new(root: &Root, config: &Config, bell: Bell) -> Self {
        Self {
            root: root.clone(),
            config: config.clone(),
            reach: Reach::default(),
            packets: PacketWork::default(),
            machine: None,
            lacks: None,
            errands: Errands::new(bell),
        }
    }
}

impl Node for Host {
    fn machine(&mut self) -> Result<Machine> {
        let reserved = Reserved::from(self.config.reserved_cpus.clone());
        let machine = Machine::read(&self.root, &reserved)?;
        let machine = match &self.machine {
            Some(earlier) => machine.knowing(earlier),
            None => machine,
        };
        self.machine = Some(machine.clone());
        Ok(machine)
    }

    /// Any cgroup but the root has the file, if the kernel knows it.
    fn partitions(&self) -> bool {
        let Ok(top) = Cgroup::open(&self.root, Path::new("/")) else {
            return false;
        };
        let children = top.children().unwrap_or_default();
        children
            .iter()
            .any(|child| cpuset::exclusive(child).is_ok())
    }

    fn find(&mut self, target: &Target) -> std::result::Result<Option<Bound>, Refusal> {
        target::find(&self.root, target)
    }

    fn still_there(&self, bound: &Bound) -> bool {
        target::still_there(&self.root, bound)
    }

    fn siblings(
        &mut self,
        exclusive: &BTreeSet<PathBuf>,
        ours: &BTreeSet<PathBuf>,
    ) -> Result<Vec<Sibling>> {
        let mut siblings = Vec::new();
        let chain: BTreeSet<&Path> = exclusive.iter().flat_map(|path| path.ancestors()).collect();
        let targets: BTreeSet<&Path> = exclusive.iter().filter_map(|path| path.parent()).collect();
        let parents: BTreeSet<&Path> = chain.iter().filter_map(|path| path.parent()).collect();
        for parent in parents {
            let beside_target = targets.contains(parent);
            let Some(parent) = Cgroup::open(&self.root, parent).absent_is_fine()? else {
                continue;
            };
            for child in parent.children()? {
                if ours.contains(child.path()) || chain.contains(child.path()) {
                    continue;
                }
                // Without the controller it has no CPUs of its own.
                let cpus = cpuset::cpus(&child).unwrap_or_default();
                if !cpus.is_empty() {
                    siblings.push(Sibling {
                        cgroup: child.path().to_owned(),
                        cpus,
                        beside_target,
                    });
                }
            }
        }
        Ok(siblings)
    }

    fn disk(&mut self, path: &Path) -> Result<Disk> {
        let found = block::of_path(&self.root, path)?;
        let limits = found.device.io_max_device(&self.root)?;
        // A device that takes no weights can still take limits.
        let weights = found.device.weight_devices(&self.root).unwrap_or_default();
        Ok(Disk {
            filesystem: found.mount.number()?,
            limits: limits.number,
            weights: weights.iter().map(|device| device.number).collect(),
            capability: self
                .config
                .capability(|path| self.is_on(path, limits.number)),
            mount: found.mount.point,
        })
    }

    fn directory(&mut self, path: &Path) -> Result<Option<Directory>> {
        let meta = std::fs::symlink_metadata(path)
            .map_err(|error| Error::io("examine", path.display(), &error))
            .absent_is_fine()?;
        let Some(meta) = meta else {
            return Ok(None);
        };
        if !meta.is_dir() {
            let reason = "it is no directory (a symbolic link is none)";
            return Err(Error::malformed("limit", path.display(), reason));
        }
        let mount = mounts::of_path(&self.root, path)?;
        let no_quota = mount.project_quota.why_not();
        let project = if no_quota.is_none() {
            quota::project_of(path)?.id.0
        } else {
            0
        };
        Ok(Some(Directory {
            dev: meta.dev(),
            inode: meta.ino(),
            mount: mount.point,
            no_quota: no_quota.map(|(why, next)| (why.to_owned(), next.to_owned())),
            project,
        }))
    }

    fn usage(&mut self, path: &Path) -> Result<(u64, u64)> {
        apply::usage(path)
    }

    fn whole_blocks(&mut self, path: &Path, bytes: u64) -> Result<Limit> {
        quota::rounded(path, Limit::At(bytes))
    }

    fn free_project(&mut self, mount: &Path, taken: &BTreeSet<u32>) -> Result<u32> {
        let named = self.named_projects();
        for id in (FIRST_PROJECT..FIRST_PROJECT + TRIES).filter(|id| !taken.contains(id)) {
            if !named.contains(&id) && quota::limits(mount, ProjectId(id))?.is_none() {
                return Ok(id);
            }
        }
        let reason = format!("{TRIES} project ids from {FIRST_PROJECT} on are all in use");
        Err(Error::malformed(
            "find a project id at",
            mount.display(),
            reason,
        ))
    }

    fn packets(
        &mut self,
        records: &BTreeMap<WorkloadId, Record>,
        before: &BTreeMap<Knob, Value>,
    ) -> Result<Packets> {
        let Some(machine) = &self.machine else {
            return Ok(Packets::default());
        };
        let view = packets::View {
            root: &self.root,
            records,
            before,
            machine,
            leave: &self.config.irq_leave,
        };
        self.packets.decide(&view, &mut self.reach)
    }

    fn settle_packets(&mut self) -> Vec<Condition> {
        self.packets.settle(&self.root)
    }

    fn tell_housekeeping(&mut self, cpus: &CpuSet) -> Option<Condition> {
        match NodeFile::keep_housekeeping(&self.root, cpus) {
            Ok(written) => {
                if written {
                    log::info!("plugins are told: CPUs {cpus} are for housekeeping");
                }
                None
            }
            Err(error) => Some(Condition {
                kind: "node-file".to_owned(),
                object: "run/berth/node.json".to_owned(),
                effect: "plugins are not told which CPUs are for housekeeping".to_owned(),
                reason: error.to_string(),
                remedy: "correct the file, or remove it; the agent does not replace what it does \
                         not understand"
                    .to_owned(),
            }),
        }
    }

    fn quarantined(&mut self) -> Result<BTreeMap<PciAddr, String>> {
        let unlisted =
            |error: berth_state::Error| Error::malformed("list", "run/berth/vf", error.to_string());
        let claims = Claims::new(&self.root).list().map_err(unlisted)?;
        let stuck = claims.into_iter().filter_map(|(vf, claim)| match claim {
            Ok(Claim::Quarantined { reason, .. }) => Some((vf, reason)),
            _ => None,
        });
        Ok(stuck.collect())
    }

    fn send(&mut self, errand: Errand) {
        self.errands.begin(&self.root, errand);
    }

    fn ended(&mut self) -> Vec<Ended> {
        self.errands.ended()
    }

    fn inventory(&mut self) -> Inventory {
        Inventory::read(&self.root, &self.config.report_settings())
    }

    fn lacks(&mut self) -> Vec<Condition> {
        // The kernel's configuration is read for it, which takes longer than a pass.
        let old = self
            .lacks
            .as_ref()
            .is_none_or(|(when, _)| when.elapsed() > LACKS_AGE);
        if old {
            self.lacks = Some((Instant::now(), doctor::conditions(&self.root)));
        }
        self.lacks
            .as_ref()
            .map(|(_, lacks)| lacks.clone())
            .unwrap_or_default()
    }

    fn file(&self, knob: &Knob) -> Option<PathBuf> {
        let cgroup = knob.cgroup()?;
        let name = match knob {
            Knob::Cpus { .. } => "cpuset.cpus",
            Knob::ExclusiveCpus { .. } => "cpuset.cpus.exclusive",
            Knob::Partition { .. } => "cpuset.cpus.partition",
            Knob::Mems { .. } => "cpuset.mems",
            Knob::CpuWeight { .. } => "cpu.weight",
            Knob::MemoryHigh { .. } => "memory.high",
            Knob::MemoryMax { .. } => "memory.max",
            Knob::IoMax { .. } => "io.max",
            Knob::IoWeight { .. } => "io.weight",
            _ => return None,
        };
        Some(self.directory_of(cgroup).join(name))
    }

    fn directory_of(&self, cgroup: &Path) -> PathBuf {
        self.root
            .cgroup
            .join(cgroup.strip_prefix("/").unwrap_or(cgroup))
    }

    fn rivals(&mut self, ours: &BTreeSet<PathBuf>) -> Vec<(String, String)> {
        let found = rivals::find(&self.root, ours);
        found
            .into_iter()
            .map(|rival| (format!("{} ({})", rival.name, rival.evidence), rival.remedy))
            .collect()
    }

    fn near(&mut self, spec: &Spec) -> Option<u32> {
        packets::near(&self.root, spec, &mut self.reach)
    }

    fn controllers(&mut self, record: &Record, cgroup: &Path) -> Result<()> {
        let spec = &record.spec;
        let mut needed = Vec::new();
        if spec.cpu.is_some() || spec.memory.is_some() {
            needed.push(Controller::Cpuset);
        }
        if spec.cpu.is_some() {
            needed.push(Controller::Cpu);
        }
        // The io controller charges buffered writes by the memory they dirty.
        if spec.memory.is_some() || !spec.io.is_empty() {
            needed.push(Controller::Memory);
        }
        if !spec.io.is_empty() {
            needed.push(Controller::Io);
        }
        let mut above = Cgroup::open(&self.root, Path::new("/"))?;
        for cgroup in Cgroup::open(&self.root, cgroup)?.chain() {
            let enabled = above.enabled()?;
            let missing = needed
                .iter()
                .filter(|controller| !enabled.contains(controller));
            let missing: Vec<Controller> = missing.copied().collect();
            if !missing.is_empty() {
                refuse_inner_processes(&above)?;
                above.enable(&missing)?;
            }
            above = cgroup;
        }
        Ok(())
    }

    fn read(&mut self, knob: &Knob) -> Result<Option<Value>> {
        apply::read(&self.root, knob, &mut self.reach)
    }

    fn write(&mut self, step: &Step) -> Result<()> {
        if matches!(
            step.knob,
            Knob::Irq { .. } | Knob::DefaultIrq | Knob::Rps { .. } | Knob::Xps { .. }
        ) {
            self.packets.announce(&self.root)?;
        }
        match apply::write(&self.root, step, &mut self.reach)? {
            Written::Done => {}
            Written::Left(note) => self.packets.leave(note),
            Written::Stays(irq, why) => self.packets.stays(irq, &why),
        }
        Ok(())
    }

    fn room(&mut self, step: &Step) -> Result<std::result::Result<(), Missing>> {
        match apply::room(&self.root, step) {
            // What is gone uses nothing; what was not counted so far starts from nothing.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Unsupported) => Ok(Ok(())),
            other => other,
        }
    }
}

/// The kernel lets cpu and cpuset be enabled there and makes the children unusable
/// (`domain invalid`) instead of refusing.
fn refuse_inner_processes(cgroup: &Cgroup) -> Result<()> {
    if cgroup.is_root() || cgroup.procs()?.is_empty() {
        return Ok(());
    }
    let path = cgroup.path().display();
    let error = Error::errno("enable controllers below", path, Errno::EBUSY);
    Err(error.because(Some(format!(
        "{} holds processes itself, so the cgroups in it get no controllers: move its processes \
         into a cgroup of their own in it",
        cgroup.path().display()
    ))))
}

impl Host {
    /// Whether a path of the configuration is on this disk.
    fn is_on(&self, path: &Path, disk: DeviceNumber) -> bool {
        let found = block::of_path(&self.root, path);
        let device = found.and_then(|found| found.device.io_max_device(&self.root));
        device.is_ok_and(|device| device.number == disk)
    }

    /// The ids that the node's administrator has named in `/etc/projid`
    /// (`NAME:ID`, projid(5)).
    fn named_projects(&self) -> BTreeSet<u32> {
        let text = std::fs::read_to_string(self.root.etc.join("projid")).unwrap_or_default();
        let ids = text.lines().filter_map(|line| line.rsplit_once(':'));
        ids.filter_map(|(_, id)| id.trim().parse().ok()).collect()
    }
}
