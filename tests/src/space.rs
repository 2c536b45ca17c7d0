//! A network namespace to work in, the node's or a pod's: commands, `ip -j`, pings.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::capture::Capture;
use crate::command;
use crate::pod::read_trimmed;

/// A place with links of its own. [`crate::Node`] and [`crate::Pod`] are the two.
pub trait Space {
    /// A command that will run in this namespace.
    fn command(&self, program: &str) -> Command;

    /// Runs `work` on a thread that is in this namespace and then ends, so there is
    /// nothing to restore. `/sys` inside is still the node's; see [`Space::read_sys`].
    fn enter<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R>;

    /// The same with a `/sys` that is this namespace's.
    fn in_sys<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R>;

    /// The trimmed text of a file below `/sys` as this namespace sees it, for example
    /// `class/net/eth0/queues/rx-0/rps_cpus`.
    fn read_sys(&self, path: &str) -> Result<String> {
        self.in_sys(|| read_trimmed(&Path::new("/sys").join(path)))
    }

    /// Writes such a file.
    fn write_sys(&self, path: &str, text: &str) -> Result<()> {
        self.in_sys(|| {
            let path = Path::new("/sys").join(path);
            fs::write(&path, text).with_context(|| format!("write {text:?} to {}", path.display()))
        })
    }

    /// Runs a command line, split at white space, and gives its output.
    fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().ok_or_else(|| anyhow!("empty command line"))?;
        command::run(self.command(program).args(words))
    }

    /// `ip ARGS`: `node.ip("link set eth0 up")`.
    fn ip(&self, args: &str) -> Result<String> {
        self.run(&format!("ip {args}"))
    }

    /// `ip -j -d ARGS`, parsed.
    fn ip_json(&self, args: &str) -> Result<Value> {
        let line = format!("ip -j -d {args}");
        parse(&line, &self.run(&line)?)
    }

    /// `bridge -j ARGS`, parsed: `vlan show`, `fdb show`, `-d link show`.
    fn bridge_json(&self, args: &str) -> Result<Value> {
        let line = format!("bridge -j {args}");
        parse(&line, &self.run(&line)?)
    }

    /// One link, as `ip -j -d link show` describes it. Fails when there is none.
    fn link(&self, name: &str) -> Result<Value> {
        let all = self.ip_json(&format!("link show dev {name}"))?;
        first(all).ok_or_else(|| anyhow!("link {name}: ip named no such link"))
    }

    /// Whether a link of this name exists.
    fn has_link(&self, name: &str) -> Result<bool> {
        Ok(self.link_names()?.iter().any(|n| n == name))
    }

    /// The names of all links, in the kernel's order.
    fn link_names(&self) -> Result<Vec<String>> {
        names(&self.ip_json("link show")?, "ifname")
    }

    /// The addresses of one link as `10.0.0.1/24`, link-local ones too.
    fn addresses(&self, link: &str) -> Result<Vec<String>> {
        let all = self.ip_json(&format!("addr show dev {link}"))?;
        let infos = first(all).map(|l| l["addr_info"].clone());
        let list = infos.as_ref().and_then(Value::as_array);
        Ok(list
            .into_iter()
            .flatten()
            .filter_map(|info| Some(format!("{}/{}", info["local"].as_str()?, info["prefixlen"])))
            .collect())
    }

    /// The VLANs of a bridge port as (id, flags), ranges spread out; flags as the
    /// `bridge` tool names them: `PVID`, `Egress Untagged`.
    fn port_vlans(&self, port: &str) -> Result<Vec<(u16, Vec<String>)>> {
        let all = self.bridge_json(&format!("vlan show dev {port}"))?;
        Ok(first(all)
            .map(|entry| vlans(&entry["vlans"]))
            .unwrap_or_default())
    }

    /// Sends `count` echo requests 0.2 s apart and counts the answers; ends within
    /// `count` x 0.2 + 2 s. No answer is a result, not an error.
    fn ping(&self, to: IpAddr, count: u32) -> Result<Pinged> {
        let deadline = count.div_ceil(5) + 2;
        let mut ping = self.command("ping");
        ping.args(["-n", "-q", "-i", "0.2", "-W", "1", "-c", &count.to_string()]);
        ping.args(["-w", &deadline.to_string(), &to.to_string()]);
        let words = command::words(&ping);
        let done = command::start(&mut ping, b"")?.finish(command::COMMAND_LIMIT)?;
        Pinged::parse(&done.stdout)
            .with_context(|| format!("`{words}` printed no counts: {}", done.stderr.trim()))
    }

    /// Starts to record the frames of one link, in both directions.
    fn capture(&self, link: &str) -> Result<Capture> {
        self.enter(|| Capture::open(link))
    }

    /// Sends one frame, Ethernet header included, out of a link.
    fn send_frame(&self, link: &str, frame: &[u8]) -> Result<()> {
        self.enter(|| crate::sys::send(link, frame))
    }
}

/// Echo requests sent and answers received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinged {
    /// Requests sent.
    pub sent: u32,
    /// Answers that came back.
    pub received: u32,
}

impl Pinged {
    /// At least one answer came: the first request may be lost to address resolution.
    pub fn reached(self) -> bool {
        self.received > 0
    }

    /// Requests were sent and none was answered.
    pub fn isolated(self) -> bool {
        self.sent > 0 && self.received == 0
    }

    fn parse(text: &str) -> Result<Self> {
        let line = text
            .lines()
            .find(|line| line.contains("packets transmitted"))
            .ok_or_else(|| anyhow!("no line with `packets transmitted`"))?;
        let count = |what: &str| {
            let part = line.split(", ").find(|part| part.contains(what));
            part.and_then(|p| p.split(' ').next()?.parse().ok())
                .ok_or_else(|| anyhow!("no count of `{what}` in {line:?}"))
        };
        Ok(Self {
            sent: count("transmitted")?,
            received: count("received")?,
        })
    }
}

/// Asks `ready` every 20 ms until it gives a value; after `limit` an error with `what`.
pub fn poll<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("{what}: not within {:.1} s", limit.as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// JSON of `ip` and `bridge`; both print nothing at all for an empty list.
fn parse(line: &str, text: &str) -> Result<Value> {
    if text.trim().is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_str(text).with_context(|| format!("`{line}` printed no JSON: {text:?}"))
}

/// `ip -j` pads lists with empty objects for what it filtered out.
fn first(list: Value) -> Option<Value> {
    let entries = match list {
        Value::Array(entries) => entries,
        _ => return None,
    };
    entries
        .into_iter()
        .find(|entry| entry.as_object().is_some_and(|object| !object.is_empty()))
}

fn names(list: &Value, key: &str) -> Result<Vec<String>> {
    let entries = list
        .as_array()
        .ok_or_else(|| anyhow!("not a list: {list}"))?;
    Ok(entries
        .iter()
        .filter_map(|entry| Some(entry[key].as_str()?.to_owned()))
        .collect())
}

fn vlans(list: &Value) -> Vec<(u16, Vec<String>)> {
    let id = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
    let mut found = Vec::new();
    for entry in list.as_array().into_iter().flatten() {
        let flags: Vec<String> = entry["flags"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|flag| Some(flag.as_str()?.to_owned()))
            .collect();
        let Some(low) = id(&entry["vlan"]) else {
            continue;
        };
        let high = id(&entry["vlanEnd"]).unwrap_or(low);
        found.extend((low..=high).map(|vid| (vid, flags.clone())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ping_counts_are_read_with_and_without_errors() {
        let text = "--- 10.0.0.9 ping statistics ---\n\
                    3 packets transmitted, 0 received, +3 errors, 100% packet loss, time 411ms\n";
        let pinged = Pinged::parse(text).unwrap();
        assert_eq!((pinged.sent, pinged.received), (3, 0));
        assert!(pinged.isolated() && !pinged.reached());
        let text = "5 packets transmitted, 4 received, 20% packet loss, time 811ms\n";
        assert!(Pinged::parse(text).unwrap().reached());
        assert!(Pinged::parse("ping: unknown host").is_err());
    }

    #[test]
    fn nothing_sent_is_not_isolation() {
        let none = Pinged {
            sent: 0,
            received: 0,
        };
        assert!(!none.isolated());
    }

    #[test]
    fn vlan_ranges_are_spread_out() {
        let list = json!([
            {"vlan": 100, "flags": ["PVID", "Egress Untagged"]},
            {"vlan": 200, "vlanEnd": 202}
        ]);
        let found = vlans(&list);
        assert_eq!(
            found.iter().map(|v| v.0).collect::<Vec<_>>(),
            [100, 200, 201, 202]
        );
        assert_eq!(found[0].1, ["PVID", "Egress Untagged"]);
        assert!(found[1].1.is_empty());
    }

    #[test]
    fn empty_objects_of_ip_are_passed_over() {
        assert_eq!(
            first(json!([{}, {"ifname": "lo"}])),
            Some(json!({"ifname": "lo"}))
        );
        assert_eq!(first(json!([{}])), None);
        assert_eq!(parse("ip x", "\n").unwrap(), json!([]));
    }

    #[test]
    fn poll_gives_up_with_its_reason() {
        let error = poll::<()>("carrier of eth0", Duration::ZERO, || Ok(None)).unwrap_err();
        assert_eq!(error.to_string(), "carrier of eth0: not within 0.0 s");
    }
}
