//! What is read of a request. Anything that could be meant in two ways is refused.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use serde_json::Value;

use super::BODY_LIMIT;
use super::answer::Refused;
use crate::engine::handle::{Asked, Change, Peer};
use crate::refusal::{Code, Refusal};
use crate::spec::WorkloadId;

/// The workload of the path.
pub(super) struct Id(pub(super) WorkloadId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let path = parts.uri.path().to_owned();
        let wrong = |reason: String| invalid(&path, "name a workload", reason, ID_HELP);
        let text = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = text.map_err(|error| wrong(error.body_text()))?;
        text.parse().map(Self).map_err(wrong)
    }
}

const ID_HELP: &str = "GET /v1/workloads lists those there are";

/// Under which conditions a change is wished, and by whom.
pub(super) struct Terms {
    if_match: Option<u64>,
    dry_run: bool,
    by: Peer,
}

impl Terms {
    /// `change` under these terms.
    pub(super) fn of(self, change: Change) -> Asked {
        Asked {
            change,
            if_match: self.if_match,
            dry_run: self.dry_run,
            by: self.by,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Terms {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>();
        let ConnectInfo(by) = *peer.ok_or_else(no_peer)?;
        Ok(Self {
            if_match: if_match(&parts.headers)?,
            dry_run: Asking::of(&parts.uri, &["dry_run"])?.switch("dry_run")?,
            by,
        })
    }
}

/// Cannot happen: the listener gives every connection its peer. Without one nothing may
/// be changed.
fn no_peer() -> Refused {
    let reason = "the socket did not say who asks";
    Refusal::new(
        Code::Forbidden,
        "request",
        "change something",
        reason,
        "connect again",
    )
    .into()
}

/// A body of JSON.
pub(super) struct Body(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let path = request.uri().path().to_owned();
        content_type(request.headers())?;
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(&path),
            _ => invalid(&path, "read the body", error.body_text(), "send it again"),
        })?;
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            let wish = "read the body as JSON";
            invalid(&path, wish, error.to_string(), "send one JSON document")
        })?;
        Ok(Self(value))
    }
}

fn too_large(path: &str) -> Refused {
    let refusal = Refusal::new(
        Code::Invalid,
        path,
        "read the body",
        format!("it has more than {BODY_LIMIT} bytes"),
        "send one spec only",
    );
    Refused::with_status(refusal, StatusCode::PAYLOAD_TOO_LARGE)
}

/// Refuses the types under which something else than our JSON is meant. No type, and
/// what tools say unasked (`curl -d`: a form), mean JSON here.
fn content_type(headers: &HeaderMap) -> Result<(), Refused> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let full = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let kind = full.split(';').next().unwrap_or_default().trim();
    match kind {
        "application/json"
        | "application/merge-patch+json"
        | "application/octet-stream"
        | "application/x-www-form-urlencoded"
        | "text/json"
        | "text/plain" => Ok(()),
        other => {
            let refusal = Refusal::new(
                Code::Invalid,
                "header Content-Type",
                format!("read a body of type {other}"),
                "a spec is application/json, a patch application/merge-patch+json (RFC 7396)",
                "send JSON and say so",
            );
            Err(Refused::with_status(
                refusal,
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ))
        }
    }
}

/// The keys behind the question mark.
pub(super) struct Asking(BTreeMap<String, String>);

impl Asking {
    /// Reads them; only those `known` may be there.
    ///
    /// # Errors
    /// An unknown key, one that is there twice, or bad encoding.
    pub(super) fn of(uri: &Uri, known: &[&str]) -> Result<Self, Refused> {
        let object = format!("query of {}", uri.path());
        let wrong = |reason: String| {
            let next = match known {
                [] => "leave it out: this path has none".to_owned(),
                _ => format!("the keys here are {}, each once", known.join(", ")),
            };
            invalid(&object, "read it", reason, &next)
        };
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Query(pairs) = pairs.map_err(|error| wrong(error.body_text()))?;
        let mut keys = BTreeMap::new();
        for (key, value) in pairs {
            if !known.contains(&key.as_str()) {
                return Err(wrong(format!("key {key:?} is unknown")));
            }
            if keys.insert(key.clone(), value).is_some() {
                return Err(wrong(format!("key {key} is there twice")));
            }
        }
        Ok(Self(keys))
    }

    /// Whether a key is there and not turned off.
    ///
    /// # Errors
    /// Its value is neither empty nor true nor false.
    pub(super) fn switch(&self, key: &str) -> Result<bool, Refused> {
        match self.0.get(key).map(String::as_str) {
            Some("" | "true" | "1") => Ok(true),
            None | Some("false" | "0") => Ok(false),
            Some(other) => {
                let reason = format!("{other:?} is neither true nor false");
                let object = format!("query key {key}");
                Err(invalid(
                    &object,
                    "read it",
                    reason,
                    &format!("write {key}=true"),
                ))
            }
        }
    }

    /// The number of a key.
    ///
    /// # Errors
    /// Its value is no number.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, Refused> {
        let read = |text: &String| {
            text.parse().map_err(|error| {
                let object = format!("query key {key}");
                let reason = format!("{text:?}: {error}");
                invalid(&object, "read it", reason, &format!("write {key}=42"))
            })
        };
        self.0.get(key).map(read).transpose()
    }
}

/// The generation in `If-Match`; its quotes may be forgotten.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Refused> {
    let Some(text) = joined(headers, &IF_MATCH) else {
        return Ok(None);
    };
    // Leading zeros or a plus would be another tag.
    let number = bare(&text)
        .parse()
        .ok()
        .filter(|n: &u64| n.to_string() == bare(&text));
    number.map(Some).ok_or_else(|| {
        let reason = format!("{text:?} is not one generation in quotes");
        let next = "write If-Match: \"42\", as the header ETag of GET /v1/capacity has it";
        invalid("header If-Match", "compare the generation", reason, next)
    })
}

/// Whether `If-None-Match` names this generation (RFC 9110, 13.1.2: a list, compared
/// weakly, or `*`).
pub(super) fn known_to(headers: &HeaderMap, generation: u64) -> bool {
    let Some(text) = joined(headers, &IF_NONE_MATCH) else {
        return false;
    };
    let same = |tag: &str| {
        let tag = tag.trim();
        tag == "*" || bare(tag.strip_prefix("W/").unwrap_or(tag)) == generation.to_string()
    };
    text.split(',').any(same)
}

/// All values of a header, as one list.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let all = headers.get_all(name).into_iter();
    let all: Vec<_> = all
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// `tag` without its quotes.
fn bare(tag: &str) -> &str {
    let tag = tag.trim();
    let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    inner.unwrap_or(tag)
}

fn invalid(object: &str, wish: &str, reason: String, next: &str) -> Refused {
    Refusal::new(Code::Invalid, object, wish, reason, next).into()
}

#[cfg(test)]
mod tests;
