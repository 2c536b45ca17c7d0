//! What the tests share: configurations, attached pods, what an error must say.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use berth_tests::{
    Attachment, CniError, Context, Look, Plugin, Pod, Reply, Result, Snapshot, Space, Vf, ensure,
};
pub(crate) use berth_tests::{fixed, refused, with};
use serde_json::{Value, json};

use crate::stage::Stage;

/// The interface every pod here gets unless a test says otherwise.
pub(crate) const IFNAME: &str = "net1";

/// Codes of the plugin, as its documentation lists them.
pub(crate) mod code {
    pub(crate) const UNSUPPORTED: u64 = 2;
    pub(crate) const ENVIRONMENT: u64 = 4;
    pub(crate) const CONFIG: u64 = 7;
    pub(crate) const AGAIN: u64 = 11;
    pub(crate) const NOT_READY: u64 = 50;
    pub(crate) const KERNEL: u64 = 100;
    pub(crate) const VF_UNUSABLE: u64 = 101;
    pub(crate) const DRIFT: u64 = 105;
}

/// The built plugin.
pub(crate) fn plugin() -> Result<Plugin> {
    Plugin::find("cni-sriov")
}

/// A configuration of network `name` with these keys beside the mandatory ones.
pub(crate) fn conf(name: &str, keys: Value) -> Value {
    let base = json!({"cniVersion": "1.1.0", "name": name, "type": "cni-sriov"});
    with(base, keys)
}

/// Network `net`: this VF, with these keys.
pub(crate) fn of_vf(vf: &Vf, keys: Value) -> Value {
    with(conf("net", json!({"deviceID": vf.address})), keys)
}

/// The file of an attachment's record.
pub(crate) fn record_file(network: &str, id: &str) -> PathBuf {
    PathBuf::from(format!(
        "/run/berth/attachments/{network}/{id}:{IFNAME}.json"
    ))
}

/// The file of a VF's claim.
pub(crate) fn claim_file(vf: &Vf) -> PathBuf {
    Path::new("/run/berth/vf").join(&vf.address)
}

/// A pod that was added.
pub(crate) struct Attached(pub(crate) berth_tests::Attached);

impl Deref for Attached {
    type Target = berth_tests::Attached;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Attached {
    /// Makes a pod and adds it; its name serves as the container's id.
    pub(crate) fn new(stage: &Stage<'_>, id: &str, conf: Value) -> Result<Self> {
        let pod = stage.node.pod(id)?;
        let at = Attachment::of(&pod, id, IFNAME);
        Self::of(pod, at, conf)
    }

    /// Adds a pod that is there.
    pub(crate) fn of(pod: Pod, at: Attachment, conf: Value) -> Result<Self> {
        berth_tests::Attached::of(plugin()?, pod, at, conf).map(Self)
    }

    /// The PCI address of the VF that the pod has.
    pub(crate) fn address(&self) -> Result<String> {
        let link = self.pod.link(&self.at.ifname)?;
        let address = link["parentdev"].as_str();
        Ok(address.context("the link has no parent device")?.to_owned())
    }

    /// Which of the stage's VFs it has.
    pub(crate) fn vf<'s>(&self, stage: &'s Stage<'_>) -> Result<&'s Vf> {
        let address = self.address()?;
        let own = stage.vfs.iter().find(|vf| vf.address == address);
        own.with_context(|| format!("{address} is none of the stage's"))
    }

    /// Everything about that VF.
    pub(crate) fn facts(&self, stage: &Stage<'_>) -> Result<Snapshot> {
        let vf = self.vf(stage)?;
        stage.node.vf_facts_in(&self.pod, vf, Look::Whole)
    }

    /// The link's address, live.
    pub(crate) fn mac(&self) -> Result<String> {
        let link = self.pod.link(&self.at.ifname)?;
        Ok(link["address"].as_str().unwrap_or_default().to_owned())
    }
}

/// ADD of a fresh pod that must be refused with this code and all of this said, and
/// that leaves nothing; the whole is checked by the stage after the case.
pub(crate) fn add_refused(
    stage: &Stage<'_>,
    conf: &Value,
    code: u64,
    says: &[&str],
) -> Result<CniError> {
    let pod = stage.node.pod("refused")?;
    let at = Attachment::of(&pod, "refused", IFNAME);
    let reply = plugin()?.call("ADD", &at, conf)?;
    let error = refused(&reply, code, says).with_context(|| format!("ADD with {conf}"))?;
    ensure!(pod.link_names()? == ["lo"], "the refused pod has a link");
    ensure!(
        !record_file("net", "refused").exists(),
        "a refused ADD left its record"
    );
    Ok(error)
}

/// STATUS or GC: no container, no namespace.
pub(crate) fn of_network(verb: &str, conf: &Value) -> Result<Reply> {
    let env = [("CNI_COMMAND", verb), ("CNI_PATH", "/run/plugins")];
    plugin()?.raw(&env, conf.to_string().as_bytes())
}

/// A cgroup with these CPUs that goes with this value.
pub(crate) struct Cgroup(&'static str);

impl Cgroup {
    pub(crate) fn with_cpus(name: &'static str, cpus: &str) -> Result<Self> {
        let path = Path::new("/sys/fs/cgroup").join(name);
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        let cgroup = Self(name);
        fs::write(path.join("cpuset.cpus"), cpus)?;
        Ok(cgroup)
    }

    /// As the capability `cgroupPath` gives it.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(Path::new("/sys/fs/cgroup").join(self.0)).ok();
    }
}

/// Every CPU of a list like `0-3,8`.
pub(crate) fn cpu_list(text: &str) -> Result<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(low.trim().parse::<u32>()?..=high.trim().parse()?);
    }
    Ok(cpus)
}
