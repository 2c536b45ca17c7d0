//! The programs that are measured, and how each is asked for the same work.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::run::{self, Sample};
use crate::stage::Container;

/// Where the programs are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Paths {
    /// The plugin that is measured.
    #[arg(long)]
    pub(crate) ours: PathBuf,
    /// The program of the bare messages.
    #[arg(long)]
    pub(crate) floor: PathBuf,
    /// The directory of the reference plugins (`bridge`, `host-local`).
    #[arg(long)]
    pub(crate) reference: PathBuf,
    /// Their version, for the bars' names.
    #[arg(long)]
    pub(crate) reference_version: String,
    /// A directory on a disk for leases and other files of the run.
    #[arg(long)]
    pub(crate) data: PathBuf,
}

impl Paths {
    /// What bars call the reference.
    pub(crate) fn reference_name(&self) -> String {
        format!("reference-{}", self.reference_version)
    }

    /// The same from the root: who enters other mounts starts there.
    ///
    /// # Errors
    /// A program that does not exist.
    pub(crate) fn absolute(&self) -> Result<Self> {
        let whole = |path: &PathBuf| {
            path.canonicalize()
                .with_context(|| format!("find {}", path.display()))
        };
        std::fs::create_dir_all(&self.data)?;
        Ok(Self {
            ours: whole(&self.ours)?,
            floor: whole(&self.floor)?,
            reference: whole(&self.reference)?,
            reference_version: self.reference_version.clone(),
            data: whole(&self.data)?,
        })
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// A static program that ends at once.
    Nothing,
    /// The bare messages.
    Floor,
    /// `cni-bridge-vlan` without what the reference does not do: its neighbours hear nothing
    /// of a new address, as it announces it before the port forwards.
    Ours,
    /// The same with its own defaults: addresses are announced, frames with foreign
    /// addresses or tags dropped.
    Guarded,
    /// The reference plugin `bridge`.
    Reference,
}

/// The work that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// A port of the bridge.
    L2,
    /// With an address by host-local and a default route.
    L3,
    /// And masquerading.
    Masquerade,
}

impl Work {
    /// The work's name in bars.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::L3 => "l3",
            Self::Masquerade => "masq",
        }
    }
}

/// A program at one kind of work on one stage, which the calling thread is on.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// What is called.
    pub(crate) program: Program,
    work: Work,
    vlan: Option<u16>,
    paths: Paths,
    leases: PathBuf,
}

const BRIDGE: &str = "br0";

impl Caller {
    /// `label` keeps its leases apart from others'.
    pub(crate) fn new(
        program: Program,
        work: Work,
        vlan: Option<u16>,
        paths: &Paths,
        label: &str,
    ) -> Self {
        Self {
            program,
            work,
            vlan,
            leases: paths.data.join(label),
            paths: paths.clone(),
        }
    }

    /// What a node has before its first container: for the floor a bridge, for the others
    /// nothing, as they make it.
    ///
    /// # Errors
    /// Those of `ip`.
    pub(crate) fn prepare(&self) -> Result<()> {
        if self.leases.exists() {
            std::fs::remove_dir_all(&self.leases)?;
        }
        std::fs::create_dir_all(&self.leases)?;
        if self.program == Program::Floor {
            // A kernel without VLAN filtering refuses the word.
            let filtering = self.vlan.map_or("", |_| "vlan_filtering 1");
            run::plain(&format!("ip link add {BRIDGE} type bridge {filtering}"))?;
            run::plain(&format!("ip link set {BRIDGE} up"))?;
        }
        Ok(())
    }

    /// Attaches container `n`.
    ///
    /// # Errors
    /// The program's.
    pub(crate) fn add(&self, n: usize, container: &Container) -> Result<Sample> {
        let (sample, said) = run::sampled(&mut self.command("ADD", n, container), &self.conf())?;
        if !self.is_bare() && self.work != Work::L2 {
            let result: Value = serde_json::from_str(&said)?;
            ensure!(
                result["ips"][0]["address"].is_string(),
                "no address: {said}"
            );
        }
        Ok(sample)
    }

    /// Detaches it.
    ///
    /// # Errors
    /// The program's.
    pub(crate) fn del(&self, n: usize, container: &Container) -> Result<Sample> {
        Ok(run::sampled(&mut self.command("DEL", n, container), &self.conf())?.0)
    }

    /// The call of a verb for container `n`.
    pub(crate) fn command(&self, verb: &str, n: usize, container: &Container) -> Command {
        let plugin = match self.program {
            Program::Nothing | Program::Floor => return self.bare(verb, n, container.path()),
            Program::Ours | Program::Guarded => self.paths.ours.clone(),
            Program::Reference => self.paths.reference.join("bridge"),
        };
        let mut command = Command::new(plugin);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", format!("c{n}"))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", container.path())
            .env("CNI_PATH", self.cni_path());
        command
    }

    /// Whether it reads no configuration.
    fn is_bare(&self) -> bool {
        matches!(self.program, Program::Nothing | Program::Floor)
    }

    /// Ours finds no host-local there, and does without.
    fn cni_path(&self) -> &Path {
        match self.program {
            Program::Reference => &self.paths.reference,
            _ => &self.leases,
        }
    }

    /// The same call stopped at its start, for the calling thread to trace.
    pub(crate) fn traced(&self, call: &Command) -> Command {
        let mut command = Command::new(&self.paths.floor);
        command.arg("traced").arg(call.get_program()).env_clear();
        command.envs(
            call.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command
    }

    fn bare(&self, verb: &str, n: usize, netns: &Path) -> Command {
        let mut command = Command::new(&self.paths.floor);
        let port = format!("fl{n}");
        match (self.program, verb) {
            (Program::Nothing, _) => command.arg("nothing"),
            (_, "DEL") => command.args(["del", &port]),
            _ => {
                let vlan = self.vlan.map_or("-".to_owned(), |vlan| vlan.to_string());
                let address = match self.work {
                    Work::L2 => "-".to_owned(),
                    _ => format!("10.9.{}.{}/16", 1 + n / 250, n % 250 + 1),
                };
                command.arg("add").arg(netns);
                command.args([BRIDGE, &port, &vlan, &address, "10.9.0.1"])
            }
        };
        command
    }

    /// The configuration both plugins get.
    pub(crate) fn conf(&self) -> String {
        let mut conf = json!({
            "cniVersion": "1.0.0", "name": "bench", "type": "bridge", "bridge": BRIDGE,
        });
        if self.program == Program::Ours {
            conf["announce"] = false.into();
            conf["macspoofchk"] = false.into();
            conf["bpduFilter"] = false.into();
        }
        if let Some(vlan) = self.vlan {
            conf["vlan"] = vlan.into();
        }
        if self.work != Work::L2 {
            conf["ipam"] = json!({
                "type": "host-local", "dataDir": self.leases,
                "ranges": [[{"subnet": "10.9.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}],
            });
        }
        if self.work == Work::Masquerade {
            conf["ipMasq"] = true.into();
        }
        conf.to_string()
    }

    /// That the container has what was asked for.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn verify(&self, container: &Container) -> Result<()> {
        if self.program == Program::Nothing {
            return Ok(());
        }
        let seen = container.enter(|| {
            let link = run::plain("ip -o addr show dev eth0")?;
            let flags = run::plain("ip -o link show dev eth0")?;
            Ok((link, flags, run::plain("ip route show default")?))
        })?;
        let whole =
            self.work == Work::L2 || (seen.0.contains("10.9.") && seen.2.contains("10.9.0.1"));
        ensure!(
            seen.1.contains(",UP") && whole,
            "{:?} left {seen:?}",
            self.program
        );
        let port = self.port(&seen.1)?;
        if let Some(vlan) = self.vlan {
            let vlans = run::plain(&format!("bridge vlan show dev {port}"))?;
            let own = format!("{vlan} PVID Egress Untagged");
            ensure!(vlans.contains(&own), "{:?}: {vlans}", self.program);
        }
        let address = seen
            .0
            .split_whitespace()
            .find(|word| word.starts_with("10.9."));
        let address = address
            .and_then(|net| net.split('/').next())
            .unwrap_or("none");
        if self.work == Work::Masquerade && self.program != Program::Floor {
            let rules = run::plain("nft list ruleset")?;
            ensure!(
                rules.contains(address),
                "{:?}: no rule for {address}",
                self.program
            );
        }
        Ok(())
    }

    /// The name of the port on the bridge whose other end `link` describes.
    fn port(&self, link: &str) -> Result<String> {
        let index = link
            .split("@if")
            .nth(1)
            .and_then(|rest| rest.split(':').next());
        let start = format!("{}: ", index.unwrap_or_default());
        let ports = run::plain(&format!("ip -o link show master {BRIDGE}"))?;
        let line = ports.lines().find_map(|line| line.strip_prefix(&start));
        let name = line.and_then(|line| line.split('@').next());
        name.map(str::to_owned)
            .with_context(|| format!("{:?}: {link} has no end on {BRIDGE}", self.program))
    }

    /// That nothing of any container is left.
    ///
    /// # Errors
    /// What is.
    pub(crate) fn verify_nothing_left(&self) -> Result<()> {
        let links = run::plain("ip -o link show type veth").context("list ports")?;
        ensure!(links.is_empty(), "{:?} left {links}", self.program);
        let network = self.leases.join("bench");
        let left = std::fs::read_dir(network).into_iter().flatten().flatten();
        let left: Vec<_> = left.map(|file| file.file_name()).collect();
        let leases = left.iter().filter(|name| {
            let name = name.to_string_lossy();
            name.parse::<std::net::IpAddr>().is_ok()
        });
        ensure!(
            leases.count() == 0,
            "{:?} left leases {left:?}",
            self.program
        );
        Ok(())
    }
}
