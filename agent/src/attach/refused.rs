//! A plugin's error as a person reads it: what was wished, why not, what to do next.

use std::fmt;

use berth_cni::CniError;
use berth_state::Key;

/// Something the protocol's other side refused.
#[derive(Debug)]
pub(crate) struct Refused {
    wish: String,
    error: CniError,
}

impl Refused {
    /// `error` stood against `wish`, a verb phrase.
    pub(crate) fn new(wish: impl Into<String>, error: CniError) -> Self {
        Self {
            wish: wish.into(),
            error,
        }
    }

    /// `verb` (attach) of the attachment, `to` its network.
    pub(crate) fn of(key: &Key, verb: &str, to: &str, error: CniError) -> Self {
        let (ifname, id) = (key.ifname().as_str(), key.container_id());
        let wish = format!(
            "{verb} {ifname} of container {id} {to} network {}",
            key.network()
        );
        Self::new(wish, error)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CniError { code, msg, details } = &self.error;
        write!(f, "cannot {} (code {code})\n  reason: {msg}", self.wish)?;
        if !details.is_empty() {
            write!(f, "\n  next:   {details}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}
