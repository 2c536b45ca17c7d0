//! The command line's end of the agent's socket: one request at a time, blocking.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_kernel::Root;
use berth_state::dirs;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, ETAG, HOST, IF_MATCH};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::api::SOCKET;
use crate::refusal::{Code, Refusal};

/// The way to the agent.
pub(crate) struct Client {
    runtime: Runtime,
    socket: PathBuf,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// The method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// Only if the node's generation is this one.
    pub(crate) if_match: Option<u64>,
    /// JSON to send.
    pub(crate) body: Option<Value>,
}

impl Ask {
    /// `method` of `path`, no more.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            if_match: None,
            body: None,
        }
    }

    /// Reads `path`.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }
}

/// What the agent answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The node's generation, if the answer says it.
    pub(crate) generation: Option<u64>,
    /// The body.
    pub(crate) body: Value,
}

/// The agent's refusal, as the command line tells it.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Refusal);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        for missing in &self.0.missing {
            let (what, asked) = (&missing.what, missing.asked);
            write!(
                f,
                "\n  {what}: asked {asked}, available {}",
                missing.available
            )?;
        }
        match self.0.generation {
            Some(generation) => write!(f, "\n  present generation: {generation}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}

impl Client {
    /// The way to the agent of this node; nothing is connected yet.
    ///
    /// # Errors
    /// The kernel gives no event loop.
    pub(crate) fn new(root: &Root) -> Result<Self> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Ok(Self {
            runtime: builder
                .enable_io()
                .build()
                .context("cannot wait for a socket")?,
            socket: dirs::berth(root).join(SOCKET),
        })
    }

    /// Whether an agent listens, or something else keeps the socket from being reached:
    /// false only if there is surely none.
    pub(crate) fn may_reach(&self) -> bool {
        let connected = std::os::unix::net::UnixStream::connect(&self.socket);
        !connected.is_err_and(|error| is_absent(&error))
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// [`Refused`] if the agent refuses; no agent, no permission, or a broken answer.
    pub(crate) fn ask(&self, ask: &Ask) -> Result<Answer> {
        self.runtime.block_on(async {
            let response = self.send(ask).await?;
            let tag = response
                .headers()
                .get(ETAG)
                .and_then(|tag| tag.to_str().ok());
            let generation = tag.and_then(|tag| tag.trim_matches('"').parse().ok());
            let body = self.json(response).await?;
            Ok(Answer { generation, body })
        })
    }

    /// Reads a stream: each line is given to `each` until that fails or the agent ends.
    ///
    /// # Errors
    /// As with [`Client::ask`], and what `each` says.
    pub(crate) fn follow(
        &self,
        path: &str,
        each: &mut dyn FnMut(Value) -> Result<()>,
    ) -> Result<()> {
        self.runtime.block_on(async {
            let response = self.send(&Ask::get(path)).await?;
            if !response.status().is_success() {
                return self.json(response).await.map(drop);
            }
            let mut body = response.into_body();
            let mut pending = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.broken(&error))?;
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                pending.extend_from_slice(&data);
                while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    each(serde_json::from_slice(&line).map_err(|error| self.broken(&error))?)?;
                }
            }
            Ok(())
        })
    }

    async fn send(&self, ask: &Ask) -> Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| unreachable(&self.socket, &error))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(&error))?;
        tokio::spawn(async move {
            // What breaks is told to whoever reads the answer.
            connection.await.ok();
        });
        let request = request(ask)?;
        let response = sender.send_request(request).await;
        response.map_err(|error| self.broken(&error))
    }

    /// The body of a good answer; of another one, the refusal.
    async fn json(&self, response: Response<Incoming>) -> Result<Value> {
        let status = response.status();
        let bytes = response.into_body().collect().await;
        let bytes = bytes.map_err(|error| self.broken(&error))?.to_bytes();
        let body: Value = serde_json::from_slice(&bytes).map_err(|error| self.broken(&error))?;
        if status.is_success() {
            return Ok(body);
        }
        let refusal = serde_json::from_value(body).map_err(|error| self.broken(&error))?;
        Err(Refused(refusal).into())
    }

    fn broken(&self, error: &dyn fmt::Display) -> anyhow::Error {
        refused(
            &self.socket,
            "speak with the agent",
            format!("the connection broke or its answer is none of ours: {error}"),
            "see journalctl -u berth; then ask again: berth get shows what holds now",
        )
    }
}

fn request(ask: &Ask) -> Result<Request<Full<Bytes>>> {
    let mut request = Request::builder().method(&ask.method).uri(&ask.path);
    request = request.header(HOST, "berth");
    if let Some(generation) = ask.if_match {
        request = request.header(IF_MATCH, format!("\"{generation}\""));
    }
    let body = match &ask.body {
        Some(body) => {
            request = request.header(CONTENT_TYPE, "application/json");
            Bytes::from(body.to_string())
        }
        None => Bytes::new(),
    };
    let path = &ask.path;
    request
        .body(Full::new(body))
        .with_context(|| format!("cannot ask for {path}"))
}

/// Whether nobody listens there.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused)
}

/// Why the socket cannot be opened, and what to do.
fn unreachable(socket: &Path, error: &io::Error) -> anyhow::Error {
    let wish = "reach the agent";
    match error.kind() {
        _ if is_absent(error) => refused(
            socket,
            wish,
            format!("no agent listens there ({error})"),
            "start it: systemctl start berth, or berth agent in the foreground",
        ),
        io::ErrorKind::PermissionDenied => refused(
            socket,
            wish,
            "it is for root and, to read, for the group berth".to_owned(),
            "become root, or have root add you to the group: usermod -aG berth USER",
        ),
        _ => refused(
            socket,
            wish,
            error.to_string(),
            "see berth doctor and journalctl -u berth",
        ),
    }
}

fn refused(socket: &Path, wish: &str, reason: String, next: &str) -> anyhow::Error {
    let object = socket.display().to_string();
    Refused(Refusal::new(Code::Unavailable, object, wish, reason, next)).into()
}
