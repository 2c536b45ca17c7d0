//! Where a wish given on the command line goes: to a capability that a plugin of the
//! network declares, else to the plugins' extra arguments.

use anyhow::{Result, bail};
use berth_kernel::MacAddr;
use ipnetwork::IpNetwork;
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
                spoken
                    .capabilities
                    .insert("ips".to_owned(), Value::from(ips));
            } else {
                extra.push(format!("IP={}", ips.join(",")));
            }
        }
        if let Some(mac) = self.mac {
            if declares("mac") {
                spoken
                    .capabilities
                    .insert("mac".to_owned(), Value::from(mac.to_string()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn speak(wishes: &Wishes<'_>, declared: &[&str]) -> Result<Spoken> {
        wishes.speak("game", &|name| declared.contains(&name))
    }

    #[test]
    fn addresses_go_to_the_capability_or_to_the_arguments() {
        let ips = [
            "10.1.0.5/24".parse().unwrap(),
            "fd00::5/64".parse().unwrap(),
        ];
        let wishes = Wishes {
            ips: &ips,
            mac: Some("02:00:00:00:00:05".parse().unwrap()),
            args: Some("K=V"),
            ..Wishes::default()
        };
        let spoken = speak(&wishes, &["ips", "mac"]).unwrap();
        assert_eq!(spoken.args, "K=V");
        let expected = json!({"ips": ["10.1.0.5/24", "fd00::5/64"], "mac": "02:00:00:00:00:05"});
        assert_eq!(Value::from(spoken.capabilities), expected);

        let spoken = speak(&wishes, &["mac"]).unwrap();
        assert_eq!(spoken.args, "IgnoreUnknown=1;IP=10.1.0.5/24,fd00::5/64;K=V");
        let spoken = speak(&wishes, &[]).unwrap();
        assert_eq!(
            spoken.args,
            "IgnoreUnknown=1;IP=10.1.0.5/24,fd00::5/64;MAC=02:00:00:00:00:05;K=V"
        );
        assert_eq!(spoken.capabilities, Map::new());
    }

    #[test]
    fn nothing_wished_is_nothing_said() {
        assert_eq!(
            speak(&Wishes::default(), &["ips", "mac"]).unwrap(),
            Spoken::default()
        );
    }

    #[test]
    fn a_capability_nobody_declares_is_an_error_and_the_cgroup_only_where_asked_for() {
        let typed = [("bandwidth".to_owned(), json!({"ingressRate": 1}))];
        let wishes = Wishes {
            capabilities: &typed,
            cgroup: Some("/game"),
            ..Wishes::default()
        };
        let error = speak(&wishes, &["ips"]).unwrap_err().to_string();
        assert!(
            error.contains(r#""capabilities": {"bandwidth": true}"#),
            "{error}"
        );
        let spoken = speak(&wishes, &["bandwidth"]).unwrap();
        assert_eq!(
            spoken.capabilities.keys().collect::<Vec<_>>(),
            ["bandwidth"]
        );
        let spoken = speak(&wishes, &["bandwidth", "cgroupPath"]).unwrap();
        assert_eq!(spoken.capabilities["cgroupPath"], "/game");

        let typed = [("cgroupPath".to_owned(), json!("/mine"))];
        let wishes = Wishes {
            capabilities: &typed,
            ..wishes
        };
        let spoken = speak(&wishes, &["cgroupPath"]).unwrap();
        assert_eq!(spoken.capabilities["cgroupPath"], "/mine");
    }
}
