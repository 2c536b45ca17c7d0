//! A VF brought back to its baseline by difference. Every step is tried, whatever
//! became of the others, and none needs to know whether it was done before.

use std::collections::BTreeMap;

use berth_kernel::netlink::VfChange;
use berth_kernel::pci::{self, Device, PhysicalFunction};
use berth_kernel::{CpuSet, Error, Irq, Kind, MacAddr, Result, Root, irq};
use nix::errno::Errno;

use super::difference::{Difference, Field, differences, own_differences, side_differences};
use super::interface::{self, PutBack};
use super::locate;
use super::mac::{present, settle_mac};
use super::side::{self, PfSide};
use super::view::View;
use super::{Baseline, SriovHost};
use super::{driver, home};
use crate::key::Key;
use crate::lock::{self, LockName, Locks};
use crate::record::NetnsRef;
use crate::steered::Steered;

/// What became of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// The steps that were refused, each with its object and the reason: the same may
    /// succeed later.
    pub failed: Vec<String>,
    /// What is not as it was after everything was tried.
    pub differs: Vec<Difference>,
    /// What was refused in a way that trying again does not cure: why something differs.
    pub refused: Vec<String>,
    /// There is no such device any more, so there is nothing to restore.
    pub gone: bool,
}

impl Restored {
    /// Whether the VF is what it was, or no more.
    pub fn is_whole(&self) -> bool {
        self.failed.is_empty() && self.differs.is_empty()
    }
}

/// Brings the VF of `host` home from `netns`, or wherever it is, and back to its
/// baseline. Takes the lock of its PF and the one for moves, in the name of `key`; the
/// caller holds the VF's, and the VF is the caller's to change.
pub fn restore(
    root: &Root,
    locks: &Locks,
    key: &Key,
    host: &SriovHost,
    netns: Option<&NetnsRef>,
) -> Restored {
    if !Device::new(root, host.vf).exists() {
        return Restored {
            gone: true,
            ..Restored::default()
        };
    }
    match View::home(root) {
        Ok(home) => Work {
            root,
            locks,
            key,
            host,
            irqs: irqs_before(root, key, host),
            home,
            failed: Vec::new(),
            side: Vec::new(),
            own: PutBack::default(),
        }
        .all(netns),
        Err(error) => Restored {
            failed: vec![error.to_string()],
            ..Restored::default()
        },
    }
}

/// Where the VF of `host` is not what it was, without changing anything; `None`: its
/// interface, or the device, is nowhere.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn compare(
    root: &Root,
    host: &SriovHost,
    netns: Option<&NetnsRef>,
) -> Result<Option<Vec<Difference>>> {
    let home = View::home(root)?;
    let (view, link) = match locate::locate(root, &home.net, host.vf, netns)? {
        locate::Place::Home(link) => (None, link),
        locate::Place::Inside(ns, link) => (Some(View::inside(&ns)?), link),
        locate::Place::Nowhere => return Ok(None),
    };
    let (pf, index) = pf_of(root, host)?;
    let (_pf, side) = side::side(&home.net, &pf, index)?;
    let now = view.as_ref().unwrap_or(&home).state(&link, side)?;
    Ok(Some(differences(&host.baseline, &now)))
}

/// The VF's PF and its index there, as they are now.
fn pf_of(root: &Root, host: &SriovHost) -> Result<(PhysicalFunction, u32)> {
    let found = pci::virtual_function(root, host.vf)?;
    let (pf, vf) = found.ok_or_else(|| {
        let reason = format!("it is no VF of {} any more", host.pf);
        Error::errno("find the PF of VF", host.vf, Errno::ENODEV).because(Some(reason))
    })?;
    Ok((pf, vf.index))
}

/// The CPUs that the interrupts had before anybody moved them: the ADD, else the agent.
fn irqs_before(root: &Root, key: &Key, host: &SriovHost) -> BTreeMap<u32, CpuSet> {
    let mut before = match Steered::load(root) {
        Ok(steered) => steered.of(key, host.vf).map(|steer| steer.irqs.clone()),
        Err(error) => {
            log::warn!("interrupts that the agent alone has moved are not put back: {error}");
            None
        }
    }
    .unwrap_or_default();
    before.extend(host.irqs.clone());
    before
}

struct Work<'a> {
    root: &'a Root,
    locks: &'a Locks,
    key: &'a Key,
    host: &'a SriovHost,
    /// The CPUs of its interrupts before they were moved, by number.
    irqs: BTreeMap<u32, CpuSet>,
    home: View,
    /// Steps whose outcome no comparison tells.
    failed: Vec<String>,
    /// Attributes at the PF that were refused.
    side: Vec<Error>,
    /// What became of the interface.
    own: PutBack,
}

impl Work<'_> {
    fn all(mut self, netns: Option<&NetnsRef>) -> Restored {
        let mut differs = Vec::new();
        let usable = match self.driver() {
            Ok(None) => true,
            Ok(Some(other)) => {
                differs.push(other);
                false
            }
            Err(error) => self.failure(error),
        };
        // While the interface is up: what is written for an interrupt without a handler
        // does not replace a change that waits for the next interrupt.
        if usable && let Err(error) = self.unpin_all() {
            log::debug!("trying again when the interface is home: {error}");
        }
        let usable = usable && self.step(|work| work.bring_home(netns));
        self.step(Self::pf_side);
        if usable {
            self.step(Self::irqs);
            self.step(Self::interface);
        }
        let seen = self.look(usable);
        // What was refused and came to be all the same is no failure.
        let moot = usable && matches!(&seen, Ok(found) if found.is_empty());
        match seen {
            Ok(found) => differs.extend(found),
            Err(error) => self.failed.push(error),
        }
        let mut refused = Vec::new();
        for error in self.side.into_iter().chain(self.own.refused) {
            match is_lasting(&error) {
                _ if moot => {}
                true => refused.push(error.to_string()),
                false => self.failed.push(error.to_string()),
            }
        }
        Restored {
            failed: self.failed,
            differs,
            refused,
            gone: false,
        }
    }

    /// Whether the step succeeded.
    fn step(&mut self, step: impl FnOnce(&mut Self) -> std::result::Result<(), String>) -> bool {
        match step(self) {
            Ok(()) => true,
            Err(error) => self.failure(error),
        }
    }

    fn failure(&mut self, error: impl ToString) -> bool {
        self.failed.push(error.to_string());
        false
    }

    /// Binds the driver if none is bound; one that somebody else has bound stays.
    fn driver(&self) -> Result<Option<Difference>> {
        let bound = Device::new(self.root, self.host.vf).driver()?;
        match bound {
            Some(bound) if bound != self.host.driver => Ok(Some(Difference {
                field: Field::Driver,
                was: self.host.driver.clone(),
                is: bound,
                why: Some("somebody has bound it since, and may use it".to_owned()),
            })),
            _ => driver::ensure(self.root, self.host.vf, &self.host.driver).map(|()| None),
        }
    }

    fn bring_home(&mut self, netns: Option<&NetnsRef>) -> std::result::Result<(), String> {
        let wish = &self.host.baseline.netdev;
        let lock = || self.locks.acquire(&LockName::Move, self.key, lock::WAIT);
        home::bring(self.root, &self.home.net, (self.host.vf, wish), netns, lock)
    }

    /// The PF's side, one message for each attribute that differs. Some drivers show a
    /// MAC there that the interface chose, and forbid it to choose once anybody has set
    /// one: so the MAC is written only if the ADD did, and one that nobody had set is
    /// taken away. What it shows at the end, see [`Self::look`].
    fn pf_side(&mut self) -> std::result::Result<(), String> {
        let ours = self.host.set.side.mac.is_some();
        let own = self.host.baseline.own_mac;
        self.write_side(|change| match change {
            VfChange::Mac(_) if !ours => None,
            VfChange::Mac(_) if own => Some(VfChange::Mac(MacAddr([0; 6]))),
            other => Some(other),
        })
    }

    fn write_side(
        &mut self,
        due: impl Fn(VfChange) -> Option<VfChange>,
    ) -> std::result::Result<(), String> {
        let (pf, index) = pf_of(self.root, self.host).map_err(text)?;
        let lock = LockName::Pf(pf.address);
        let _lock = self
            .locks
            .acquire(&lock, self.key, lock::WAIT)
            .map_err(text)?;
        let (link, now) = side::side(&self.home.net, &pf, index).map_err(text)?;
        let changes = self.host.baseline.side.changes_from(&now);
        for change in changes.into_iter().filter_map(due) {
            self.side
                .extend(self.home.net.set_vf(link, index, change).err());
        }
        Ok(())
    }

    /// The interface's own settings. What cannot be put back one by one, as a program
    /// that sees its frames, goes with the interface: the driver is bound anew.
    fn interface(&mut self) -> std::result::Result<(), String> {
        if self.put_back()? {
            return Ok(());
        }
        let vf = self.host.vf;
        log::info!("binding the driver of VF {vf} anew: it does not become what it was");
        driver::rebind(self.root, vf).map_err(text)?;
        self.put_back().map(drop)
    }

    /// Whether there is nothing left that a new interface could cure.
    fn put_back(&mut self) -> std::result::Result<bool, String> {
        let (was, net) = (&self.host.baseline, &self.home.net);
        let vf = self.host.vf;
        let mac = settle_mac(self.root, net, vf, was.netdev.mac);
        let link = || present(self.root, net, vf);
        let mut done = interface::put_back(&self.home, was, link).map_err(text)?;
        done.refused.extend(mac.err());
        let whole = done.whole;
        self.own = done;
        Ok(whole)
    }

    /// The CPUs of the interrupts. A pin that does not give way, because its change
    /// still waits for an interrupt that cannot come, goes with the interrupt itself:
    /// the driver is bound anew.
    fn irqs(&mut self) -> std::result::Result<(), String> {
        let Err(error) = self.unpin_all() else {
            return Ok(());
        };
        log::info!("{error}; binding the driver of VF {} anew", self.host.vf);
        driver::rebind(self.root, self.host.vf).map_err(text)?;
        self.unpin_all().map_err(text)
    }

    /// Gives the interrupts the CPUs they had before they were pinned. One that was not
    /// recorded, because the driver has asked for it since, gets what new ones get.
    fn unpin_all(&self) -> Result<()> {
        let before = &self.irqs;
        if before.is_empty() {
            return Ok(());
        }
        let irqs = Device::new(self.root, self.host.vf).msi_irqs()?;
        // Before the interface is set up for the first time there is nothing to set.
        let irqs = irqs.into_iter().filter(|irq| irq::exists(self.root, *irq));
        let outcomes: Vec<Result<()>> = irqs
            .map(|irq| self.unpin(irq, before.get(&irq.0)))
            .collect();
        outcomes.into_iter().collect()
    }

    /// CPUs that have all gone offline are replaced by those of a new interrupt.
    fn unpin(&self, irq: Irq, before: Option<&CpuSet>) -> Result<()> {
        let initial = || irq::set_affinity(self.root, irq, &irq::initial_affinity(self.root, irq)?);
        match before.map(|cpus| irq::set_affinity(self.root, irq, cpus)) {
            None => initial(),
            Some(Err(error)) if error.errno == Some(Errno::EINVAL) => initial(),
            Some(other) => other,
        }
    }

    /// Reads everything again.
    fn look(&mut self, usable: bool) -> std::result::Result<Vec<Difference>, String> {
        let mut side = self.side().map_err(text)?;
        if side.mac != self.host.baseline.side.mac {
            self.write_side(|change| matches!(change, VfChange::Mac(_)).then_some(change))?;
            side = self.side().map_err(text)?;
        }
        let was = &self.host.baseline;
        let mut found = side_differences(&was.side, &side);
        if usable {
            let link = present(self.root, &self.home.net, self.host.vf).map_err(text)?;
            let now = self.home.state(&link, side).map_err(text)?;
            let told = is_told_by_pf(was, now.netdev.mac);
            let own = own_differences(was, &now).into_iter();
            found.extend(own.filter(|difference| !(told && difference.field == Field::Mac)));
        }
        for difference in &mut found {
            let mut taken = self.own.taken.iter();
            let taken = taken.find(|(f, _)| *f == difference.field);
            difference.why = taken.map(|(_, holder)| holder.clone());
        }
        Ok(found)
    }

    fn side(&self) -> Result<PfSide> {
        let (pf, index) = pf_of(self.root, self.host)?;
        Ok(side::side(&self.home.net, &pf, index)?.1)
    }
}

/// Whether `mac` is the one that the PF had been told for the VF before. An interface takes
/// that only with its driver bound anew; from then on the one it had cannot come back.
fn is_told_by_pf(was: &Baseline, mac: MacAddr) -> bool {
    was.side.mac == Some(mac) && !was.own_mac
}

/// Whether the same would be refused again, however often it is tried: a caller that
/// repeats a DEL until it succeeds must not wait for that.
fn is_lasting(error: &Error) -> bool {
    match error.kind() {
        Kind::Refused | Kind::Unsupported | Kind::Malformed | Kind::Exists => true,
        Kind::TryAgain | Kind::Denied | Kind::NotFound => false,
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steered::Steer;
    use crate::vf::testing;

    #[test]
    fn interrupts_go_back_to_before_the_first_who_moved_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let host = testing::host();
        let key: Key = "net/a:net1".parse().unwrap();
        assert_eq!(irqs_before(&root, &key, &host), host.irqs);
        let cpus = |list: &str| list.parse::<CpuSet>().unwrap();
        let steer = Steer {
            vf: host.vf,
            workload: None,
            // 44 was pinned by the ADD first, 45 only by the agent.
            irqs: [(44, cpus("2")), (45, cpus("0-7"))].into(),
            queues: false,
        };
        let steered = Steered {
            attachments: [(key.clone(), steer)].into(),
        };
        steered.save(&root).unwrap();
        let expected = BTreeMap::from([(44, cpus("0-3")), (45, cpus("0-7"))]);
        assert_eq!(irqs_before(&root, &key, &host), expected);
        let other: Key = "net/b:net1".parse().unwrap();
        assert_eq!(irqs_before(&root, &other, &host), host.irqs);
        std::fs::write(root.run.join("berth/steered.json"), "x").unwrap();
        assert_eq!(irqs_before(&root, &key, &host), host.irqs, "DEL goes on");
    }
}
