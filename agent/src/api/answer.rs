//! How answers look: JSON with the node's generation as ETag, and refusals.

use axum::Json;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::App;
use crate::refusal::{Code, Refusal};

/// A refusal on its way to the asker.
pub(super) struct Refused {
    status: StatusCode,
    refusal: Box<Refusal>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.code.status());
        Self {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            refusal: Box::new(refusal),
        }
    }
}

impl Refused {
    /// With a status that says it more exactly than the code's.
    pub(super) fn with_status(refusal: Refusal, status: StatusCode) -> Self {
        Self {
            status,
            ..Self::from(refusal)
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(*self.refusal)).into_response()
    }
}

/// `body` with the node's generation as entity tag, `"42"`.
pub(super) fn tagged(status: StatusCode, generation: u64, body: &impl Serialize) -> Response {
    (status, [(ETAG, tag(generation))], Json(body)).into_response()
}

/// The entity tag of a generation.
pub(super) fn tag(generation: u64) -> String {
    format!("\"{generation}\"")
}

/// `GET /healthz`.
///
/// # Errors
/// 503 with the reasons if the engine does not do its work.
pub(super) async fn health(State(app): State<App>) -> Result<Response, Refused> {
    let published = app.engine.published();
    let health = &published.health;
    if health.ok {
        return Ok(Json(health).into_response());
    }
    let reason = if health.reasons.is_empty() {
        "the node has not been compared with the specs yet".to_owned()
    } else {
        health.reasons.join("; ")
    };
    let next = "see journalctl -u berth, and berth doctor for what the node lacks";
    Err(Refusal::new(
        Code::Unavailable,
        "agent",
        "keep the node as wished",
        reason,
        next,
    )
    .into())
}

/// Every path that is none of ours: 404.
pub(super) async fn no_such_path(uri: Uri) -> Refused {
    let next = "the paths are /v1/capacity, /v1/workloads, /v1/workloads/ID, \
        /v1/workloads/ID/explain, /v1/events, /v1/release, /metrics, /healthz";
    let path = uri.path();
    Refusal::new(
        Code::NotFound,
        path,
        "find it",
        "there is no such path",
        next,
    )
    .into()
}

/// Every method a path of ours has not: 405.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> Refused {
    let refusal = Refusal::new(
        Code::Invalid,
        uri.path(),
        format!("{method} it"),
        "the path does not have this method",
        "use one of the header Allow",
    );
    Refused::with_status(refusal, StatusCode::METHOD_NOT_ALLOWED)
}

/// A body of this content type that is no JSON document.
pub(super) fn plain(content_type: &'static str, body: impl IntoResponse) -> Response {
    ([(CONTENT_TYPE, content_type)], body).into_response()
}
