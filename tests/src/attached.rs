//! A pod that was added, and what a runtime asks for it later.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::plugin::{Attachment, CniError, Plugin, Reply};
use crate::pod::Pod;
use crate::space::Space;

/// `base` with the keys of `more` added or replaced.
pub fn with(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}

/// An `ipam` of fixed addresses.
pub fn fixed(addresses: &[&str]) -> Value {
    let list: Vec<Value> = addresses.iter().map(|a| json!({"address": a})).collect();
    json!({"type": "static", "addresses": list})
}

/// A pod that was added.
#[derive(Debug)]
pub struct Attached {
    /// The pod.
    pub pod: Pod,
    /// Its attachment.
    pub at: Attachment,
    /// The configuration it was added with.
    pub conf: Value,
    /// What ADD answered.
    pub result: Value,
    plugin: Plugin,
}

impl Attached {
    /// Adds a pod by `plugin`.
    pub fn of(plugin: Plugin, pod: Pod, at: Attachment, conf: Value) -> Result<Self> {
        let result = plugin
            .add(&at, &conf)
            .with_context(|| format!("ADD of {}", at.container_id))?;
        Ok(Self {
            pod,
            at,
            conf,
            result,
            plugin,
        })
    }

    /// The configuration a runtime gives to CHECK and DEL.
    pub fn later(&self) -> Value {
        with(self.conf.clone(), json!({"prevResult": self.result}))
    }

    /// CHECK, whatever comes of it.
    pub fn check(&self) -> Result<Reply> {
        self.plugin.call("CHECK", &self.at, &self.later())
    }

    /// CHECK that must find nothing.
    pub fn must_hold(&self) -> Result<()> {
        self.plugin.check(&self.at, &self.later())
    }

    /// DEL that must succeed.
    pub fn del(&self) -> Result<()> {
        self.plugin.del(&self.at, &self.later())
    }

    /// Whether this pod gets answers from `to`.
    pub fn reaches(&self, to: &str) -> Result<bool> {
        Ok(self.pod.ping(address(to)?, 3)?.reached())
    }

    /// Whether this pod asked `to` and got no answer at all.
    pub fn is_cut_off_from(&self, to: &str) -> Result<bool> {
        Ok(self.pod.ping(address(to)?, 2)?.isolated())
    }
}

fn address(text: &str) -> Result<IpAddr> {
    text.parse().with_context(|| format!("parse {text}"))
}

/// The failure of `reply`, which must have this code and say all of this, and what to
/// do next.
pub fn refused(reply: &Reply, code: u64, says: &[&str]) -> Result<CniError> {
    let error = reply.failure()?;
    let text = format!("{}: {}", error.msg, error.details);
    ensure!(
        error.code == code,
        "code {} instead of {code}: {text}",
        error.code
    );
    for part in says {
        ensure!(text.contains(part), "{part:?} is not in: {text}");
    }
    ensure!(!error.details.is_empty(), "no next step: {text}");
    Ok(error)
}

impl Plugin {
    /// A run that nobody kills: the system calls by which it changes something.
    pub fn changing_calls(
        &self,
        verb: &str,
        attachment: &Attachment,
        conf: &Value,
    ) -> Result<Vec<String>> {
        let traced = self.traced(verb, attachment, conf, None)?;
        let end = &traced.finished;
        ensure!(
            end.status.success(),
            "{verb}: {} {}",
            end.stdout,
            end.stderr
        );
        ensure!(
            traced.calls.iter().any(|call| call.contains("RTM_")),
            "{verb} changed no link: {:?}",
            traced.calls
        );
        for (number, call) in traced.calls.iter().enumerate() {
            eprintln!("{verb} {number}: {call}");
        }
        Ok(traced.calls)
    }
}
