//! A batch: changes the kernel takes whole or not at all, as one datagram, and its
//! verdict on them.

use nix::errno::Errno;

use super::object::{
    BaseChain, ElementKey, NewSet, new_chain, new_rule, new_set, new_table, of_chain, of_element,
    of_rules, of_set, of_table,
};
use super::writer::{Kind, Writer};
use super::{Comment, Expr, Name, Table};
use crate::netlink::socket::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
use crate::netlink::wire::{Fault, Message, NLMSG_ERROR, Request};

const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFNL_BATCH_GENID: u16 = 1;
/// Add behind the rules that are there.
const NLM_F_APPEND: u16 = 0x800;

/// Changes, in the order they are made. What a change needs may be made by an earlier
/// one of the same batch.
#[derive(Debug, Default)]
pub struct Batch {
    changes: Vec<Change>,
    sets: u32,
}

#[derive(Debug)]
struct Change {
    /// A verb phrase, for logs and errors.
    op: String,
    object: String,
    request: Request,
    flags: u16,
}

/// What the kernel refused, and of which change; `None` of the batch as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) change: Option<usize>,
    pub(super) errno: Errno,
    pub(super) text: Option<String>,
}

impl Batch {
    /// A batch without changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn push(&mut self, op: &str, object: impl ToString, request: Request, flags: u16) {
        self.changes.push(Change {
            op: op.to_owned(),
            object: object.to_string(),
            request,
            flags,
        });
    }

    /// Makes a table, if it is not there.
    pub fn add_table(&mut self, table: &Table) {
        self.push("add", table, new_table(table), NLM_F_CREATE);
    }

    /// Makes a chain, if it is not there.
    pub fn add_chain(&mut self, table: &Table, chain: &BaseChain<'_>) {
        let object = format!("chain {} of {table}", chain.name);
        self.push("add", object, new_chain(table, chain), NLM_F_CREATE);
    }

    /// Makes a set, if it is not there.
    pub fn add_set(&mut self, table: &Table, set: &NewSet<'_>) {
        self.sets += 1;
        let object = format!("set {} of {table}", set.name);
        let request = new_set(table, set, self.sets);
        self.push("add", object, request, NLM_F_CREATE);
    }

    /// Adds a rule at the end of a chain, however often it is there already.
    pub fn add_rule(
        &mut self,
        table: &Table,
        chain: &Name,
        exprs: &[Expr],
        comment: Option<&Comment>,
    ) {
        let object = format!("a rule to chain {chain} of {table}");
        let request = new_rule(table, chain, exprs, comment);
        self.push("add", object, request, NLM_F_CREATE | NLM_F_APPEND);
    }

    /// Adds an element; refused with EEXIST if it is there, whatever its comment.
    pub fn add_element(
        &mut self,
        (table, set): (&Table, &Name),
        key: &ElementKey,
        comment: Option<&Comment>,
    ) {
        let object = match comment {
            Some(comment) => format!("the element of {comment} to set {set} of {table}"),
            None => format!("an element to set {set} of {table}"),
        };
        let request = of_element(Kind::NewSetElem, (table, set), key, comment);
        self.push("add", object, request, NLM_F_CREATE | NLM_F_EXCL);
    }

    /// Removes an element.
    pub fn delete_element(&mut self, (table, set): (&Table, &Name), key: &ElementKey) {
        let object = format!("an element of set {set} of {table}");
        let request = of_element(Kind::DelSetElem, (table, set), key, None);
        self.push("delete", object, request, 0);
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, table: &Table, chain: &Name) {
        let object = format!("the rules of chain {chain} of {table}");
        self.push("delete", object, of_rules(Kind::DelRule, table, chain), 0);
    }

    /// Removes a chain and its rules; EBUSY if another chain leads to it.
    pub fn delete_chain(&mut self, table: &Table, chain: &Name) {
        let object = format!("chain {chain} of {table}");
        self.push("delete", object, of_chain(Kind::DelChain, table, chain), 0);
    }

    /// Removes a set and its elements; EBUSY if a rule looks into it.
    pub fn delete_set(&mut self, table: &Table, set: &Name) {
        let object = format!("set {set} of {table}");
        self.push("delete", object, of_set(Kind::DelSet, table, set), 0);
    }

    /// Removes a table and everything in it.
    pub fn delete_table(&mut self, table: &Table) {
        self.push("delete", table, of_table(Kind::DelTable, table), 0);
    }

    /// How many messages [`Self::frames`] makes, the end counted.
    pub(super) fn len(&self) -> Option<u32> {
        u32::try_from(self.changes.len()).ok()?.checked_add(2)
    }

    /// Each change as a verb and its object.
    pub fn told(&self) -> impl Iterator<Item = (&str, &str)> {
        let changes = self.changes.iter();
        changes.map(|change| (change.op.as_str(), change.object.as_str()))
    }

    /// The batch as it goes to the kernel, its messages numbered from `first` on. With
    /// a `generation`, the kernel refuses it if that is not the ruleset's.
    ///
    /// Without an `end` the kernel judges it and makes none of the changes.
    ///
    /// Only the last change asks to be acknowledged: kernels before 6.10 acknowledge no
    /// end, and a refusal comes unasked.
    pub(super) fn frames(&self, first: u32, generation: Option<u32>, end: bool) -> Option<Vec<u8>> {
        let mut begin = Writer::batch_end();
        if let Some(generation) = generation {
            begin.number(NFNL_BATCH_GENID, generation);
        }
        let mut bytes = edge(NFNL_MSG_BATCH_BEGIN, begin).frame(NLM_F_REQUEST, first)?;
        let mut number = first;
        for (at, change) in self.changes.iter().enumerate() {
            number = number.wrapping_add(1);
            let last = at + 1 == self.changes.len();
            let ack = if last { NLM_F_ACK } else { 0 };
            let flags = NLM_F_REQUEST | ack | change.flags;
            bytes.extend(change.request.frame(flags, number)?);
        }
        if end {
            let end = edge(NFNL_MSG_BATCH_END, Writer::batch_end());
            bytes.extend(end.frame(NLM_F_REQUEST, number.wrapping_add(1))?);
        }
        Some(bytes)
    }
}

fn edge(kind: u16, message: Writer) -> Request {
    Request {
        kind,
        body: message.into_body(),
    }
}

/// The kernel's verdict on a batch, while it arrives. It judges every change, even
/// after one failed; the first failure is the one that says why.
#[derive(Debug)]
pub(super) struct Judgement {
    first: u32,
    changes: u32,
    refusal: Option<Refusal>,
}

impl Judgement {
    /// The verdict on `changes` changes that were numbered from `first` + 1 on.
    pub(super) fn new(first: u32, changes: u32) -> Self {
        Self {
            first,
            changes,
            refusal: None,
        }
    }

    /// Takes in one datagram; `true` once the verdict is complete.
    pub(super) fn take(&mut self, mut datagram: &[u8]) -> Result<bool, Fault> {
        while !datagram.is_empty() {
            let (message, rest) = Message::split(datagram)?;
            datagram = rest;
            if self.take_message(&message)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take_message(&mut self, message: &Message<'_>) -> Result<bool, Fault> {
        let at = message.sequence.wrapping_sub(self.first);
        // Others belong to requests given up earlier.
        if message.kind != NLMSG_ERROR || at > self.changes {
            return Ok(false);
        }
        match message.acknowledged() {
            Ok(_) => {}
            Err(Fault::Refused(errno, text)) => {
                let change = at.checked_sub(1).and_then(|at| usize::try_from(at).ok());
                self.refusal.get_or_insert(Refusal {
                    change,
                    errno,
                    text,
                });
            }
            Err(fault) => return Err(fault),
        }
        // A refusal of the whole is the last word.
        Ok(at == 0 || at == self.changes)
    }

    /// What was refused, if so.
    pub(super) fn refusal(self) -> Option<Refusal> {
        self.refusal
    }
}
