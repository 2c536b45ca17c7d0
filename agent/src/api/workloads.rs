//! `/v1/workloads` and `/v1/release`.

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::Response;
use berth_kernel::CpuSet;
use serde::{Deserialize, Serialize};

use super::App;
use super::answer::{self, Refused};
use super::request::{Asking, Body, Id, Terms};
use crate::engine::handle::{Asked, Change, Condition, Published, Standing, View};
use crate::refusal::{Code, Refusal};
use crate::spec::WorkloadId;

/// Every workload.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WorkloadList {
    /// The node's generation.
    pub(crate) generation: u64,
    /// By name.
    pub(crate) workloads: Vec<View>,
}

/// Why a workload has what it has.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Explanation {
    /// Its name.
    pub(crate) id: WorkloadId,
    /// Where it is in its life.
    pub(crate) state: Standing,
    /// Its exclusive CPUs.
    pub(crate) cpus: Option<CpuSet>,
    /// The NUMA nodes of these.
    pub(crate) nodes: Option<CpuSet>,
    /// Why these, in sentences.
    pub(crate) why: Vec<String>,
    /// What is not as wished.
    pub(crate) conditions: Vec<Condition>,
}

/// `GET /v1/workloads`.
pub(super) async fn all(State(app): State<App>, uri: Uri) -> Result<Response, Refused> {
    Asking::of(&uri, &[])?;
    let published = app.engine.published();
    let list = WorkloadList {
        generation: published.generation,
        workloads: published.workloads.values().cloned().collect(),
    };
    Ok(answer::tagged(StatusCode::OK, list.generation, &list))
}

/// `GET /v1/workloads/{id}`.
pub(super) async fn one(State(app): State<App>, Id(id): Id, uri: Uri) -> Result<Response, Refused> {
    Asking::of(&uri, &[])?;
    let published = app.engine.published();
    let view = find(&published, &id)?;
    Ok(answer::tagged(StatusCode::OK, published.generation, view))
}

/// `GET /v1/workloads/{id}/explain`.
pub(super) async fn explain(
    State(app): State<App>,
    Id(id): Id,
    uri: Uri,
) -> Result<Response, Refused> {
    Asking::of(&uri, &[])?;
    let published = app.engine.published();
    let view = find(&published, &id)?.clone();
    let explanation = Explanation {
        id,
        state: view.state,
        cpus: view.cpus,
        nodes: view.nodes,
        why: view.why,
        conditions: view.conditions,
    };
    Ok(answer::tagged(
        StatusCode::OK,
        published.generation,
        &explanation,
    ))
}

fn find<'a>(published: &'a Published, id: &WorkloadId) -> Result<&'a View, Refused> {
    published.workloads.get(id).ok_or_else(|| {
        let object = format!("workload {id}");
        let next = "GET /v1/workloads lists those there are";
        Refusal::new(
            Code::NotFound,
            object,
            "find it",
            "there is none of this name",
            next,
        )
        .into()
    })
}

/// `PUT /v1/workloads/{id}`.
pub(super) async fn put(
    State(app): State<App>,
    Id(id): Id,
    terms: Terms,
    Body(body): Body,
) -> Result<Response, Refused> {
    ask(&app, terms.of(Change::Put { id, body })).await
}

/// `PATCH /v1/workloads/{id}`.
pub(super) async fn patch(
    State(app): State<App>,
    Id(id): Id,
    terms: Terms,
    Body(patch): Body,
) -> Result<Response, Refused> {
    ask(&app, terms.of(Change::Patch { id, patch })).await
}

/// `DELETE /v1/workloads/{id}`.
pub(super) async fn delete(
    State(app): State<App>,
    Id(id): Id,
    terms: Terms,
) -> Result<Response, Refused> {
    ask(&app, terms.of(Change::Delete { id })).await
}

/// `POST /v1/release`.
pub(super) async fn release(State(app): State<App>, terms: Terms) -> Result<Response, Refused> {
    ask(&app, terms.of(Change::ReleaseAll)).await
}

/// Asks the engine: 201 for a workload that is new, else 200.
async fn ask(app: &App, asked: Asked) -> Result<Response, Refused> {
    let dry_run = asked.dry_run;
    let outcome = app.engine.ask(asked).await?;
    let is_new = outcome.created && !dry_run;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = answer::tagged(status, outcome.generation, &outcome);
    if let (true, Some(view)) = (is_new, &outcome.workload)
        && let Ok(place) = HeaderValue::from_str(&format!("/v1/workloads/{}", view.id))
    {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(response)
}
