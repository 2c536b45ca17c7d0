//! Reads the node. Nothing is decided here, and nothing that cannot be read stops
//! the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use berth_kernel::kconfig::Kconfig;
use berth_kernel::module::Modules;
use berth_kernel::release::Release;
use berth_kernel::{Error, Kind, Root, cgroup, mounts, pci, process, sysctl};

use super::facts::{Cgroup, Facts, Proof, Seen};
use super::options;

/// Everything the checks decide on.
pub(super) fn facts(root: &Root) -> Facts {
    let release = said(Release::running(root));
    let of_release = |release: &Seen<Release>| release.clone();
    Facts {
        options: of_release(&release).and_then(|release| settings(root, &release)),
        modules: of_release(&release).and_then(|release| modules(root, &release)),
        release,
        proofs: proofs(root),
        cgroup: control_groups(root),
        functions: said(pci::physical_functions(root)),
        mounts: said(mounts::on_disk(root)),
        irqbalance: said(process::named(root, "irqbalance")).map(|pids| !pids.is_empty()),
        bridge_netfilter: bridge_netfilter(root),
        bridges: bridges(root),
        capabilities: capabilities(),
    }
}

/// An error as its words.
fn said<T>(result: berth_kernel::Result<T>) -> Seen<T> {
    result.map_err(|error| error.to_string())
}

fn settings(
    root: &Root,
    release: &Release,
) -> Seen<BTreeMap<&'static str, berth_kernel::kconfig::Setting>> {
    let config = said(Kconfig::running(root, release))?;
    if config.source().is_none() {
        return Err(format!(
            "the kernel's configuration is neither in /proc/config.gz nor /boot/config-{release}"
        ));
    }
    Ok(options::names()
        .map(|name| (name, config.get(name)))
        .collect())
}

fn modules(
    root: &Root,
    release: &Release,
) -> Seen<BTreeMap<&'static str, berth_kernel::module::State>> {
    let modules = said(Modules::running(root, release))?;
    Ok(options::modules()
        .map(|name| (name, modules.state(name)))
        .collect())
}

fn proofs(root: &Root) -> BTreeSet<Proof> {
    let groups = first_groups(root);
    let in_a_group = |file: &str| groups.iter().any(|group| group.join(file).exists());
    [
        (Proof::ExclusiveCpus, in_a_group("cpuset.cpus.exclusive")),
        (Proof::MemoryReclaim, in_a_group("memory.reclaim")),
    ]
    .into_iter()
    .filter_map(|(proof, there)| there.then_some(proof))
    .collect()
}

/// The cgroups directly below the root: the root itself lacks most files.
fn first_groups(root: &Root) -> Vec<PathBuf> {
    let entries = fs::read_dir(&root.cgroup).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn control_groups(root: &Root) -> Cgroup {
    let list = |text: String| text.split_whitespace().map(str::to_owned).collect();
    let delegated = root.cgroup.join("cgroup.subtree_control");
    Cgroup {
        version: cgroup::version(root),
        controllers: said(cgroup::controllers(root, Path::new("/")))
            .map(|names| names.into_iter().collect()),
        delegated: fs::read_to_string(&delegated)
            .map(list)
            .map_err(|error| Error::io("read", delegated.display(), &error).to_string()),
        pressure: root.proc.join("pressure").exists(),
    }
}

fn bridge_netfilter(root: &Root) -> Seen<Option<Vec<&'static str>>> {
    let mut on = Vec::new();
    for family in ["iptables", "ip6tables", "arptables"] {
        match sysctl::get(root, &format!("net/bridge/bridge-nf-call-{family}")) {
            Ok(value) if value == "0" => {}
            Ok(_) => on.push(family),
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(Some(on))
}

fn bridges(root: &Root) -> Seen<Vec<String>> {
    let dir = root.sys.join("class/net");
    let entries =
        fs::read_dir(&dir).map_err(|error| Error::io("list", dir.display(), &error).to_string())?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("bridge").is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

fn capabilities() -> Seen<BTreeSet<String>> {
    let held = caps::read(None, caps::CapSet::Effective).map_err(|error| error.to_string())?;
    Ok(held.iter().map(ToString::to_string).collect())
}
