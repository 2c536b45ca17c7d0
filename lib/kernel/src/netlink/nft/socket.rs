//! The socket: reads, changes, and both as one transaction.

use std::collections::HashSet;
use std::fmt;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::batch::{Batch, Judgement, Refusal};
use super::object::{
    Element, ElementKey, Rule, Set, of_element, of_rules, of_set, of_table, read_elements,
    read_rule, read_set, read_table,
};
use super::writer::{HEADER, Kind, Writer};
use super::{Family, Name, Table};
use crate::error::AbsentIsFine;
use crate::netlink::attr::{Attr, Attrs, find};
use crate::netlink::socket::{Channel, DUMP_TRIES, NLM_F_REQUEST, receive};
use crate::netlink::wire::{End, Fault, Request};
use crate::netns::NetNs;
use crate::{Error, Result};

/// How often a transaction is begun anew. Each lost race means that another process
/// got its change done, and those that race with us are as many as run at once.
const TRANSACTION_TRIES: usize = 1000;

/// A connection to nf_tables of one network namespace. It stays in the namespace it
/// was opened in, whoever uses it from wherever.
pub struct Nft {
    channel: Channel,
}

impl fmt::Debug for Nft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nft").finish_non_exhaustive()
    }
}

impl Nft {
    /// Opens a connection in the calling thread's namespace.
    ///
    /// # Errors
    /// Of the kind `Unsupported` on a kernel without netfilter.
    pub fn open() -> Result<Self> {
        let channel = Channel::open(NETLINK_NETFILTER)?;
        Ok(Self { channel })
    }

    /// Opens a connection in namespace `ns`, to be used from outside.
    ///
    /// # Errors
    /// As [`Self::open`], and what entering the namespace refuses.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        ns.run(Self::open)?
    }

    /// The ruleset's generation: another number after each change of anything in it.
    ///
    /// # Errors
    /// Of the kind `Unsupported` on a kernel without nf_tables.
    pub fn generation(&self) -> Result<u32> {
        const NFTA_GEN_ID: u16 = 1;
        let (op, object) = ("read", "the generation of nf_tables");
        let request = Request {
            kind: Kind::GetGen.number(),
            body: Writer::message(None).into_body(),
        };
        let body = match self.find(&request) {
            Ok(body) => body.unwrap_or_default(),
            // What netfilter says of a part it does not have.
            Err(Fault::Refused(Errno::EINVAL | Errno::EOPNOTSUPP, _)) => {
                return Err(Error::errno(op, object, Errno::EOPNOTSUPP)
                    .because(Some("no nf_tables (CONFIG_NF_TABLES)".into())));
            }
            Err(fault) => return Err(fault.into_error(op.into(), object.into())),
        };
        let generation = find(Attrs::after(&body, HEADER), NFTA_GEN_ID).and_then(Attr::u32_be);
        generation.ok_or_else(|| Error::malformed(op, object, "the answer holds none"))
    }

    /// The names of the tables of a family.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn tables(&self, family: Family) -> Result<Vec<String>> {
        let request = Request {
            kind: Kind::GetTable.number(),
            body: Writer::message(Some(family)).into_body(),
        };
        let bodies = self.dump(&request, || format!("the {family} tables"))?;
        Ok(bodies.iter().filter_map(|body| read_table(body)).collect())
    }

    /// The sets of a table; none if it is not there.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn sets(&self, table: &Table) -> Result<Vec<Set>> {
        let request = of_table(Kind::GetSet, table);
        let bodies = self.dump(&request, || format!("the sets of {table}"))?;
        Ok(bodies.iter().filter_map(|body| read_set(body)).collect())
    }

    /// The rules of all chains of a table, those of one chain in their order; none if it
    /// is not there.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn all_rules(&self, table: &Table) -> Result<Vec<Rule>> {
        let request = of_table(Kind::GetRule, table);
        let bodies = self.dump(&request, || format!("the rules of {table}"))?;
        Ok(bodies.iter().map(|body| read_rule(body)).collect())
    }

    /// The rules of a chain in order; none if it is not there.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn rules(&self, table: &Table, chain: &Name) -> Result<Vec<Rule>> {
        let request = of_rules(Kind::GetRule, table, chain);
        let bodies = self.dump(&request, || {
            format!("the rules of chain {chain} of {table}")
        })?;
        Ok(bodies.iter().map(|body| read_rule(body)).collect())
    }

    /// The elements of a set, in no order; none if it is not there.
    ///
    /// A set that grew is spread over more room a moment later, which is no change of the
    /// ruleset. A list read meanwhile is not marked as interrupted, yet where the kernel
    /// goes on by position it may leave some elements out, and then it has as many twice:
    /// such a list is read again.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn elements(&self, (table, set): (&Table, &Name)) -> Result<Vec<Element>> {
        let request = of_set(Kind::GetSetElem, table, set);
        let object = || format!("the elements of set {set} of {table}");
        for _ in 0..DUMP_TRIES {
            let bodies = self.dump(&request, object)?;
            let elements: Vec<_> = bodies.iter().flat_map(|body| read_elements(body)).collect();
            let distinct: HashSet<_> = elements.iter().map(|element| &element.key).collect();
            if distinct.len() == elements.len() {
                return Ok(elements);
            }
            log::debug!("set {set} of {table} moved while it was read, asking again");
        }
        Err(Fault::Interrupted.into_error("list".into(), object()))
    }

    /// One element of a set; `None` if it, the set or the table is not there.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn find_element(
        &self,
        (table, set): (&Table, &Name),
        key: &ElementKey,
    ) -> Result<Option<Element>> {
        let request = of_element(Kind::GetSetElem, (table, set), key, None);
        match self.find(&request) {
            Ok(body) => Ok(body.and_then(|body| read_elements(&body).pop())),
            Err(fault) => {
                let object = format!("an element of set {set} of {table}");
                Err(fault.into_error("look up".into(), object))
            }
        }
    }

    /// Has the kernel make all changes of a batch, or none.
    ///
    /// # Errors
    /// The first change it refused. With a `generation`, of the kind `TryAgain` with
    /// ERESTART if that is not the ruleset's any more.
    pub fn apply(&self, batch: &Batch, generation: Option<u32>) -> Result<()> {
        self.send(batch, generation, true)?;
        for (op, object) in batch.told() {
            log::debug!("{op} {object}");
        }
        Ok(())
    }

    /// Has the kernel judge a batch and make none of its changes. That takes it long,
    /// some 16 ms.
    ///
    /// # Errors
    /// The first change it would refuse.
    pub fn try_out(&self, batch: &Batch) -> Result<()> {
        self.send(batch, None, false)
    }

    fn send(&self, batch: &Batch, generation: Option<u32>, end: bool) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let (op, object) = ("change", "nf_tables");
        let failed = |fault: Fault| fault.into_error(op.into(), object.into());
        let refusal = self.judge(batch, generation, end).map_err(failed)?;
        let Some(refusal) = refusal else {
            return Ok(());
        };
        let change = refusal.change.and_then(|at| batch.told().nth(at));
        let (op, object) = change.unwrap_or((op, object));
        Err(Error::errno(op, object, refusal.errno).because(refusal.text))
    }

    fn judge(
        &self,
        batch: &Batch,
        generation: Option<u32>,
        end: bool,
    ) -> std::result::Result<Option<Refusal>, Fault> {
        let too_long = Fault::Socket(Errno::EMSGSIZE);
        let count = batch.len().ok_or(too_long.clone())?;
        let first = self.channel.number(count);
        let frames = batch.frames(first, generation, end).ok_or(too_long)?;
        self.channel.send(&frames)?;
        let mut judgement = Judgement::new(first, count - 2);
        while !judgement.take(&receive(&self.channel.socket)?)? {}
        Ok(judgement.refusal())
    }

    /// Decides on a change by what it reads, and makes it only if nothing of the
    /// ruleset changed since `decide` began to read; else decides again. An empty batch
    /// ends it.
    ///
    /// # Errors
    /// Those of `decide`; what the kernel refused; of the kind `TryAgain` if others
    /// change the ruleset without end.
    pub fn transact(&self, mut decide: impl FnMut() -> Result<Batch>) -> Result<()> {
        for _ in 0..TRANSACTION_TRIES {
            let generation = self.generation()?;
            let done = decide().and_then(|batch| self.apply(&batch, Some(generation)));
            match done {
                // A list that kept changing while it was read is a race lost too.
                Err(Error {
                    errno: Some(Errno::ERESTART | Errno::EINTR),
                    ..
                }) => log::debug!("nf_tables changed meanwhile, reading again"),
                done => return done,
            }
        }
        let reason = format!("others changed it during each of {TRANSACTION_TRIES} tries");
        Err(Error::errno("change", "nf_tables", Errno::EAGAIN).because(Some(reason)))
    }

    /// The one message that answers; `None` if what it asks about is not there.
    fn find(&self, request: &Request) -> std::result::Result<Option<Vec<u8>>, Fault> {
        match self.channel.exchange(request, NLM_F_REQUEST, End::First) {
            Ok(mut answer) => Ok(answer.bodies.pop()),
            Err(Fault::Refused(Errno::ENOENT, _)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// The messages of a table; none if it is not there.
    fn dump(&self, request: &Request, object: impl Fn() -> String) -> Result<Vec<Vec<u8>>> {
        let dumped = self.channel.dump(request);
        let dumped = dumped.map_err(|fault| fault.into_error("list".into(), object()));
        Ok(dumped.absent_is_fine()?.unwrap_or_default())
    }
}
