//! What a case works on: a node, the plugin, and configurations as its template makes them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::Subject;
use super::template::{Feature, Template};
use crate::attached::{Attached, with};
use crate::call::{Call, PLUGINS};
use crate::node::Node;
use crate::plugin::{Attachment, Plugin, Reply};
use crate::pod::Pod;
use crate::snapshot::{Change, Extent, Snapshot};
use crate::space::Space;
use crate::spy;

/// The network of every configuration that says no other.
pub(super) const NETWORK: &str = "net1";
/// The interface every container gets unless a case says otherwise.
pub(super) const IFNAME: &str = "eth0";
/// How long the kernel may take until a namespace it takes apart is gone.
const SETTLE_LIMIT: Duration = Duration::from_secs(3);

/// Everything a case needs.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The node, the case's own.
    pub node: &'a Node,
    /// The plugin.
    pub plugin: &'a Plugin,
    /// What it claims.
    pub template: &'a Template,
    cni_path: PathBuf,
}

impl<'a> Stage<'a> {
    /// A stage for `subject` on `node`.
    pub fn set(node: &'a Node, subject: &'a Subject) -> Result<Self> {
        // Link-local addresses would come in the middle of a comparison.
        crate::node::quiet(node)?;
        let beside = subject.cni_path.display();
        Ok(Self {
            node,
            plugin: &subject.plugin,
            template: &subject.template,
            cni_path: PathBuf::from(format!("{PLUGINS}:{beside}")),
        })
    }

    /// Layer 2 only, in the newest version.
    pub fn conf(&self) -> Value {
        let base = Value::Object(self.template.base.clone());
        let version = self.template.newest();
        with(base, json!({"cniVersion": version, "name": NETWORK}))
    }

    /// The same with these addresses, the first of each subnet being the gateway.
    pub fn addressed(&self, addresses: &[&str]) -> Value {
        let list = addresses.iter().map(|address| {
            let gateway = if address.contains(':') {
                "fd00:9::1"
            } else {
                "10.9.0.1"
            };
            json!({"address": address, "gateway": gateway})
        });
        let ipam = json!({"type": "static", "addresses": list.collect::<Vec<_>>()});
        with(self.conf(), json!({"ipam": ipam}))
    }

    /// With addresses by the spy, which is installed and answers with 10.9.0.7/24.
    pub fn spied(&self) -> Result<Value> {
        spy::install()?;
        let ips = json!([{"address": "10.9.0.7/24", "gateway": "10.9.0.1"}]);
        let answer = json!({"cniVersion": self.template.newest(), "ips": ips});
        spy::answers("ADD", &answer)?;
        Ok(with(self.conf(), json!({"ipam": {"type": spy::NAME}})))
    }

    /// `conf` with a feature that has no value.
    pub fn asking(&self, mut conf: Value, feature: Feature) -> Value {
        self.template.ask(&mut conf, feature, &Value::Null);
        conf
    }

    /// `conf` with a feature of this value.
    pub fn asking_for(&self, mut conf: Value, feature: Feature, value: impl Into<Value>) -> Value {
        self.template.ask(&mut conf, feature, &value.into());
        conf
    }

    /// `conf` in this VLAN, as a network of its own.
    pub fn in_vlan(&self, conf: Value, vlan: u16) -> Value {
        let conf = with(conf, json!({"name": format!("vlan{vlan}")}));
        self.asking_for(conf, Feature::Vlan, vlan)
    }

    /// The bridge of attachments without a VLAN.
    pub fn bridge(&self) -> &str {
        &self.template.names.untagged
    }

    /// The bridge of attachments in this VLAN.
    pub fn bridge_of(&self, vlan: u16) -> String {
        self.template.names.vlan.replace("$vlan", &vlan.to_string())
    }

    /// The link with the gateway's address in this VLAN.
    pub fn gateway_of(&self, vlan: u16) -> String {
        let name = &self.template.names.gateway;
        name.replace("$vlan", &vlan.to_string())
    }

    /// The attachment of `pod` as container `id`.
    pub fn attachment(&self, pod: &Pod, id: &str) -> Attachment {
        Attachment {
            cni_path: Some(self.cni_path.clone()),
            ..Attachment::of(pod, id, IFNAME)
        }
    }

    /// A call of `verb` for `pod` as container `c1`, with all it needs.
    pub fn call(&self, verb: &str, pod: &Pod) -> Call<'_> {
        let at = self.attachment(pod, "c1");
        Call::of(self.plugin, verb, &at).conf(&self.conf())
    }

    /// A call that is about the network only: STATUS or GC.
    pub fn network_call(&self, verb: &str, conf: &Value) -> Result<Reply> {
        let path = self.cni_path.display().to_string();
        let env = [("CNI_COMMAND", verb), ("CNI_PATH", path.as_str())];
        self.plugin.raw(&env, conf.to_string().as_bytes())
    }

    /// GC of `conf` with the containers `ids` as the valid ones.
    pub fn collect(&self, conf: &Value, ids: &[&str]) -> Result<Reply> {
        let list = ids
            .iter()
            .map(|id| json!({"containerID": id, "ifname": IFNAME}));
        let keys = json!({"cni.dev/valid-attachments": list.collect::<Vec<_>>()});
        self.network_call("GC", &with(conf.clone(), keys))
    }

    /// Makes a pod and adds it as container `id`.
    pub fn add(&self, id: &str, conf: Value) -> Result<Attached> {
        let pod = self.node.pod(id)?;
        let at = self.attachment(&pod, id);
        Attached::of(self.plugin.clone(), pod, at, conf)
    }

    /// ADD and DEL work: what a case refused was not refused because nothing works.
    pub fn works(&self) -> Result<()> {
        let pod = self.add("works", self.conf())?;
        ensure!(pod.pod.has_link(IFNAME)?, "expected an interface, got none");
        pod.del()
    }

    /// An ADD that must fail.
    pub fn refused(&self, pod: &Pod, conf: &Value) -> Result<()> {
        let reply = self.call("ADD", pod).conf(conf).reply()?;
        if reply.status.success() {
            bail!("expected an error, got the result {}", reply.stdout.trim());
        }
        reply.failure().map(drop)
    }

    /// Fails if the node is not as it was before `work`, but for what the template says
    /// stays.
    pub fn as_before<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let before = Snapshot::take(Extent::Network)?;
        let result = work()?;
        let end = Instant::now() + SETTLE_LIMIT;
        loop {
            let changes = before.diff(&Snapshot::take(Extent::Network)?);
            let left = unexpected(&changes, self.template);
            if left.is_empty() {
                return Ok(result);
            }
            if Instant::now() >= end {
                bail!("expected the node as before, got {}", left.join(", "));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What shows every rule of the plugin's.
    pub fn rules(&self) -> Result<String> {
        let shown = self.template.rules.iter().map(|line| self.node.run(line));
        shown.collect()
    }
}

/// The changes the template does not let stay. What came with a link is that link's.
fn unexpected(changes: &[Change], template: &Template) -> Vec<String> {
    let is_new = |change: &&Change| change.before.is_none();
    let links = changes.iter().filter(is_new);
    let links: Vec<&str> = links.filter_map(|c| c.what.strip_prefix("link ")).collect();
    let follows = |change: &&Change| {
        let other = is_new(change) && !change.what.starts_with("link ");
        other && links.iter().any(|link| mentions(&change.what, link))
    };
    let own = changes.iter().filter(|change| !follows(change));
    own.filter(|change| !template.may_stay(&change.what))
        .map(left_over)
        .collect()
}

/// Whether `text` names this link, and not only one whose name is longer.
fn mentions(text: &str, link: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || ".-_".contains(c);
    text.match_indices(link).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + link.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

/// A change in few words: the fact, and what became of it.
fn left_over(change: &Change) -> String {
    let what = &change.what;
    let word = match (&change.before, &change.after) {
        (Some(_), None) => "gone",
        (None, _) => "left",
        _ => "changed",
    };
    format!("{what} {word}")
}

/// The host's end of an attachment: the interface beside the bridge that is in no sandbox.
pub(super) fn port(pod: &Attached) -> Result<String> {
    let name = pod.result["interfaces"][1]["name"].as_str();
    Ok(name
        .context("no second interface in the result")?
        .to_owned())
}

/// The addresses of a link but for link-local ones, which the kernel gives.
pub(super) fn addresses(space: &impl Space, link: &str) -> Result<Vec<String>> {
    let all = space.addresses(link)?;
    Ok(all
        .into_iter()
        .filter(|one| !one.starts_with("fe80:"))
        .collect())
}

/// `got` must be `expected`; both are told as JSON.
pub(super) fn same<T: PartialEq + Serialize>(what: &str, expected: T, got: T) -> Result<()> {
    let text = |value: &T| serde_json::to_string(value);
    if expected != got {
        bail!("{what}: expected {}, got {}", text(&expected)?, text(&got)?);
    }
    Ok(())
}

/// The failure of `reply` must have this code.
pub(super) fn code(what: &str, expected: u64, reply: &Reply) -> Result<()> {
    if reply.status.success() {
        bail!("{what}: expected code {expected}, got success");
    }
    let error = reply.failure().with_context(|| what.to_owned())?;
    ensure!(
        error.code == expected,
        "{what}: expected code {expected}, got {} ({})",
        error.code,
        error.msg
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_named_whole() {
        assert!(mentions("queue /sys/class/net/br0/queues/rx-0", "br0"));
        assert!(mentions("route {\"dev\":\"br0\"}", "br0"));
        assert!(!mentions("address br0.100 10.9.0.1/24", "br0"));
        assert!(!mentions("address xbr0 10.9.0.1/24", "br0"));
        assert!(mentions("br0.100 on br0", "br0"));
    }
}
