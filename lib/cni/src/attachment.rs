//! One attachment's record through its verbs: written before the first change of ADD,
//! settled before another ADD, followed by DEL, removed last. What a plugin makes of
//! it on the node comes in as closures.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use berth_kernel::{NetNs, Root};
use berth_state::boot::{self, Writer};
use berth_state::record::{ContainerSide, Host, NetnsRef, Phase, Record, Records};
use berth_state::undo::Undo;
use berth_state::{Key, Kind};

use crate::error::{CniError, code};
use crate::ipam::Ipam;
use crate::request::Request;
use crate::steps::Steps;

/// How long to wait for the ADD of this attachment to end.
const WRITER_WAIT: Duration = Duration::from_secs(30);
/// How often to look meanwhile.
const WRITER_POLL: Duration = Duration::from_millis(20);

/// The attachment a request is about, and where it is on record. Cloning is cheap:
/// undo steps keep a clone.
#[derive(Debug, Clone)]
pub struct Attachment {
    root: Root,
    records: Records,
    key: Key,
}

impl Attachment {
    /// The attachment `key` on the node whose trees are `root`.
    pub fn new(root: &Root, key: &Key) -> Self {
        Self {
            root: root.clone(),
            records: Records::new(root),
            key: key.clone(),
        }
    }

    /// Its key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The trees of the node it is on.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The records of the node.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// The record of an ADD that has not changed anything yet, written by this process;
    /// what it knows beside the host's side is left to the caller.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn intent(&self, request: &Request, netns: &NetNs, host: Host) -> Result<Record, CniError> {
        Ok(Record {
            key: self.key.clone(),
            phase: Phase::Prepared,
            boot_id: boot::boot_id(&self.root)?,
            writer: Writer::current(&self.root)?,
            netns: NetnsRef::of(netns)?,
            host,
            container: ContainerSide::default(),
            rps: None,
            cgroup_path: cgroup_path(request),
            request: request.saved(),
        })
    }

    /// Writes the record before the first change. It is taken back only when everything
    /// else could be: what is left over needs it. One that another ADD of the same
    /// attachment wrote first is that one's, and stays.
    ///
    /// # Errors
    /// Code 11 when another ADD came first; else what the kernel refused.
    pub fn remember(&self, record: &Record, undo: &mut Undo) -> Result<(), CniError> {
        let (inverse, others) = (self.clone(), Rc::new(Cell::new(false)));
        let lost = others.clone();
        undo.last("record", move || match lost.get() {
            true => Ok(()),
            false => inverse.records.remove(&inverse.key),
        });
        undo.covered("write record", || {
            let created = self.records.create(record);
            created.inspect_err(|error| others.set(error.kind() == Kind::Exists))
        })
    }

    /// What ADD does when the attachment is on record already: leaves a living one
    /// alone, lets `sweep` remove what a dead ADD or a former namespace left.
    ///
    /// # Errors
    /// Code 11 while another ADD of it runs; code 7 when it exists in `netns`; else the
    /// sweep's own.
    pub fn settle(
        &self,
        netns: &NetNs,
        sweep: impl FnOnce(Record) -> Result<(), CniError>,
    ) -> Result<(), CniError> {
        let key = &self.key;
        let Some(record) = self.records.load(key)? else {
            return Ok(());
        };
        if record.is_being_added(&self.root)? {
            return Err(being_added(&format!("attachment {key} is"), &record));
        }
        if record.phase == Phase::Committed && record.netns.is(netns)? {
            let path = self.records.path(key);
            let msg = format!(
                "attachment {key} exists already, on record in {}",
                path.display()
            );
            return Err(CniError::new(code::CONFIG, msg).details(
                "send DEL for it first; a runtime must not ADD the same attachment twice",
            ));
        }
        log::info!("{key}: an earlier ADD left a record; cleaning up after it first");
        sweep(record)
    }

    /// The record, once no ADD is writing it any more, for at most 30 s. `None` also
    /// where it cannot be read: everything else is still released, and
    /// [`Attachment::released`], which does not remove such a file, names it.
    ///
    /// # Errors
    /// Code 11 when the ADD does not end; else what the kernel refused.
    pub fn settled(&self) -> Result<Option<Record>, CniError> {
        let start = Instant::now();
        loop {
            let record = match self.records.load(&self.key) {
                Err(error) if error.kind() == Kind::Malformed => return Ok(None),
                other => other?,
            };
            let busy = match &record {
                Some(prepared) if prepared.is_being_added(&self.root)? => prepared,
                _ => return Ok(record),
            };
            if start.elapsed() > WRITER_WAIT {
                return Err(being_added(
                    &format!("attachment {} is still", self.key),
                    busy,
                ));
            }
            sleep(WRITER_POLL);
        }
    }

    /// The record of an ADD that succeeded.
    ///
    /// # Errors
    /// Code 105 when there is none; else what the kernel refused.
    pub fn committed(&self) -> Result<Record, CniError> {
        let record = self.records.load(&self.key)?;
        record.filter(is_committed).ok_or_else(|| {
            let msg = format!("attachment {} has no finished record", self.key);
            CniError::new(code::DRIFT, msg).details("its ADD never succeeded: send DEL, then ADD")
        })
    }

    /// The DEL of the attachment's own ADD; where there is no record, or its request
    /// cannot be read, `request`.
    pub fn del_request(&self, request: &Request, record: Option<&Record>) -> Request {
        let Some(record) = record else {
            return request.clone();
        };
        request
            .del_of(&self.key, &record.request, request.netns.as_deref())
            .unwrap_or_else(|error| {
                log::warn!("{error}; using the configuration at hand");
                request.clone()
            })
    }

    /// DEL's part of IPAM: gives back the addresses of the ADD that `record` remembers,
    /// by its own request ([`Attachment::del_request`]).
    ///
    /// # Errors
    /// The IPAM plugin's own, or why it cannot be run.
    pub fn release_addresses(
        &self,
        request: &Request,
        record: Option<&Record>,
    ) -> Result<(), CniError> {
        match Ipam::of(&self.root, request) {
            Ok(ipam) if record.is_some_and(is_committed) => ipam.del(request),
            Ok(ipam) => ipam.del_unserved(request),
            // No ADD can have had an address by it: refusing would only keep the container.
            Err(error) if record.is_none() => {
                log::warn!("no address to release: {error}");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Ends a DEL whose steps were all tried, each with its name: removes the record, of
    /// which `record` is what was read at the start, if none failed, else leaves it for the
    /// next try.
    ///
    /// # Errors
    /// Code 102 with every step that failed, or the record that could not be removed.
    pub fn released<'s>(
        &self,
        record: Option<&Record>,
        steps: impl IntoIterator<Item = (&'s str, Result<(), CniError>)>,
    ) -> Result<(), CniError> {
        let mut failed: Vec<String> = steps
            .into_iter()
            .filter_map(|(what, done)| done.err().map(|error| format!("{what}: {error}")))
            .collect();
        if failed.is_empty() {
            let removed = match record {
                Some(record) => self.records.forget(record),
                None => self.records.remove(&self.key),
            };
            failed.extend(removed.err().map(|error| format!("record: {error}")));
        }
        if failed.is_empty() {
            return Ok(());
        }
        let msg = format!(
            "attachment {} is not wholly released: {}",
            self.key,
            failed.join("; ")
        );
        Err(CniError::new(code::INCOMPLETE, msg)
            .details("remedy the reasons named, then send DEL again; it goes on where it stopped"))
    }
}

/// The refusal of a record that another plugin wrote: its DEL knows what to undo.
pub fn foreign(key: &Key) -> CniError {
    let msg = format!("the record of attachment {key} is another plugin's");
    CniError::new(code::INCOMPLETE, msg)
        .details("send DEL to the plugin that the attachment was added with")
}

fn being_added(who: &str, record: &Record) -> CniError {
    let msg = format!("{who} being added by process {}", record.writer.pid);
    CniError::new(code::TRY_AGAIN, msg).details("wait for it to end, then try again")
}

fn is_committed(record: &Record) -> bool {
    record.phase == Phase::Committed
}

/// The container's cgroup, if the runtime gave it as a capability.
pub fn cgroup_path(request: &Request) -> Option<PathBuf> {
    let given = request.argument("cgroupPath")?;
    given.value.as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests;
