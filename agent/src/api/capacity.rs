//! `GET /v1/capacity`.

use axum::extract::State;
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::answer::{self, Refused};
use super::request::{self, Asking};
use super::{App, stream};

/// The report, 304 if the asker has it; with `?watch` each from now on whose
/// generation is another one.
pub(super) async fn report(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    if Asking::of(&uri, &["watch"])?.switch("watch")? {
        return Ok(watch(&app, &headers));
    }
    let published = app.engine.published();
    let generation = published.generation;
    if request::known_to(&headers, generation) {
        let tag = [(ETAG, answer::tag(generation))];
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok(answer::tagged(
        StatusCode::OK,
        generation,
        &*published.capacity,
    ))
}

fn watch(app: &App, headers: &HeaderMap) -> Response {
    let mut published = app.engine.watch();
    let present = published.borrow().generation;
    let mut told = request::known_to(headers, present).then_some(present);
    stream::lines(app, move |lines| async move {
        loop {
            let now = published.borrow_and_update().clone();
            if told.replace(now.generation) != Some(now.generation)
                && !lines.write(&*now.capacity).await
            {
                return;
            }
            if published.changed().await.is_err() {
                return;
            }
        }
    })
}
