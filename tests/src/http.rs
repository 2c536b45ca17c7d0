//! HTTP/1.1 over a Unix socket, as much as tests need: one request a connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// How long an answer may take, a shrink in emulation included.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// A server at a Unix socket.
#[derive(Debug, Clone)]
pub struct Http {
    socket: PathBuf,
}

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    server: &'a Http,
    method: &'a str,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

/// What the server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Http {
    /// The server whose socket is here.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A request with neither headers nor a body.
    pub fn request<'a>(&'a self, method: &'a str, path: impl Into<String>) -> Request<'a> {
        Request {
            server: self,
            method,
            path: path.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// `GET path`.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.request("GET", path).send()
    }
}

impl Request<'_> {
    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With a body of JSON.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.text("application/json", body.to_string())
    }

    /// With any body.
    #[must_use]
    pub fn text(mut self, kind: &str, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self.header("content-type", kind)
    }

    /// Sends it and reads the answer to its end.
    pub fn send(&self) -> Result<Answer> {
        self.exchange()
            .with_context(|| format!("{} {}", self.method, self.path))
    }

    fn exchange(&self) -> Result<Answer> {
        let mut stream = UnixStream::connect(&self.server.socket)
            .with_context(|| format!("connect to {}", self.server.socket.display()))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(self.head().as_bytes())?;
        stream.write_all(self.body.as_deref().unwrap_or_default().as_bytes())?;
        Answer::read(&mut BufReader::new(stream))
    }

    fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: node\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head + "connection: close\r\n\r\n"
    }
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body)
            .with_context(|| format!("status {}, no JSON: {:?}", self.status, self.body))
    }

    /// Its body if it has this status, otherwise an error with everything it said.
    pub fn expect(&self, status: u16) -> Result<Value> {
        ensure!(
            self.status == status,
            "status {} where {status} was expected: {}",
            self.status,
            self.body
        );
        self.json()
    }

    /// A header's value; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn read(from: &mut impl BufRead) -> Result<Self> {
        let first = line(from)?;
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .with_context(|| format!("no status line: {first:?}"))?;
        let mut headers = BTreeMap::new();
        loop {
            let line = line(from)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("no header: {line:?}"))?;
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = Vec::new();
        match headers.get("transfer-encoding").map(String::as_str) {
            Some("chunked") => read_chunks(from, &mut body)?,
            Some(other) => bail!("transfer-encoding {other}"),
            None => match headers.get("content-length") {
                Some(length) => {
                    body.resize(length.parse()?, 0);
                    from.read_exact(&mut body).context("read the body")?;
                }
                None => {
                    from.read_to_end(&mut body)?;
                }
            },
        }
        Ok(Self {
            status,
            headers,
            body: String::from_utf8(body).context("the body is no text")?,
        })
    }
}

/// A line without its end (RFC 9112, section 2.2).
fn line(from: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    let read = from.read_line(&mut line).context("read the answer")?;
    ensure!(read > 0, "the server closed the connection");
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// RFC 9112, section 7.1; extensions and trailers are passed over.
fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> Result<()> {
    loop {
        let head = line(from)?;
        let size = head.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).with_context(|| format!("no chunk: {head:?}"))?;
        if size == 0 {
            while !line(from)?.is_empty() {}
            return Ok(());
        }
        from.take(size).read_to_end(body)?;
        line(from)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Answer> {
        Answer::read(&mut text.as_bytes())
    }

    #[test]
    fn a_body_of_known_length_is_read_and_no_more() {
        let answer =
            read("HTTP/1.1 201 Created\r\nETag: \"7\"\r\nContent-Length: 2\r\n\r\n{}x").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (201, "{}"));
        assert_eq!(answer.header("etag"), Some("\"7\""));
    }

    #[test]
    fn chunks_are_joined() {
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n";
        assert_eq!(read(text).unwrap().body, "[1,2]");
    }

    #[test]
    fn half_an_answer_is_an_error() {
        for bad in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}",
            "SSH-2.0\r\n\r\n",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn another_status_carries_what_was_said() {
        let answer = read("HTTP/1.1 409 Conflict\r\ncontent-length: 9\r\n\r\n{\"a\": 1} ").unwrap();
        let error = answer.expect(200).unwrap_err().to_string();
        assert!(
            error.contains("409") && error.contains("{\"a\": 1}"),
            "{error}"
        );
    }
}
