//! Whether the kernel can limit, as far as its files tell: STATUS changes nothing, so it
//! cannot try.

use berth_cni::error::{CniError, code};
use berth_kernel::kconfig::{Kconfig, Setting};
use berth_kernel::module::{Modules, State};
use berth_kernel::{Release, Root};

/// The parts of the kernel that limits are made of: modules and their options.
const PARTS: [(&str, &str); 5] = [
    ("sch_tbf", "NET_SCH_TBF"),
    ("sch_ingress", "NET_SCH_INGRESS"),
    ("cls_u32", "NET_CLS_U32"),
    ("act_mirred", "NET_ACT_MIRRED"),
    ("ifb", "IFB"),
];

/// Succeeds unless it is known that a part is missing.
///
/// # Errors
/// Code 100 naming what is missing; else what cannot be read.
pub fn possible(root: &Root) -> Result<(), CniError> {
    let release = Release::running(root)?;
    let modules = Modules::running(root, &release)?;
    let unsure: Vec<_> = PARTS
        .iter()
        .filter(|(module, _)| matches!(modules.state(module), State::Absent | State::Unknown))
        .collect();
    if unsure.is_empty() {
        return Ok(());
    }
    let options = Kconfig::running(root, &release)?;
    let missing: Vec<String> = unsure
        .into_iter()
        .filter(|(module, option)| is_missing(modules.state(module), &options.get(option)))
        .map(|(module, option)| format!("{module} (CONFIG_{option})"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    let msg = format!("kernel {release} cannot limit bandwidth: it has no {missing}");
    Err(CniError::new(code::KERNEL, msg).details(
        "install this kernel's modules or boot a kernel that has them, or take \"bandwidth\" out \
         of the configuration",
    ))
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
        let error = possible(&root).unwrap_err();
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
        possible(&root).unwrap();
    }
}
