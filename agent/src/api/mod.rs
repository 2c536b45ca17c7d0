//! The HTTP API on the agent's socket. `docs/openapi.json` describes it; here requests
//! are read, put to the engine and answered. Nothing is decided here but who may ask.

mod answer;
mod authority;
mod capacity;
mod events;
mod metrics;
mod request;
mod socket;
mod stream;
mod workloads;

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio::sync::watch;

use crate::engine::handle::{Handle, Peer};

pub(crate) use events::EventList;
pub(crate) use socket::{SOCKET, Socket};
pub(crate) use workloads::{Explanation, WorkloadList};

/// Largest body of a request, bytes.
const BODY_LIMIT: usize = 1 << 20;

/// How long requests under way may take once the agent is told to end.
const GRACE: Duration = Duration::from_secs(10);

/// What every route has.
#[derive(Clone)]
struct App {
    engine: Handle,
    requests: metrics::Requests,
    /// Becomes true when the agent ends: streams end with it.
    ending: watch::Receiver<bool>,
}

/// Serves until `stop` is over and the requests under way are answered. Streams end
/// at once, requests that take too long are cut off.
pub(crate) async fn serve(
    socket: Socket,
    engine: Handle,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let (end, mut ending) = watch::channel(false);
    let router = router(engine, ending.clone());
    let service = router.into_make_service_with_connect_info::<Peer>();
    let served = axum::serve(socket, service).with_graceful_shutdown(async move {
        stop.await;
        end.send_replace(true);
    });
    let too_long = async move {
        if ending.wait_for(|ending| *ending).await.is_ok() {
            tokio::time::sleep(GRACE).await;
        }
    };
    tokio::select! {
        result = served => if let Err(error) = result {
            log::error!("API: {error}");
        },
        () = too_long => log::warn!("API: requests were cut off after {} s", GRACE.as_secs()),
    }
}

fn router(engine: Handle, ending: watch::Receiver<bool>) -> Router {
    let app = App {
        engine,
        requests: metrics::Requests::default(),
        ending,
    };
    let workload = get(workloads::one)
        .put(workloads::put)
        .patch(workloads::patch)
        .delete(workloads::delete);
    Router::new()
        .route("/v1/capacity", get(capacity::report))
        .route("/v1/workloads", get(workloads::all))
        .route("/v1/workloads/{id}", workload)
        .route("/v1/workloads/{id}/explain", get(workloads::explain))
        .route("/v1/events", get(events::events))
        .route("/v1/release", post(workloads::release))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(answer::health))
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn(authority::judge))
        .layer(from_fn_with_state(app.clone(), metrics::count))
        .with_state(app)
}

#[cfg(test)]
pub(crate) mod tests;
