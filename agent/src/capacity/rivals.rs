//! Other programs on the node that pin CPUs. Two of a kind undo each other's work, so
//! exclusive CPUs are refused while there is one.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_kernel::{Root, process};
use serde::Deserialize;

/// Processes that pin CPUs, by name, and how to end that.
const PINNERS: [(&str, &str); 2] = [
    (
        "nri-resource-policy",
        "remove the NRI resource policy plugin from this node, or ask for shared CPUs only",
    ),
    (
        "dracpu",
        "remove the DRA driver for CPUs from this node, or ask for shared CPUs only",
    ),
];
const KUBELET: &str = "kubelet";

/// Another program that pins CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rival {
    /// Its name, or the cgroup it pinned.
    pub(crate) name: String,
    /// What shows that it pins.
    pub(crate) evidence: String,
    /// What to do.
    pub(crate) remedy: String,
}

/// The other pinners there are; `ours` are the cgroups (`/a/b`) whose cpusets this agent
/// has written. What a workload does inside its own cgroup is its own affair.
pub(crate) fn find(root: &Root, ours: &BTreeSet<PathBuf>) -> Vec<Rival> {
    let mut rivals = Vec::new();
    let names: Vec<&str> = [KUBELET]
        .into_iter()
        .chain(PINNERS.map(|(name, _remedy)| name))
        .collect();
    // Without procfs nothing works and doctor says so.
    let running = process::named_any(root, &names).unwrap_or_default();
    if let Some((pid, _name)) = running.iter().find(|(_pid, name)| *name == KUBELET) {
        rivals.extend(kubelet(root, *pid));
    }
    for (name, remedy) in PINNERS {
        if let Some((pid, _name)) = running.iter().find(|(_pid, found)| *found == name) {
            rivals.push(Rival {
                name: name.to_owned(),
                evidence: format!("it runs as process {pid}"),
                remedy: remedy.to_owned(),
            });
        }
    }
    walk(root, Path::new("/"), ours, &mut rivals);
    rivals
}

/// `cpu_manager_state` of the kubelet.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CpuManager {
    policy_name: String,
}

/// A running kubelet pins with the static policy, and perhaps if that is not known.
fn kubelet(root: &Root, pid: u32) -> Option<Rival> {
    let path = root.var.join("lib/kubelet/cpu_manager_state");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(kubelet_rival(pid, &format!("{}: {error}", path.display()))),
    };
    match serde_json::from_slice::<CpuManager>(&text) {
        Ok(state) if state.policy_name != "static" => None,
        Ok(_static) => Some(kubelet_rival(
            pid,
            &format!("its CPU manager policy is static ({})", path.display()),
        )),
        Err(error) => Some(kubelet_rival(
            pid,
            &format!(
                "its CPU manager policy is unknown ({}: {error})",
                path.display()
            ),
        )),
    }
}

fn kubelet_rival(pid: u32, why: &str) -> Rival {
    Rival {
        name: KUBELET.to_owned(),
        evidence: format!("it runs as process {pid}; {why}"),
        remedy: "drain the node, set cpuManagerPolicy: none in the kubelet's configuration, \
                 remove cpu_manager_state and restart it; or ask for shared CPUs only"
            .to_owned(),
    }
}

/// Looks at `cgroup` and below; a cgroup without the controller has none below either.
fn walk(root: &Root, cgroup: &Path, ours: &BTreeSet<PathBuf>, rivals: &mut Vec<Rival>) {
    let dir = root.cgroup.join(cgroup.strip_prefix("/").unwrap_or(cgroup));
    let Ok(entries) = fs::read_dir(&dir) else {
        return;
    };
    let mut below: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| cgroup.join(entry.file_name()))
        .collect();
    below.sort_unstable();
    for cgroup in below {
        let dir = root
            .cgroup
            .join(cgroup.strip_prefix("/").unwrap_or(&cgroup));
        let value = |file: &str| fs::read_to_string(dir.join(file)).ok();
        let Some(partition) = value("cpuset.cpus.partition") else {
            continue;
        };
        if ours.contains(&cgroup) {
            // On the way to a workload of ours others may have theirs.
            if ours
                .iter()
                .any(|own| own != &cgroup && own.starts_with(&cgroup))
            {
                walk(root, &cgroup, ours, rivals);
            }
            continue;
        }
        let exclusive = value("cpuset.cpus.exclusive").unwrap_or_default();
        match evidence(partition.trim(), exclusive.trim()) {
            Some(evidence) => rivals.push(foreign(&cgroup, evidence)),
            None => walk(root, &cgroup, ours, rivals),
        }
    }
}

fn evidence(partition: &str, exclusive: &str) -> Option<String> {
    if !exclusive.is_empty() {
        Some(format!("its cpuset.cpus.exclusive is {exclusive}"))
    } else if !partition.is_empty() && partition != "member" {
        Some(format!("its cpuset.cpus.partition is {partition}"))
    } else {
        None
    }
}

fn foreign(cgroup: &Path, evidence: String) -> Rival {
    let path = cgroup.display();
    Rival {
        name: format!("cgroup {path}"),
        evidence,
        remedy: format!(
            "find out who made it (systemd-cgls {path}), end that, then write member to \
             /sys/fs/cgroup{path}/cpuset.cpus.partition and an empty line to \
             cpuset.cpus.exclusive"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn fake() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        fs::create_dir_all(&root.proc).unwrap();
        (dir, root)
    }

    fn names(root: &Root, ours: &[&str]) -> Vec<String> {
        let ours = ours.iter().map(PathBuf::from).collect();
        find(root, &ours).into_iter().map(|r| r.name).collect()
    }

    #[test]
    fn a_kubelet_is_one_if_it_runs_and_pins() {
        let (_dir, root) = fake();
        let state = root.var.join("lib/kubelet/cpu_manager_state");
        let is = |policy: &str| format!("{{\"policyName\":\"{policy}\",\"checksum\":1}}");
        put(&state, &is("static"));
        assert!(names(&root, &[]).is_empty(), "it does not run");
        put(&root.proc.join("7/comm"), "kubelet\n");
        let found = find(&root, &BTreeSet::new());
        assert_eq!(found[0].name, "kubelet");
        assert!(found[0].evidence.contains("process 7"), "{found:?}");
        put(&state, &is("none"));
        assert!(names(&root, &[]).is_empty());
        put(&state, "garbled");
        assert_eq!(names(&root, &[]), ["kubelet"], "unknown counts");
        fs::remove_file(&state).unwrap();
        assert!(names(&root, &[]).is_empty(), "it never pinned");
    }

    #[test]
    fn plugins_are_found_by_the_name_the_kernel_keeps() {
        let (_dir, root) = fake();
        put(&root.proc.join("8/comm"), "nri-resource-po\n");
        put(&root.proc.join("9/comm"), "dracpu\n");
        assert_eq!(names(&root, &[]), ["nri-resource-policy", "dracpu"]);
    }

    #[test]
    fn a_foreign_cpuset_is_named_and_ours_is_not() {
        let (_dir, root) = fake();
        let cpuset = |cgroup: &str, partition: &str, exclusive: &str| {
            let dir = root.cgroup.join(cgroup);
            put(&dir.join("cpuset.cpus.partition"), partition);
            put(&dir.join("cpuset.cpus.exclusive"), exclusive);
        };
        cpuset("games", "member\n", "2-5\n");
        cpuset("games/one", "root\n", "2-3\n");
        cpuset("games/one/inner", "isolated\n", "3\n");
        cpuset("games/other", "member\n", "\n");
        cpuset("games/other/deep", "root invalid (x)\n", "\n");
        cpuset("idle", "member\n", "\n");
        put(&root.cgroup.join("plain/cgroup.procs"), "");
        assert_eq!(
            names(&root, &["/games", "/games/one"]),
            ["cgroup /games/other/deep"],
        );
        assert_eq!(names(&root, &[]), ["cgroup /games"]);
        let found = find(&root, &BTreeSet::new());
        assert_eq!(found[0].evidence, "its cpuset.cpus.exclusive is 2-5");
        assert!(found[0].remedy.contains("/sys/fs/cgroup/games/"));
    }
}
