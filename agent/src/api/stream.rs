//! Answers without an end: one JSON document a line, until the asker leaves or the
//! agent ends.

use std::convert::Infallible;
use std::future::Future;

use axum::body::Bytes;
use axum::response::Response;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{App, answer};

/// Lines that may wait for a slow reader; then the writer waits.
const AHEAD: usize = 8;

/// Where the lines go.
pub(super) struct Lines(mpsc::Sender<Result<Bytes, Infallible>>);

impl Lines {
    /// Writes a line; false: nobody reads any more.
    pub(super) async fn write(&self, value: &impl Serialize) -> bool {
        let mut line = match serde_json::to_vec(value) {
            Ok(line) => line,
            Err(error) => {
                log::error!("API: a line of a stream cannot be written: {error}");
                return false;
            }
        };
        line.push(b'\n');
        self.0.send(Ok(line.into())).await.is_ok()
    }
}

/// The answer whose lines `produce` writes.
pub(super) fn lines<F>(app: &App, produce: impl FnOnce(Lines) -> F) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let (to, from) = mpsc::channel(AHEAD);
    let left = to.clone();
    let mut ending = app.ending.clone();
    let producing = produce(Lines(to));
    tokio::spawn(async move {
        tokio::select! {
            () = producing => {}
            () = left.closed() => {}
            // An error: the server is gone, which is an end as well.
            _ = ending.wait_for(|ending| *ending) => {}
        }
    });
    let body = axum::body::Body::from_stream(ReceiverStream::new(from));
    answer::plain("application/x-ndjson", body)
}
