//! The error a plugin prints: code, message, details, and how other errors get a code.

use std::fmt;

use berth_kernel::Kind;
use serde_json::{Value, json};

use crate::version::SpecVersion;

/// Error codes: those of the specification ("Error", codes 1 to 99), 8 as the
/// reference uses it, and Berth's own from 100 on. 3 (unknown container) is never
/// given on ADD because it tells the runtime to skip DEL; 999 is never given at all.
pub mod code {
    /// The plugin does not speak the configuration's `cniVersion`.
    pub const VERSION: u32 = 1;
    /// A known key is set that this build cannot honour.
    pub const UNSUPPORTED: u32 = 2;
    /// A necessary environment variable is missing or invalid.
    pub const ENV: u32 = 4;
    /// Reading or writing failed: standard input, a state file, a delegate.
    pub const IO: u32 = 5;
    /// A document is not the JSON it should be.
    pub const DECODE: u32 = 6;
    /// The configuration is understood and wrong.
    pub const CONFIG: u32 = 7;
    /// The network namespace is missing, or the plugin's own.
    pub const NETNS: u32 = 8;
    /// Nothing is wrong; the same request may work later.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS only: no ADD can be served now.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS only: as 50, and existing containers have limited connectivity.
    pub const LIMITED: u32 = 51;
    /// The kernel refused.
    pub const KERNEL: u32 = 100;
    /// The virtual function cannot be used.
    pub const VF_UNUSABLE: u32 = 101;
    /// Something could not be undone or released.
    pub const INCOMPLETE: u32 = 102;
    /// The address is in use by another station.
    pub const ADDRESS_CONFLICT: u32 = 103;
    /// A defect in the plugin: it panicked.
    pub const INTERNAL: u32 = 104;
    /// CHECK only: the attachment is not as ADD left it.
    pub const DRIFT: u32 = 105;
}

/// A failed verb. `msg` says which object, what was wished and why it failed;
/// `details` says what to do next, and what else helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// One of [`code`].
    pub code: u32,
    /// Object, wish and reason in one sentence.
    pub msg: String,
    /// The next step and further facts; may be empty.
    pub details: String,
}

impl CniError {
    /// An error whose message is complete as it stands.
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// Adds what to do next, or another fact; several are joined by `; `.
    #[must_use]
    pub fn details(mut self, text: impl fmt::Display) -> Self {
        if !self.details.is_empty() {
            self.details.push_str("; ");
        }
        self.details.push_str(&text.to_string());
        self
    }

    /// Puts what was being done in front of the message.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.msg = format!("{doing}: {}", self.msg);
        self
    }

    /// The one form most errors take: `object: cannot wish: reason`, and in the
    /// details the next step.
    pub fn told(
        code: u32,
        object: impl fmt::Display,
        wish: impl fmt::Display,
        reason: impl fmt::Display,
        next: impl fmt::Display,
    ) -> Self {
        Self::new(code, format!("{object}: cannot {wish}: {reason}")).details(next)
    }

    /// Code 7: configuration key `key` has `value`, which is wrong for `reason`.
    pub fn config(
        key: impl fmt::Display,
        value: &Value,
        reason: impl fmt::Display,
        next: impl fmt::Display,
    ) -> Self {
        let msg = format!("invalid configuration: {key} = {value}: {reason}");
        Self::new(code::CONFIG, msg).details(next)
    }

    /// Code 2: `key` is known, and `value` asks for what this build cannot do.
    pub fn unsupported(key: &str, value: &Value, next: impl fmt::Display) -> Self {
        let msg = format!("unsupported configuration: {key} = {value} is not supported");
        Self::new(code::UNSUPPORTED, msg).details(next)
    }

    /// Code 4: an environment variable is missing or wrong.
    pub fn env(msg: impl Into<String>) -> Self {
        Self::new(code::ENV, msg)
    }

    /// Code 11: try again later.
    pub fn try_again(msg: impl Into<String>) -> Self {
        Self::new(code::TRY_AGAIN, msg)
    }

    /// The error document (specification, "Error").
    pub fn to_json(&self, version: SpecVersion) -> Value {
        json!({
            "cniVersion": version.as_str(),
            "code": self.code,
            "msg": self.msg,
            "details": self.details,
        })
    }

    /// Reads an error document a plugin printed. `None` when it is none.
    pub fn from_json(document: &Value) -> Option<Self> {
        let object = document.as_object()?;
        let text = |key: &str| {
            let text = object.get(key).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let code = object.get("code")?.as_u64()?;
        Some(Self {
            code: u32::try_from(code).ok()?,
            msg: text("msg"),
            details: text("details"),
        })
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        write!(f, " (CNI error {})", self.code)
    }
}

impl std::error::Error for CniError {}

impl From<berth_kernel::Error> for CniError {
    fn from(error: berth_kernel::Error) -> Self {
        let (code, next) = match error.kind() {
            Kind::TryAgain => (code::TRY_AGAIN, "the kernel was busy; try again"),
            Kind::Denied => (
                code::KERNEL,
                "run as root with CAP_NET_ADMIN and CAP_SYS_ADMIN",
            ),
            Kind::Unsupported => (
                code::KERNEL,
                "this kernel lacks the feature; `berth doctor` names the option it needs",
            ),
            Kind::NotFound | Kind::Exists | Kind::Refused | Kind::Malformed => (code::KERNEL, ""),
        };
        let told = Self::new(code, error.to_string());
        if next.is_empty() {
            told
        } else {
            told.details(next)
        }
    }
}

impl From<berth_state::Error> for CniError {
    fn from(error: berth_state::Error) -> Self {
        use berth_state::Kind::{
            Absent, Exists, Kernel, LockBusy, Malformed, NewerFormat, NotOwner, Taken,
        };
        let code = match error.kind() {
            // Another call about the same thing came first; the next try sees it.
            Exists | Absent | Taken | LockBusy => code::TRY_AGAIN,
            NewerFormat | Malformed => code::DECODE,
            NotOwner => code::INCOMPLETE,
            Kernel(self::Kind::TryAgain) => code::TRY_AGAIN,
            Kernel(_) => code::IO,
        };
        Self::new(code, error.to_string())
    }
}

impl From<berth_state::Fault> for CniError {
    fn from(fault: berth_state::Fault) -> Self {
        Self::new(code::INTERNAL, fault.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn the_document_holds_the_version_and_reads_back() {
        let error = CniError::told(
            code::CONFIG,
            "bridge br0",
            "use it for VLAN 100",
            "it does not filter VLANs",
            "set vlan_filtering on it",
        );
        let document = error.to_json(SpecVersion::V040);
        assert_eq!(document["cniVersion"], "0.4.0");
        assert_eq!(document["code"], 7);
        assert_eq!(
            document["msg"],
            "bridge br0: cannot use it for VLAN 100: it does not filter VLANs"
        );
        assert_eq!(document["details"], "set vlan_filtering on it");
        assert_eq!(CniError::from_json(&document), Some(error));
        for none in [json!(null), json!({}), json!({"code": "7"}), json!([7])] {
            assert_eq!(CniError::from_json(&none), None, "{none}");
        }
    }

    #[test]
    fn the_kernels_refusal_keeps_its_words_and_decides_the_code() {
        let refused = berth_kernel::Error::errno("set mtu of", "eth0", Errno::EINVAL)
            .because(Some("mtu greater than device maximum".into()));
        let error = CniError::from(refused);
        assert_eq!(error.code, code::KERNEL);
        assert!(error.msg.contains("EINVAL"), "{}", error.msg);
        assert!(error.msg.contains("mtu greater than device maximum"));
        let busy = berth_kernel::Error::errno("dump", "links", Errno::EBUSY);
        assert_eq!(CniError::from(busy).code, code::TRY_AGAIN);
        let denied = berth_kernel::Error::errno("create", "veth", Errno::EPERM);
        assert!(CniError::from(denied).details.contains("CAP_NET_ADMIN"));
    }

    #[test]
    fn remembered_state_decides_the_code_by_kind() {
        use berth_state::Error as State;
        let path = std::path::PathBuf::from("/run/berth/x");
        let busy = State::LockBusy {
            lock: "move".into(),
            holder: None,
            waited: std::time::Duration::from_secs(30),
        };
        assert_eq!(CniError::from(busy).code, code::TRY_AGAIN);
        let malformed = State::Malformed {
            path: path.clone(),
            reason: "no JSON".into(),
        };
        let error = CniError::from(malformed);
        assert_eq!(error.code, code::DECODE);
        assert!(error.msg.contains("/run/berth/x") && error.msg.contains("no JSON"));
        assert_eq!(CniError::from(State::Exists { path }).code, code::TRY_AGAIN);
        let full = berth_kernel::Error::errno("write", "x", Errno::ENOSPC);
        assert_eq!(CniError::from(State::Kernel(full)).code, code::IO);
    }

    #[test]
    fn display_is_one_line_with_the_next_step() {
        let error = CniError::config("vlan", &json!(5000), "not between 1 and 4094", "choose one");
        assert_eq!(
            error.to_string(),
            "invalid configuration: vlan = 5000: not between 1 and 4094; choose one (CNI error 7)"
        );
    }
}
