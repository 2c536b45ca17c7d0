//! Why a request was refused: what the API answers with and the command line prints.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of a refusal; each has one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    /// The request cannot be understood, or a value in it is wrong (400).
    Invalid,
    /// The caller may read and not change (403).
    Forbidden,
    /// There is no such workload, path, target (404).
    NotFound,
    /// It does not fit; `missing` says what is lacking (409).
    DoesNotFit,
    /// It contradicts what is there: another workload has the target, the directory,
    /// another program pins CPUs (409).
    Conflict,
    /// `If-Match` names an old generation (412).
    StaleGeneration,
    /// The node's configuration asks for `If-Match` (428).
    IfMatchRequired,
    /// The node cannot enforce it (422).
    Unsupported,
    /// The kernel refused a step; all steps were taken back (500).
    Kernel,
    /// A step failed and taking back failed too; the reconciler goes on trying (500).
    RollbackIncomplete,
    /// The agent ends or is overloaded (503).
    Unavailable,
}

impl Code {
    /// The HTTP status (RFC 9110, RFC 6585).
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::DoesNotFit | Self::Conflict => 409,
            Self::StaleGeneration => 412,
            Self::Unsupported => 422,
            Self::IfMatchRequired => 428,
            Self::Kernel | Self::RollbackIncomplete => 500,
            Self::Unavailable => 503,
        }
    }
}

/// Something a request needs more of than there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Missing {
    /// What: `cores on NUMA node 0`, `memory bytes`, `bytes on /data`.
    pub(crate) what: String,
    /// How much was asked for.
    pub(crate) asked: u64,
    /// How much there is at most.
    pub(crate) available: u64,
}

/// The body of every error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// Its kind.
    pub(crate) code: Code,
    /// What it is about: `workload game-17`, a key of the spec, a file.
    pub(crate) object: String,
    /// What was wished.
    pub(crate) wish: String,
    /// Why not.
    pub(crate) reason: String,
    /// What to do.
    pub(crate) next: String,
    /// With [`Code::DoesNotFit`]: what is lacking.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) missing: Vec<Missing>,
    /// With [`Code::StaleGeneration`]: the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
}

impl Refusal {
    /// A refusal; `object`, `wish`, `reason` and `next` as their fields say.
    pub(crate) fn new(
        code: Code,
        object: impl Into<String>,
        wish: impl Into<String>,
        reason: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            code,
            object: object.into(),
            wish: wish.into(),
            reason: reason.into(),
            next: next.into(),
            missing: Vec::new(),
            generation: None,
        }
    }

    /// With what is lacking.
    #[must_use]
    pub(crate) fn lacking(mut self, missing: Vec<Missing>) -> Self {
        self.missing = missing;
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}\n  reason: {}\n  next:   {}",
            self.object, self.wish, self.reason, self.next
        )
    }
}

impl std::error::Error for Refusal {}
