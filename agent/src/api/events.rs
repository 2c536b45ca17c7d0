//! `GET /v1/events`.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::answer::Refused;
use super::request::Asking;
use super::{App, stream};
use crate::engine::events::Event;

/// What happened.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EventList {
    /// Oldest first.
    pub(crate) events: Vec<Event>,
    /// The number of the last one there is, for the next `since`.
    pub(crate) last: u64,
}

/// Those that are kept, after number `since` if given. With `?watch` one a line: those
/// after `since`, without it those from now on. A reader so slow that events were
/// forgotten sees it by a gap in the numbers.
pub(super) async fn events(State(app): State<App>, uri: Uri) -> Result<Response, Refused> {
    let asking = Asking::of(&uri, &["since", "watch"])?;
    let since = asking.number("since")?;
    if asking.switch("watch")? {
        return Ok(watch(&app, since));
    }
    let last = app.engine.events().last();
    let events = app.engine.events().since(since.unwrap_or(0));
    let last = events.last().map_or(last, |event| event.seq);
    Ok(Json(EventList { events, last }).into_response())
}

fn watch(app: &App, since: Option<u64>) -> Response {
    let events = app.engine.events().clone();
    let mut newest = events.subscribe();
    let mut told = since.unwrap_or_else(|| events.last());
    stream::lines(app, move |lines| async move {
        loop {
            newest.mark_unchanged();
            for event in events.since(told) {
                told = event.seq;
                if !lines.write(&event).await {
                    return;
                }
            }
            if newest.changed().await.is_err() {
                return;
            }
        }
    })
}
