//! Whether the kernel has what a configuration needs, as far as its files tell: STATUS
//! changes nothing, so it cannot try.

use berth_cni::error::{CniError, code};
use berth_kernel::kconfig::{Kconfig, Setting};
use berth_kernel::module::{Modules, State};
use berth_kernel::{Release, Root};

/// A part of the kernel: its option, and its module if it can be one.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    module: Option<&'static str>,
    option: &'static str,
}

impl Part {
    /// One that may be a module.
    pub const fn module(name: &'static str, option: &'static str) -> Self {
        let module = Some(name);
        Self { module, option }
    }

    /// One that is never a module by itself.
    pub const fn option(option: &'static str) -> Self {
        let module = None;
        Self { module, option }
    }

    fn state(&self, modules: &Modules) -> State {
        self.module
            .map_or(State::Unknown, |name| modules.state(name))
    }

    fn name(&self) -> String {
        match self.module {
            Some(module) => format!("{module} (CONFIG_{})", self.option),
            None => format!("CONFIG_{}", self.option),
        }
    }
}

/// Something the kernel is to do.
#[derive(Debug, Clone, Copy)]
pub struct Feature {
    /// What, as a verb phrase.
    pub what: &'static str,
    /// What it is made of.
    pub parts: &'static [Part],
    /// What can be done about its lack in the configuration.
    pub instead: &'static str,
}

/// VLANs kept apart on a bridge.
pub const FILTERING: Feature = Feature {
    what: "keep VLANs apart on a bridge",
    parts: &[Part::option("BRIDGE_VLAN_FILTERING")],
    instead: "leave out \"vlan\" and \"vlanTrunk\"",
};

/// Devices of one VLAN on another link.
pub const DOT1Q: Feature = Feature {
    what: "make 802.1Q devices",
    parts: &[Part::module("8021q", "VLAN_8021Q")],
    instead: "do without \"layout\": \"per-vlan\" and without a gateway in a VLAN",
};

impl Feature {
    /// Succeeds unless it is known that a part is missing.
    ///
    /// # Errors
    /// Code 100 naming what is missing; else what cannot be read.
    pub fn possible(&self, root: &Root) -> Result<(), CniError> {
        let release = Release::running(root)?;
        let modules = Modules::running(root, &release)?;
        let unsure = |part: &&Part| matches!(part.state(&modules), State::Absent | State::Unknown);
        let unsure: Vec<&Part> = self.parts.iter().filter(unsure).collect();
        if unsure.is_empty() {
            return Ok(());
        }
        let options = Kconfig::running(root, &release)?;
        let missing: Vec<String> = unsure
            .into_iter()
            .filter(|part| is_missing(part.state(&modules), &options.get(part.option)))
            .map(Part::name)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (what, missing) = (self.what, missing.join(", "));
        let msg = format!("kernel {release} cannot {what}: it has no {missing}");
        Err(CniError::new(code::KERNEL, msg).details(format!(
            "install this kernel's modules or boot a kernel that has them, or {}",
            self.instead
        )))
    }
}

/// A module that is not installed is missing, unless it is no module at all; of one that
/// nobody knows of, its option tells.
fn is_missing(state: State, option: &Setting) -> bool {
    match (state, option) {
        (_, Setting::BuiltIn) => false,
        (State::Absent, _) | (_, Setting::Off) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandwidth::LIMITS;

    #[test]
    fn what_nobody_knows_of_is_not_called_missing() {
        for (state, option, missing) in [
            (State::Absent, Setting::Module, true),
            (State::Absent, Setting::Unknown, true),
            (State::Absent, Setting::BuiltIn, false),
            (State::Unknown, Setting::Off, true),
            (State::Unknown, Setting::Unknown, false),
            (State::Unknown, Setting::Module, false),
        ] {
            assert_eq!(is_missing(state, &option), missing, "{state:?} {option:?}");
        }
    }

    #[test]
    fn each_missing_part_is_named_with_its_option() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let put = |path: std::path::PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put(root.proc.join("sys/kernel/osrelease"), "6.1.0-lab\n");
        let lib = root.modules.join("6.1.0-lab");
        put(
            lib.join("modules.builtin"),
            "kernel/net/sched/sch_tbf.ko\nkernel/net/sched/cls_u32.ko\n",
        );
        let dep = "kernel/net/sched/sch_ingress.ko.xz:\nkernel/drivers/net/ifb.ko.xz:\n";
        put(lib.join("modules.dep"), dep);
        let error = LIMITS.possible(&root).unwrap_err();
        assert!(
            error.msg.contains("no act_mirred (CONFIG_NET_ACT_MIRRED)"),
            "{error}"
        );
        assert!(
            !error.msg.contains("tbf") && !error.msg.contains("ifb"),
            "{error}"
        );
        let all = format!("{dep}kernel/net/sched/act_mirred.ko.xz:\n");
        put(lib.join("modules.dep"), &all);
        LIMITS.possible(&root).unwrap();
        FILTERING.possible(&root).unwrap();
        let error = DOT1Q.possible(&root).unwrap_err();
        assert!(
            error.msg.contains("no 8021q (CONFIG_VLAN_8021Q)"),
            "{error}"
        );
        put(
            lib.join("config"),
            "# CONFIG_BRIDGE_VLAN_FILTERING is not set\n",
        );
        let error = FILTERING.possible(&root).unwrap_err();
        assert!(
            error.msg.ends_with("no CONFIG_BRIDGE_VLAN_FILTERING"),
            "{error}"
        );
        assert!(error.details.contains("leave out \"vlan\""), "{error}");
    }
}
