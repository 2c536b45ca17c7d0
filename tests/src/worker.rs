//! The process that plays a workload: `workload-process`, started inside a cgroup and
//! spoken to over its pipes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::cgroup::Cgroup;
use crate::plugin;
use crate::pod::Pod;

/// A running `workload-process`. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What a write came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Bytes the kernel took.
    pub bytes: u64,
    /// Seconds for them, fsync(2) included if it was wished.
    pub seconds: f64,
    /// The error that ended it, as errno(3) names it.
    pub errno: Option<String>,
}

impl Worker {
    /// Starts it in `cgroup`: it is there before its first instruction. It is root
    /// without CAP_SYS_RESOURCE, as in a container: with it ext4 knows no limit.
    pub fn start(cgroup: &Cgroup) -> Result<Self> {
        Self::by(Command::new("sh"), cgroup)
    }

    /// The same in the network namespace of `pod`.
    pub fn start_in(cgroup: &Cgroup, pod: &Pod) -> Result<Self> {
        let mut shell = Command::new("nsenter");
        shell.arg(format!("--net={}", pod.path().display()));
        shell.args(["--", "sh"]);
        Self::by(shell, cgroup)
    }

    fn by(mut shell: Command, cgroup: &Cgroup) -> Result<Self> {
        let program = plugin::binary("workload-process")?;
        // A 0 moves the writer itself (cgroup v2, "Core Interface Files").
        let script = "echo 0 >\"$1\" && exec setpriv --bounding-set -sys_resource -- \"$2\"";
        shell.args(["-c", script, "sh"]);
        shell.arg(cgroup.file("cgroup.procs")).arg(&program);
        let mut child = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {} in {}", program.display(), cgroup.name()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("no pipe from the worker")?;
        let mut worker = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        worker.allowed().context("the worker does not answer")?;
        Ok(worker)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one request and waits for its answer.
    pub fn ask(&mut self, request: &Value) -> Result<Value> {
        self.send(request)?;
        self.answer()
            .with_context(|| format!("the worker was asked {request}"))
    }

    /// Sends one request; [`Worker::answer`] gets what it says. So several can work at
    /// once.
    pub fn send(&mut self, request: &Value) -> Result<()> {
        let input = self.input.as_mut().context("the worker was ended")?;
        writeln!(input, "{request}").context("the worker is gone")
    }

    /// The answer to the oldest request without one.
    pub fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            bail!("the worker ended with {status}");
        }
        let answer: Value = serde_json::from_str(&line)?;
        match answer["error"].as_str() {
            Some(error) => bail!("the worker: {error}"),
            None => Ok(answer),
        }
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Starts threads that count on which CPUs they run.
    pub fn spin(&mut self, threads: u64) -> Result<()> {
        self.ask(&json!({"do": "spin", "threads": threads}))
            .map(drop)
    }

    /// Counts by CPU since the last time.
    pub fn ticks(&mut self) -> Result<BTreeMap<u32, u64>> {
        let answer = self.ask(&json!({"do": "ticks"}))?;
        let ticks = answer["ticks"].as_object().context("no ticks")?;
        let entry = |(cpu, count): (&String, &Value)| -> Result<_> {
            Ok((cpu.parse()?, count.as_u64().context("no count")?))
        };
        ticks.iter().map(entry).collect()
    }

    /// Fills this many bytes of each kind and keeps them; the page cache in a file
    /// without a name on the filesystem of `file`.
    pub fn hold(&mut self, anon: u64, shmem: u64, cache: (u64, &str)) -> Result<()> {
        let (bytes, file) = cache;
        let request =
            json!({"do": "hold", "anon": anon, "shmem": shmem, "cache": bytes, "file": file});
        self.ask(&request).map(drop)
    }

    /// Reads all it holds; an error if a byte is not what it was.
    pub fn touch(&mut self) -> Result<()> {
        let answer = self.ask(&json!({"do": "touch"}))?;
        ensure!(answer["intact"] == true, "memory of the worker changed");
        Ok(())
    }

    /// Writes a file through the page cache and syncs it.
    pub fn write(&mut self, file: &str, bytes: u64) -> Result<Written> {
        let answer =
            self.ask(&json!({"do": "write", "file": file, "bytes": bytes, "sync": true}))?;
        Written::of(&answer)
    }

    /// Overwrites a file of this size without an end.
    pub fn pour(&mut self, file: &str, bytes: u64) -> Result<()> {
        self.ask(&json!({"do": "pour", "file": file, "bytes": bytes}))
            .map(drop)
    }

    /// Makes empty files until there are as many or the kernel refuses: how many, and
    /// the error.
    pub fn make(&mut self, dir: &str, files: u64) -> Result<(u64, Option<String>)> {
        let answer = self.ask(&json!({"do": "make", "dir": dir, "files": files}))?;
        let made = answer["made"].as_u64().context("no number made")?;
        Ok((made, answer["errno"].as_str().map(str::to_owned)))
    }

    /// The CPUs and NUMA nodes the kernel allows it, as lists.
    pub fn allowed(&mut self) -> Result<(String, String)> {
        let answer = self.ask(&json!({"do": "allowed"}))?;
        let text = |key: &str| answer[key].as_str().map(str::to_owned);
        let both = text("cpus").zip(text("mems"));
        both.context("the worker did not say what it is allowed")
    }
}

impl Written {
    /// Reads the worker's answer to `write`.
    pub fn of(answer: &Value) -> Result<Self> {
        let numbers = answer["bytes"].as_u64().zip(answer["seconds"].as_f64());
        let (bytes, seconds) = numbers.with_context(|| format!("no result: {answer}"))?;
        let errno = answer["errno"].as_str().map(str::to_owned);
        Ok(Self {
            bytes,
            seconds,
            errno,
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended, which is as well.
        drop(self.input.take());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
