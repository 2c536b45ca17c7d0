//! Kernel modules: which are in the kernel, loaded, or there to be loaded.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{AbsentIsFine, Result};
use crate::release::Release;
use crate::{Root, file};

/// Where a module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Part of the kernel.
    BuiltIn,
    /// Loaded.
    Loaded,
    /// Not loaded; installed for this kernel, so the kernel or `modprobe` can load it.
    Loadable,
    /// Neither in the kernel nor installed for it.
    Absent,
    /// The kernel's list of modules is not on this machine, as in a container.
    Unknown,
}

/// What is known about the running kernel's modules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modules {
    loaded: BTreeSet<String>,
    built_in: BTreeSet<String>,
    installed: BTreeSet<String>,
    complete: bool,
}

impl Modules {
    /// Reads `proc/modules`, `sys/module`, and `modules.builtin` and `modules.dep` of
    /// `lib/modules/RELEASE`, as far as they exist.
    ///
    /// # Errors
    /// When a file that exists cannot be read.
    pub fn running(root: &Root, release: &Release) -> Result<Self> {
        let lines = |path: &Path| file::read(path).absent_is_fine();
        let dir = root.modules.join(release.as_str());
        let in_kernel = lines(&dir.join("modules.builtin"))?;
        let to_load = lines(&dir.join("modules.dep"))?;
        let loaded = lines(&root.proc.join("modules"))?.unwrap_or_default();
        let mut this = Self {
            loaded: loaded.lines().filter_map(first_word).map(normal).collect(),
            complete: in_kernel.is_some() && to_load.is_some(),
            built_in: paths(in_kernel.as_deref()),
            installed: paths(to_load.as_deref()),
        };
        this.ask_sysfs(root)?;
        Ok(this)
    }

    /// Where module `name` is; `-` and `_` are the same in it.
    pub fn state(&self, name: &str) -> State {
        let name = normal(name);
        if self.loaded.contains(&name) {
            State::Loaded
        } else if self.built_in.contains(&name) {
            State::BuiltIn
        } else if self.installed.contains(&name) {
            State::Loadable
        } else if self.complete {
            State::Absent
        } else {
            State::Unknown
        }
    }

    /// `sys/module` has a directory for each loaded module, and for a built-in one if
    /// it has parameters or a version; only a loaded one has `initstate`.
    fn ask_sysfs(&mut self, root: &Root) -> Result<()> {
        let dir = root.sys.join("module");
        for name in file::names(&dir).absent_is_fine()?.unwrap_or_default() {
            let loaded = dir.join(&name).join("initstate").exists();
            let set = if loaded {
                &mut self.loaded
            } else {
                &mut self.built_in
            };
            set.insert(normal(&name));
        }
        Ok(())
    }
}

fn first_word(line: &str) -> Option<&str> {
    line.split([' ', ':']).next()
}

/// The modules of a list of paths: `kernel/net/8021q/8021q.ko.xz: kernel/net/…`.
fn paths(text: Option<&str>) -> BTreeSet<String> {
    let name = |line| {
        let path: &str = first_word(line)?;
        let file = path.rsplit('/').next()?;
        file.split_once(".ko").map(|(name, _)| normal(name))
    };
    text.unwrap_or_default().lines().filter_map(name).collect()
}

/// File names may have `-` where the kernel has `_`.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn every_state_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let release = "6.1.0-lab".parse().unwrap();
        let lib = root.modules.join("6.1.0-lab");
        put(
            &root.proc.join("modules"),
            "veth 40960 0 - Live 0x0\nvfio_pci 1 0 - Live 0x0\n",
        );
        put(
            &lib.join("modules.builtin"),
            "kernel/net/core/pktgen.ko\nkernel/net/bridge/bridge.ko\n",
        );
        put(
            &lib.join("modules.dep"),
            "kernel/net/8021q/8021q.ko.xz: kernel/net/802/mrp.ko.xz\n\
             kernel/drivers/net/veth.ko.xz:\nkernel/drivers/vfio/pci/vfio-pci.ko.zst:\n",
        );
        put(&root.sys.join("module/igb/initstate"), "live\n");
        put(&root.sys.join("module/tcp_cubic/parameters/beta"), "717\n");
        let modules = Modules::running(&root, &release).unwrap();
        for (name, state) in [
            ("veth", State::Loaded),
            ("vfio-pci", State::Loaded),
            ("vfio_pci", State::Loaded),
            ("igb", State::Loaded),
            ("bridge", State::BuiltIn),
            ("tcp_cubic", State::BuiltIn),
            ("8021q", State::Loadable),
            // Named as somebody's dependency only.
            ("mrp", State::Absent),
            ("nothing", State::Absent),
        ] {
            assert_eq!(modules.state(name), state, "{name}");
        }
    }

    #[test]
    fn without_the_lists_absence_is_not_claimed() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        put(&root.proc.join("modules"), "veth 40960 0 - Live 0x0\n");
        let modules = Modules::running(&root, &"6.1.0-lab".parse().unwrap()).unwrap();
        assert_eq!(modules.state("veth"), State::Loaded);
        assert_eq!(modules.state("8021q"), State::Unknown);
    }
}
