//! What takes longer than a pass, each on a thread of its own. What comes of it is said
//! by a message; whoever waits for that is woken. Nobody waits for the threads: what is
//! only looked at ends with its owner, and a VF's claim stands until it is free.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use berth_kernel::error::AbsentIsFine;
use berth_kernel::quota::{self, ProjectId};
use berth_kernel::{Result, Root, priority};
use berth_state::lease;

use crate::engine::audits::{Foreign, Place};
use crate::engine::errands::{Ended, Errand, Try};
use crate::engine::handle::Message;
use crate::vf;

/// Who has a pool's lock for longer serves it, and settles it himself.
const POOL_WAIT: Duration = Duration::from_secs(1);

/// Wakes the engine, once there is one.
pub(crate) type Bell = Arc<OnceLock<SyncSender<Message>>>;

/// The errands under way.
#[derive(Debug)]
pub(super) struct Errands {
    bell: Bell,
    sender: Sender<Ended>,
    ended: Receiver<Ended>,
    /// Who only looks has to go home.
    stop: Arc<AtomicBool>,
}

impl Errands {
    /// None yet.
    pub(super) fn new(bell: Bell) -> Self {
        let (sender, ended) = channel();
        Self {
            bell,
            sender,
            ended,
            stop: Arc::default(),
        }
    }

    /// Begins one. However it ends, that is said.
    pub(super) fn begin(&self, root: &Root, errand: Errand) {
        let (root, sender, bell) = (root.clone(), self.sender.clone(), self.bell.clone());
        let (own, stop) = (errand.clone(), self.stop.clone());
        let work = move || {
            let done = catch_unwind(AssertUnwindSafe(|| run(&root, &own, &stop)));
            let ended = done.unwrap_or_else(|_| failed(own, "the agent has an error: it panicked"));
            tell(&sender, &bell, ended);
        };
        let name = "errand".to_owned();
        if let Err(error) = thread::Builder::new().name(name).spawn(work) {
            let why = format!("no thread can be started: {error}");
            tell(&self.sender, &self.bell, failed(errand, &why));
        }
    }

    /// Those that have ended since the last call.
    pub(super) fn ended(&self) -> Vec<Ended> {
        self.ended.try_iter().collect()
    }
}

/// Who is not there any more needs not hear it.
fn tell(sender: &Sender<Ended>, bell: &Bell, ended: Ended) {
    let heard = sender.send(ended).is_ok();
    if let (true, Some(bell)) = (heard, bell.get()) {
        // A full queue wakes the engine as well.
        bell.try_send(Message::Changed).ok();
    }
}

impl Drop for Errands {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run(root: &Root, errand: &Errand, stop: &AtomicBool) -> Ended {
    match errand {
        Errand::Audit(place) => {
            let found = audit(place, stop).map_err(|error| error.to_string());
            Ended::Audit(place.clone(), found)
        }
        Errand::Free(address) => Ended::Free(*address, vf::retry(root, *address)),
        Errand::Leases => {
            let settled = lease::settle_all(root, POOL_WAIT);
            Ended::Leases(settled.map_err(|error| error.to_string()))
        }
    }
}

fn failed(errand: Errand, why: &str) -> Ended {
    match errand {
        Errand::Free(address) => Ended::Free(address, Try::Failed(why.to_owned())),
        Errand::Audit(place) => Ended::Audit(place, Err(why.to_owned())),
        Errand::Leases => Ended::Leases(Err(why.to_owned())),
    }
}

/// A directory that is gone has nothing in it; one that has another project itself is
/// first put right by a pass, with all that is in it.
fn audit(place: &Place, stop: &AtomicBool) -> Result<Foreign> {
    if let Err(error) = priority::give_way() {
        log::debug!("{error}");
    }
    let (dir, id) = (&place.dir, ProjectId(place.project));
    let own = quota::project_of(dir).absent_is_fine()?;
    if own.is_none_or(|own| own.id != id) {
        return Ok(Foreign::default());
    }
    let found = quota::audit(dir, id, &|| !stop.load(Ordering::Relaxed)).absent_is_fine()?;
    let found = found.flatten().unwrap_or_default();
    Ok(Foreign {
        count: found.count,
        example: found.paths.into_iter().next(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::sync::mpsc::sync_channel;
    use std::time::SystemTime;

    use super::*;

    /// A node booted a minute ago, whose pool has a lease of before and one of now.
    #[test]
    fn addresses_of_an_earlier_boot_are_freed() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let pool = root.var.join("lib/cni/networks/blue");
        for dir in [&pool, &root.run, &root.proc.join("sys/kernel/random")] {
            fs::create_dir_all(dir).unwrap();
        }
        let now = SystemTime::now();
        let booted = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
            - 60;
        fs::write(root.proc.join("stat"), format!("btime {booted}\n")).unwrap();
        fs::write(root.proc.join("sys/kernel/random/boot_id"), "b1\n").unwrap();
        for name in ["lock", "10.1.0.2", "10.1.0.3"] {
            fs::write(pool.join(name), "c1\r\neth0").unwrap();
        }
        let old = File::options().write(true).open(pool.join("10.1.0.2"));
        old.unwrap()
            .set_modified(now - Duration::from_secs(90))
            .unwrap();

        let errands = Errands::new(Bell::default());
        errands.begin(&root, Errand::Leases);
        let ended = errands.ended.recv_timeout(Duration::from_secs(10));
        assert_eq!(ended, Ok(Ended::Leases(Ok(()))));
        assert!(!pool.join("10.1.0.2").exists());
        assert!(pool.join("10.1.0.3").exists());
    }

    #[test]
    fn what_came_of_it_is_said_and_wakes_the_engine() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let (wake, woken) = sync_channel(1);
        let bell = Bell::default();
        bell.set(wake).unwrap();
        let errands = Errands::new(bell);
        let address = "0000:01:10.2".parse().unwrap();
        errands.begin(&root, Errand::Free(address));
        let message = woken.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(matches!(message, Message::Changed));
        let ended = errands.ended();
        assert!(
            matches!(&ended[..], [Ended::Free(vf, _)] if *vf == address),
            "{ended:?}"
        );
        assert_eq!(errands.ended(), []);
    }
}
