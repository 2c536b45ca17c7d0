//! The agent's socket: who may open it, who is at the other end. That there is one agent
//! on a node is the store's to see to.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use berth_kernel::Root;
use berth_state::dirs;
use tokio::net::{UnixListener, UnixStream};

use crate::engine::handle::Peer;
use crate::refusal::{Code, Refusal};

/// The socket, below `run/berth`.
pub(crate) const SOCKET: &str = "agent.sock";

/// Whose members may open it.
const GROUP: &str = "berth";

/// Its mode: for root and the group.
const MODE: u32 = 0o660;

/// How long to wait when no connection can be taken, for want of file descriptors say.
const BREATH: Duration = Duration::from_millis(100);

/// How the process at the other end of a connection is told.
type Credentials = Box<dyn Fn(&UnixStream) -> io::Result<Peer> + Send>;

/// The listening socket; removed when dropped.
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    credentials: Credentials,
}

impl Socket {
    /// Opens `run/berth/agent.sock`. One that a dead agent left is replaced; there is
    /// never a moment at which it is there with another mode or owner.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn open(root: &Root) -> Result<Self, Refusal> {
        Self::with(root, Box::new(of_kernel))
    }

    /// The same with other credentials than the kernel's.
    fn with(root: &Root, credentials: Credentials) -> Result<Self, Refusal> {
        let dir = dirs::ensure(root, Path::new(""));
        let dir = dir.map_err(|error| failed("run/berth", "make it", &error))?;
        let path = dir.join(SOCKET);
        let fresh = dir.join(format!(".{SOCKET}.new"));
        let listener = bind(&fresh)
            .and_then(|listener| {
                std::fs::set_permissions(&fresh, Permissions::from_mode(MODE))?;
                give_to_group(root, &fresh)?;
                std::fs::rename(&fresh, &path)?;
                Ok(listener)
            })
            .map_err(|error| failed(&name(&path), "listen on it", &error))?;
        Ok(Self {
            listener,
            path,
            credentials,
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("{}: cannot remove it: {error}", self.path.display());
            }
            _ => {}
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(path),
    }
}

fn give_to_group(root: &Root, socket: &Path) -> io::Result<()> {
    let groups = std::fs::read_to_string(root.etc.join("group")).unwrap_or_default();
    match group_id(&groups, GROUP) {
        Some(gid) => chown(socket, None, Some(gid)),
        None => {
            log::info!("there is no group {GROUP}: only root can open the agent's socket");
            Ok(())
        }
    }
}

/// The id of a group in a file of the form of group(5). The system's own look-up needs
/// the dynamic linker, and network directories should not decide who is in here.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    let mut lines = groups.lines().map(|line| line.split(':'));
    let mut line = lines.find(|line| line.clone().next() == Some(name))?;
    line.nth(2)?.parse().ok()
}

fn of_kernel(stream: &UnixStream) -> io::Result<Peer> {
    let found = stream.peer_cred()?;
    Ok(Peer {
        uid: found.uid(),
        gid: found.gid(),
        pid: found.pid().unwrap_or(0),
    })
}

impl Listener for Socket {
    type Io = UnixStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (UnixStream, Peer) {
        loop {
            let accepted = self.listener.accept().await;
            let known = accepted.and_then(|(stream, _)| {
                let peer = (self.credentials)(&stream)?;
                Ok((stream, peer))
            });
            match known {
                Ok(connection) => return connection,
                Err(error) => {
                    log::warn!("{}: a connection was lost: {error}", self.path.display());
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            pid: nix::unistd::getpid().as_raw(),
        })
    }
}

impl Connected<IncomingStream<'_, Socket>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Socket>) -> Self {
        *stream.remote_addr()
    }
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn failed(object: &str, wish: &str, error: &dyn std::fmt::Display) -> Refusal {
    let next = "start the agent as root, on a node whose /run can be written";
    Refusal::new(Code::Kernel, object, wish, error.to_string(), next)
}

#[cfg(test)]
pub(super) mod tests;
