//! What the caller remembers of an attachment: the configuration, arguments and
//! result its DEL will need. Berth's own files, `NETWORK/CONTAINERID:IFNAME.json`.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use berth_kernel::Root;
use berth_state::atomic::{self, Durability};
use berth_state::{Key, Writer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Attachment;
use crate::error::{CniError, code};

/// How long another caller's beginning is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(30);

const PRIVATE: u32 = 0o600;

/// One file. Without a result its ADD has not ended: it runs, or was killed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cached {
    pub(super) attachment: Key,
    #[serde(default)]
    pub(super) netns: Option<PathBuf>,
    #[serde(default)]
    pub(super) args: String,
    #[serde(default)]
    pub(super) capabilities: Map<String, Value>,
    pub(super) config: Value,
    #[serde(default)]
    pub(super) result: Option<Value>,
    /// Who is adding it; none once that gave up.
    #[serde(default)]
    pub(super) writer: Option<Writer>,
}

impl Cached {
    pub(super) fn wanted(&self) -> Attachment {
        Attachment {
            key: self.attachment.clone(),
            netns: self.netns.clone(),
            args: self.args.clone(),
            capabilities: self.capabilities.clone(),
        }
    }
}

/// An attachment's place.
#[derive(Debug)]
pub(super) enum Slot {
    Free,
    Held(Box<Cached>),
    Unreadable(CniError),
}

#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    root: Root,
}

impl Cache {
    pub(super) fn new(dir: PathBuf, root: Root) -> Self {
        Self { dir, root }
    }

    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    pub(super) fn file(&self, key: &Key) -> PathBuf {
        let name = format!("{}:{}.json", key.container_id(), key.ifname());
        self.dir.join(key.network()).join(name)
    }

    pub(super) fn load(&self, key: &Key) -> Result<Slot, CniError> {
        let path = self.file(key);
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Slot::Free),
            bytes => bytes.map_err(|e| failed("read", &path, &e))?,
        };
        let unreadable = |why: String| {
            Slot::Unreadable(
                CniError::new(
                    code::DECODE,
                    format!("{} cannot be understood: {why}", path.display()),
                )
                .details("detach with the network configuration it was attached with"),
            )
        };
        Ok(match serde_json::from_slice::<Cached>(&bytes) {
            Ok(cached) if cached.attachment == *key => Slot::Held(Box::new(cached)),
            Ok(cached) => unreadable(format!("it is about {}", cached.attachment)),
            Err(e) => unreadable(e.to_string()),
        })
    }

    pub(super) fn create(&self, cached: &Cached) -> Result<(), CniError> {
        let path = self.file(&cached.attachment);
        make_private(&self.dir)?;
        make_private(&self.dir.join(cached.attachment.network()))?;
        Ok(atomic::create_new(&path, &encode(cached)?, PRIVATE)?)
    }

    pub(super) fn replace(&self, cached: &Cached) -> Result<(), CniError> {
        let path = self.file(&cached.attachment);
        let bytes = encode(cached)?;
        Ok(atomic::replace(
            &path,
            &bytes,
            PRIVATE,
            Durability::Volatile,
        )?)
    }

    pub(super) fn remove(&self, key: &Key) -> berth_state::Result<()> {
        atomic::remove(&self.file(key))
    }

    /// The networks there are directories of.
    pub(super) fn networks(&self) -> Result<Vec<String>, CniError> {
        let io = |e| failed("list", &self.dir, &e);
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![]),
            entries => entries.map_err(io)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io)?;
            if entry.path().is_dir() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The attachments of a network; files of other names are nobody's.
    pub(super) fn keys(&self, network: &str) -> Result<Vec<Key>, CniError> {
        let dir = self.dir.join(network);
        let io = |e| failed("list", &dir, &e);
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![]),
            entries => entries.map_err(io)?,
        };
        let mut keys = Vec::new();
        for entry in entries {
            let name = entry.map_err(io)?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
            keys.extend(name.and_then(|name| format!("{network}/{name}").parse::<Key>().ok()));
        }
        keys.sort();
        Ok(keys)
    }

    /// Held while a place is taken, so that two callers cannot both sweep and take it.
    pub(super) fn lock(&self) -> Result<File, CniError> {
        make_private(&self.dir)?;
        let path = self.dir.join(".lock");
        let mut how = OpenOptions::new();
        let opened = how.write(true).create(true).truncate(false).mode(PRIVATE);
        let file = opened.open(&path).map_err(|e| failed("open", &path, &e))?;
        let begin = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if begin.elapsed() < LOCK_WAIT => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    let msg = format!("{} is held by another process", path.display());
                    return Err(CniError::try_again(msg).details("try again"));
                }
                Err(TryLockError::Error(e)) => return Err(failed("lock", &path, &e)),
            }
        }
    }
}

fn encode(cached: &Cached) -> Result<Vec<u8>, CniError> {
    serde_json::to_vec_pretty(cached)
        .map_err(|e| CniError::new(code::INTERNAL, format!("cannot encode: {e}")))
}

fn make_private(dir: &Path) -> Result<(), CniError> {
    let parent = dir.parent().unwrap_or(Path::new("/"));
    let made = fs::create_dir_all(parent).and_then(|()| DirBuilder::new().mode(0o700).create(dir));
    match made {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(failed("make", dir, &e)),
        _ => Ok(()),
    }
}

fn failed(wish: &str, path: &Path, error: &std::io::Error) -> CniError {
    let msg = format!("cannot {wish} {}: {error}", path.display());
    CniError::new(code::IO, msg).details("check the file system and its permissions")
}
