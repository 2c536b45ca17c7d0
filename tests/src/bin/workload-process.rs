//! What runs inside a workload's cgroup in tests: it is told on standard input what to
//! do, one JSON object a line, and answers each with one line on standard output.
//!
//! | `do` | with | answer |
//! |---|---|---|
//! | `spin` | `threads` | `{}`; that many threads count on which CPU they run, until `end` |
//! | `ticks` | | `{"ticks": {"4": 123}}` since the last `ticks` |
//! | `hold` | `anon`, `shmem`, `cache` in bytes, `file` | `{}`; memory of these kinds, filled |
//! | `touch` | | `{"intact": true}`; everything held was read and is as it was filled |
//! | `write` | `file`, `bytes`, `sync` | `{"bytes", "seconds", "errno"}` |
//! | `pour` | `file`, `bytes` | `{}`; a thread overwrites the file without an end |
//! | `make` | `dir`, `files` | `{"made", "errno"}`; that many empty files |
//! | `allowed` | | `{"cpus": "4-7", "mems": "0"}` of `/proc/self/status` |
//! | `end` | | none; it ends, as it does when standard input ends |

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use berth_tests::{Context, Result, bail};
use serde_json::{Map, Value, json};

/// No test machine has more.
const CPUS: usize = 1024;
const CHUNK: usize = 1 << 20;
const FILL: u8 = 0xa5;

fn main() -> Result<()> {
    let mut out = io::stdout();
    let mut process = Process::default();
    for line in io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?).context("a request is no JSON")?;
        if request["do"] == "end" {
            break;
        }
        let answer = match process.act(&request) {
            Ok(answer) => answer,
            Err(error) => json!({"error": format!("{error:#}")}),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

#[derive(Default)]
struct Process {
    ticks: Option<Arc<Vec<AtomicU64>>>,
    anon: Vec<Vec<u8>>,
    files: Vec<File>,
}

impl Process {
    fn act(&mut self, request: &Value) -> Result<Value> {
        match request["do"].as_str().unwrap_or_default() {
            "spin" => self.spin(number(request, "threads")?),
            "ticks" => Ok(self.ticks()),
            "hold" => self.hold(request),
            "touch" => self.touch(),
            "write" => write(request),
            "pour" => pour(request),
            "make" => make(request),
            "allowed" => allowed(),
            other => bail!("do not know how to {other:?}"),
        }
    }

    fn spin(&mut self, threads: u64) -> Result<Value> {
        let ticks = self
            .ticks
            .get_or_insert_with(|| Arc::new((0..CPUS).map(|_| AtomicU64::new(0)).collect()));
        for _ in 0..threads {
            let ticks = Arc::clone(ticks);
            std::thread::Builder::new().spawn(move || count(&ticks))?;
        }
        Ok(json!({}))
    }

    /// What each CPU counted since the last time; those with nothing are left out.
    fn ticks(&self) -> Value {
        let counts = self.ticks.iter().flat_map(|ticks| ticks.iter().enumerate());
        let counted = counts.filter_map(|(cpu, count)| {
            let count = count.swap(0, Ordering::Relaxed);
            (count > 0).then(|| (cpu.to_string(), json!(count)))
        });
        json!({"ticks": counted.collect::<Map<_, _>>()})
    }

    /// Files lose their names at once, so nothing of them outlives the process.
    fn hold(&mut self, request: &Value) -> Result<Value> {
        for _ in 0..chunks(request, "anon")? {
            self.anon.push(vec![FILL; CHUNK]);
        }
        let shmem = PathBuf::from(format!("/dev/shm/berth-test-{}", std::process::id()));
        let cache = PathBuf::from(request["file"].as_str().unwrap_or("/data/xfs/held"));
        for (key, path) in [("shmem", shmem), ("cache", cache)] {
            let chunks = chunks(request, key)?;
            if chunks > 0 {
                self.files.push(filled(&path, chunks)?);
            }
        }
        Ok(json!({}))
    }

    fn touch(&mut self) -> Result<Value> {
        let mut intact = self.anon.iter().all(|chunk| is_filled(chunk));
        let mut chunk = vec![0; CHUNK];
        for file in &mut self.files {
            file.seek(SeekFrom::Start(0))?;
            for _ in 0..file.metadata()?.len() / CHUNK as u64 {
                file.read_exact(&mut chunk)?;
                intact &= is_filled(&chunk);
            }
        }
        Ok(json!({"intact": intact}))
    }
}

/// Counts until the process ends. The CPU is asked for before and after each burst, so
/// that a burst across a move counts for neither.
fn count(ticks: &[AtomicU64]) {
    let here = || nix::sched::sched_getcpu().ok();
    loop {
        let before = here();
        let mut sum = 0u64;
        for n in 0..20_000u64 {
            sum = std::hint::black_box(sum.wrapping_add(n));
        }
        let counter = before.filter(|cpu| here() == Some(*cpu));
        if let Some(counter) = counter.and_then(|cpu| ticks.get(cpu)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn filled(path: &Path, chunks: u64) -> Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    std::fs::remove_file(path)?;
    let chunk = vec![FILL; CHUNK];
    for _ in 0..chunks {
        file.write_all(&chunk)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn is_filled(chunk: &[u8]) -> bool {
    chunk.iter().all(|byte| *byte == FILL)
}

/// Buffered writing, then fsync(2) if wished: bytes over the time of both.
fn write(request: &Value) -> Result<Value> {
    let (path, bytes) = (text(request, "file")?, number(request, "bytes")?);
    let mut file = File::create(path).with_context(|| format!("create {path}"))?;
    let begun = Instant::now();
    let mut written = 0;
    let mut outcome = Ok(());
    let chunk = vec![FILL; CHUNK];
    while written < bytes && outcome.is_ok() {
        let size = usize::try_from(bytes - written).unwrap_or(CHUNK).min(CHUNK);
        match file.write(&chunk[..size]) {
            Ok(n) => written += n as u64,
            Err(error) => outcome = Err(error),
        }
    }
    if request["sync"] == true && outcome.is_ok() {
        outcome = file.sync_all();
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(json!({"bytes": written, "seconds": seconds, "errno": errno(outcome.err())}))
}

fn pour(request: &Value) -> Result<Value> {
    let (path, bytes) = (text(request, "file")?, number(request, "bytes")?);
    let mut file = File::create(path).with_context(|| format!("create {path}"))?;
    std::thread::Builder::new().spawn(move || -> io::Result<()> {
        let chunk = vec![FILL; CHUNK];
        loop {
            file.seek(SeekFrom::Start(0))?;
            for _ in 0..bytes / CHUNK as u64 {
                file.write_all(&chunk)?;
            }
        }
    })?;
    Ok(json!({}))
}

fn make(request: &Value) -> Result<Value> {
    let (dir, files) = (text(request, "dir")?, number(request, "files")?);
    let mut made = 0;
    let mut error = None;
    for n in 0..files {
        match File::create(Path::new(dir).join(format!("file-{n}"))) {
            Ok(_) => made += 1,
            Err(refused) => {
                error = Some(refused);
                break;
            }
        }
    }
    Ok(json!({"made": made, "errno": errno(error)}))
}

fn allowed() -> Result<Value> {
    // A moved process's mask follows a moment later.
    std::thread::sleep(Duration::from_millis(1));
    let status = std::fs::read_to_string("/proc/self/status")?;
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_default().trim().to_owned()
    };
    Ok(json!({"cpus": value("Cpus_allowed_list:"), "mems": value("Mems_allowed_list:")}))
}

/// The error's name as errno(3) has it.
fn errno(error: Option<io::Error>) -> Value {
    let number = error.map(|error| error.raw_os_error().unwrap_or_default());
    number.map_or(Value::Null, |number| {
        json!(format!("{:?}", nix::errno::Errno::from_raw(number)))
    })
}

fn chunks(request: &Value, key: &str) -> Result<u64> {
    let bytes = match request.get(key) {
        None => 0,
        Some(_) => number(request, key)?,
    };
    Ok(bytes / CHUNK as u64)
}

fn number(request: &Value, key: &str) -> Result<u64> {
    request[key]
        .as_u64()
        .with_context(|| format!("no number {key:?} in {request}"))
}

fn text<'a>(request: &'a Value, key: &str) -> Result<&'a str> {
    request[key]
        .as_str()
        .with_context(|| format!("no text {key:?} in {request}"))
}
