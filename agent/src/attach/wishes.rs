//! Where a wish given on the command line goes: to a capability that a plugin of the
//! network declares, else to the plugins' extra arguments.

use anyhow::{Result, bail};
use ipnetwork::IpNetwork;
use berth_kernel::MacAddr;
use serde_json::{Map, Value};

/// What is wished for an attachment beside its configuration.
#[derive(Debug, Default)]
pub(crate) struct Wishes<'a> {
    /// Addresses.
    pub(crate) ips: &'a [IpNetwork],
    /// Hardware address.
    pub(crate) mac: Option<MacAddr>,
    /// `CNI_ARGS` as typed.
    pub(crate) args: Option<&'a str>,
    /// Capabilities' values as typed.
    pub(crate) capabilities: &'a [(String, Value)],
    /// The container's cgroup, supplied where a plugin asks for it.
    pub(crate) cgroup: Option<&'a str>,
}

/// The wishes in the words of the protocol.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Spoken {
    /// `CNI_ARGS`.
    pub(crate) args: String,
    /// Values by capability.
    pub(crate) capabilities: Map<String, Value>,
}

impl Wishes<'_> {
    /// Sorts the wishes by what the plugins of `network` declare.
    ///
    /// # Errors
    /// A capability is wished that no plugin declares: a runtime would drop it without
    /// a word, and here somebody typed it.
    pub(crate) fn speak(&self, network: &str, declares: &dyn Fn(&str) -> bool) -> Result<Spoken> {
        let mut spoken = Spoken::default();
        let mut extra = Vec::new();
        for (name, value) in self.capabilities {
            if !declares(name) {
                bail!(
                    "--capability {name}: no plugin of network {network} declares it; add \
                     \"capabilities\": {{\"{name}\": true}} to the plugin that has it"
                );
            }
            spoken.capabilities.insert(name.clone(), value.clone());
        }
        if !self.ips.is_empty() {
            let ips: Vec<String> = self.ips.iter().map(ToString::to_string).collect();
            if declares("ips") {
                spoken.capabilities.insert("ips".to_owned(), Value::from(ips));
            } else {
                extra.push(format!("IP={}", ips.join(",")));
            }
        }
        if let Some(mac) = self.mac {
            if declares("mac") {
                spoken.capabilities.insert("mac".to_owned(), Value::from(mac.to_string()));
            } else {
                extra.push(format!("MAC={mac}"));
            }
        }
        if let Some(cgroup) = self.cgroup.filter(|_| declares("cgroupPath")) {
            let value = spoken.capabilities.entry("cgroupPath");
            value.or_insert_with(|| Value::from(cgroup));
        }
        spoken.args = self.arguments(extra);
        Ok(spoken)
    }

    /// What was typed comes last and so wins. `IgnoreUnknown`: not every plugin of a
    /// chain knows IP and MAC.
    fn arguments(&self, mut extra: Vec<String>) -> String {
        if !extra.is_empty() {
            extra.insert(0, "IgnoreUnknown=1".to_owned());
        }
        extra.extend(self.args.filter(|args| !args.is_empty()).map(str::to_owned));
        extra.join(";")
    }
}
