//! Whether a spec can be had on this node: with every check made, it becomes a record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use berth_kernel::CpuSet;

use super::node::Node;
use super::{Engine, booked};
use crate::policy::cpu::{self, Ask};
use crate::refusal::{Code, Missing, Refusal};
use crate::spec::{CpuMode, CpuSpec, DiskSpec, Spec};
use crate::store::{Bound, Phase, ProjectState, Record, State};

/// The CPUs a record is given.
#[derive(Default)]
struct Given {
    cpus: Option<CpuSet>,
    nodes: CpuSet,
    why: Vec<String>,
}

impl<N: Node> Engine<N> {
    /// The record that `spec` becomes, `old` being its workload's present one.
    ///
    /// # Errors
    /// Why it cannot be had, with what is missing.
    pub(super) fn admit(&mut self, spec: Spec, old: Option<&Record>) -> Result<Record, Refusal> {
        if old.is_some_and(|old| old.phase == Phase::Releasing) {
            return Err(being_released(&spec));
        }
        let bound = self.node.find(&spec.target)?;
        if let Some(bound) = &bound {
            self.refuse_shared_target(&spec, bound)?;
        }
        let given = self.cpus(&spec, old)?;
        self.refuse_overbooking(&spec, &given.nodes)?;
        self.io(&spec)?;
        let projects = self.projects(&spec, old, bound.is_some())?;
        let now = crate::store::now_unix();
        let state = match (&bound, old.map(|old| &old.state)) {
            (Some(_), Some(State::Active { since_unix })) => State::Active {
                since_unix: *since_unix,
            },
            (Some(_), _) => State::Active { since_unix: now },
            (None, Some(lost @ State::Lost { .. })) => *lost,
            (None, _) => State::Reserved { since_unix: now },
        };
        Ok(Record {
            id: spec.id.clone(),
            boot_id: self.store.boot_id().to_owned(),
            created_unix: old.map_or(now, |old| old.created_unix),
            generation: self.store.generation(),
            phase: Phase::Applied,
            previous: None,
            cpus: given.cpus,
            nodes: given.nodes,
            why: given.why,
            target: bound.or_else(|| old.and_then(|old| old.target.clone())),
            state,
            projects,
            repairs: old.map_or(0, |old| old.repairs),
            spec,
        })
    }

    /// A cgroup, or one inside it, has one owner.
    fn refuse_shared_target(&self, spec: &Spec, bound: &Bound) -> Result<(), Refusal> {
        for (id, other) in self.records().iter().filter(|(id, _)| **id != spec.id) {
            let Some(theirs) = &other.target else {
                continue;
            };
            let (ours, theirs) = (&bound.cgroup, &theirs.cgroup);
            if ours.starts_with(theirs) || theirs.starts_with(ours) {
                return Err(Refusal::new(
                    Code::Conflict,
                    format!("workload {}", spec.id),
                    format!("own cgroup {}", ours.display()),
                    format!("workload {id} owns {}", theirs.display()),
                    format!("delete {id} first, or name another target"),
                ));
            }
        }
        Ok(())
    }

    fn cpus(&mut self, spec: &Spec, old: Option<&Record>) -> Result<Given, Refusal> {
        let Some(wish) = &spec.cpu else {
            return Ok(Given::default());
        };
        self.machine = self.node.machine().map_err(|error| unread(spec, &error))?;
        let records = self.records().clone();
        let mut booked = booked(&self.machine, &records, Some(&spec.id));
        // Held CPUs count only if they were exclusive before, too.
        if let Some(held) = old.and_then(super::exclusive_cpus) {
            booked.exclusive.insert(spec.id.clone(), held.clone());
        }
        let ask = Ask {
            id: &spec.id,
            wish,
            near: self.node.near(spec),
        };
        if wish.mode == CpuMode::Exclusive {
            self.refuse_beside_rivals(spec)?;
            self.refuse_without_partitions(spec, wish)?;
        }
        let placed = cpu::place(&self.machine, &booked, &ask);
        let placed = placed.map_err(|unplaced| unplaced.refusal(&spec.id))?;
        let exclusive = wish.mode == CpuMode::Exclusive;
        Ok(Given {
            cpus: exclusive.then_some(placed.cpus),
            nodes: if exclusive {
                placed.nodes
            } else {
                CpuSet::new()
            },
            why: placed.why,
        })
    }

    fn refuse_beside_rivals(&mut self, spec: &Spec) -> Result<(), Refusal> {
        let ours = super::chains(self.records());
        let rivals = self.node.rivals(&ours);
        let Some((who, next)) = rivals.into_iter().next() else {
            return Ok(());
        };
        Err(Refusal::new(
            Code::Conflict,
            format!("workload {}", spec.id),
            "have exclusive CPUs",
            format!("{who}: two programs that hand out CPUs would give one to two owners"),
            next,
        ))
    }

    fn refuse_without_partitions(&self, spec: &Spec, wish: &CpuSpec) -> Result<(), Refusal> {
        if self.node.partitions() || wish.best_effort {
            return Ok(());
        }
        Err(Refusal::new(
            Code::Unsupported,
            format!("workload {}", spec.id),
            "have exclusive CPUs (key cpu.mode)",
            "this kernel cannot keep others off the CPUs of a cgroup: cpuset.cpus.exclusive \
             came with Linux 6.7",
            "use a newer kernel, or set cpu.best_effort to true: then its siblings are narrowed \
             and daemons of the system are not",
        ))
    }

    /// Limits and shares need a disk that can have them.
    fn io(&mut self, spec: &Spec) -> Result<(), Refusal> {
        for (n, io) in spec.io.iter().enumerate() {
            let refuse = |wish: String, reason: String, next: &str| {
                let object = format!("workload {}, key io[{n}]", spec.id);
                Refusal::new(Code::Unsupported, object, wish, reason, next)
            };
            let path = io.path.display();
            let disk = match self.node.disk(&io.path) {
                Ok(disk) => disk,
                Err(_) if io.best_effort => continue,
                Err(error) => {
                    return Err(refuse(
                        format!("control IO on {path}"),
                        error.to_string(),
                        "name a directory on a local disk, or set best_effort to true",
                    ));
                }
            };
            if io.best_effort {
                continue;
            }
            if io.share.is_some() && disk.capability.is_none() {
                return Err(refuse(
                    format!("have a share of the disk of {path}"),
                    "nobody has said what that disk can do".to_owned(),
                    "add a [[disk]] with its bytes per second to /etc/berth/agent.toml and \
                     restart the agent, or wish for bytes per second",
                ));
            }
            let cost = disk.capability.as_ref().and_then(|c| c.cost());
            if io.weight.is_some() && (cost.is_none() || disk.weights.is_empty()) {
                return Err(refuse(
                    format!("have a weight on the disk of {path}"),
                    "shares by weight are not configured for that disk".to_owned(),
                    "add a [[disk]] with its bytes per second and iocost = true to \
                     /etc/berth/agent.toml and restart the agent, or wish for bytes per second",
                ));
            }
        }
        Ok(())
    }

    /// The projects of the spec's directories: those they have, or fresh ones.
    pub(super) fn projects(
        &mut self,
        spec: &Spec,
        old: Option<&Record>,
        active: bool,
    ) -> Result<BTreeMap<std::path::PathBuf, ProjectState>, Refusal> {
        let mut projects = BTreeMap::new();
        let mut taken: BTreeSet<u32> = self.taken_projects();
        for (n, disk) in spec.disk.iter().enumerate() {
            self.refuse_shared_directory(spec, &disk.path)?;
            let held = old.and_then(|old| old.projects.get(&disk.path));
            if let Some(held) = held {
                projects.insert(disk.path.clone(), held.clone());
                continue;
            }
            let project = self.project(spec, (n, disk), active, &taken)?;
            if let Some(project) = project {
                taken.insert(project.project);
                projects.insert(disk.path.clone(), project);
            }
        }
        Ok(projects)
    }

    fn project(
        &mut self,
        spec: &Spec,
        (n, disk): (usize, &DiskSpec),
        active: bool,
        taken: &BTreeSet<u32>,
    ) -> Result<Option<ProjectState>, Refusal> {
        let path = disk.path.display();
        let refuse = |code, reason: String, next: String| {
            let object = format!("workload {}, key disk[{n}]", spec.id);
            Refusal::new(code, object, format!("limit {path}"), reason, next)
        };
        let found = self.node.directory(&disk.path).map_err(|error| {
            refuse(
                Code::Invalid,
                error.to_string(),
                "name a directory".to_owned(),
            )
        })?;
        let Some(found) = found else {
            if !active {
                return Ok(None);
            }
            return Err(refuse(
                Code::NotFound,
                "there is no such directory".to_owned(),
                format!("mkdir {path}, then repeat the request"),
            ));
        };
        if let Some((reason, next)) = found.no_quota {
            if disk.best_effort {
                return Ok(None);
            }
            let next = format!("{next}; or set best_effort to true");
            return Err(refuse(Code::Unsupported, reason, next));
        }
        if found.project != 0 {
            return Err(refuse(
                Code::Conflict,
                format!(
                    "it has project {} already, which is not Berth's",
                    found.project
                ),
                format!("take it off with chattr -R -p 0 {path} if nothing needs it"),
            ));
        }
        self.refuse_overfull(spec, disk)?;
        let project = self.node.free_project(&found.mount, taken);
        let project = project.map_err(|error| {
            refuse(
                Code::Kernel,
                error.to_string(),
                "see berth doctor --area disk".to_owned(),
            )
        })?;
        Ok(Some(ProjectState {
            project,
            mount: found.mount,
            dev: found.dev,
            inode: found.inode,
        }))
    }

    /// A directory that holds more than its limit already could only be deleted from.
    fn refuse_overfull(&mut self, spec: &Spec, disk: &DiskSpec) -> Result<(), Refusal> {
        let used = self.node.usage(&disk.path);
        let (bytes, inodes) = used.map_err(|error| unread(spec, &error))?;
        let path = disk.path.display();
        let mut missing = Vec::new();
        for (what, asked, limit) in [
            ("bytes", bytes, Some(disk.limit_bytes)),
            ("files and directories", inodes, disk.limit_inodes),
        ] {
            if let Some(available) = limit.filter(|limit| asked > *limit) {
                missing.push(Missing {
                    what: format!("{what} in {path}"),
                    asked,
                    available,
                });
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let reasons = missing
            .iter()
            .map(|m| format!("{}: {} in use, {} wished", m.what, m.asked, m.available));
        Err(Refusal::new(
            Code::DoesNotFit,
            format!("workload {}", spec.id),
            format!("limit {path}"),
            reasons.collect::<Vec<_>>().join("; "),
            "free what is in use, or wish for more than that",
        )
        .lacking(missing))
    }

    /// Usage can be counted for one owner only.
    fn refuse_shared_directory(&self, spec: &Spec, path: &Path) -> Result<(), Refusal> {
        for (id, other) in self.records().iter().filter(|(id, _)| **id != spec.id) {
            for theirs in &other.spec.disk {
                if path.starts_with(&theirs.path) || theirs.path.starts_with(path) {
                    return Err(Refusal::new(
                        Code::Conflict,
                        format!("workload {}", spec.id),
                        format!("limit {}", path.display()),
                        format!("workload {id} limits {}", theirs.path.display()),
                        format!("name another directory, or delete {id} first"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// The projects on record, and those still to be cleared.
    fn taken_projects(&self) -> BTreeSet<u32> {
        let records = self.records().values();
        let held = records.flat_map(|r| r.projects.values().map(|p| p.project));
        let before = self
            .store
            .before()
            .entries
            .keys()
            .filter_map(|knob| match knob {
                super::knob::Knob::Quota { project, .. } => Some(*project),
                _ => None,
            });
        held.chain(before).collect()
    }
}

fn being_released(spec: &Spec) -> Refusal {
    Refusal::new(
        Code::Conflict,
        format!("workload {}", spec.id),
        "change it",
        "it is being released",
        "wait until berth get shows it no more, then repeat the request",
    )
}

fn unread(spec: &Spec, error: &berth_kernel::Error) -> Refusal {
    Refusal::new(
        Code::Kernel,
        format!("workload {}", spec.id),
        "see what it would have",
        error.to_string(),
        "nothing was changed; see berth doctor",
    )
}
