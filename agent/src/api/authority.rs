//! Who may do what: whoever can open the socket may read, root may write.

use axum::extract::{ConnectInfo, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::Refused;
use crate::engine::handle::Peer;
use crate::refusal::{Code, Refusal};

/// Lets through what the peer may ask.
pub(super) async fn judge(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match may(peer, request.method()) {
        true => next.run(request).await,
        false => forbidden(peer, &request).into_response(),
    }
}

/// Whether `peer` may use `method`.
fn may(peer: Peer, method: &Method) -> bool {
    peer.uid == 0 || matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn forbidden(peer: Peer, request: &Request) -> Refused {
    let Peer { uid, pid, .. } = peer;
    let reason = format!("process {pid} has user id {uid}; only user 0 may change something");
    Refusal::new(
        Code::Forbidden,
        request.uri().path(),
        format!("{} it", request.method()),
        reason,
        "ask as root",
    )
    .into()
}
