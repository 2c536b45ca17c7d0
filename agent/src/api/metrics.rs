//! `GET /metrics`, in the text form of OpenMetrics 1.0.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder,
    NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::answer::{self, Refused};
use super::{App, request::Asking};
use crate::engine::handle::{Published, Standing};
use crate::refusal::{Code, Refusal};

mod node;

/// Answered requests by method and status.
pub(super) type Requests = Family<Kind, Counter>;

/// A kind of answered request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Kind {
    method: &'static str,
    status: u16,
}

/// Counts what is answered.
pub(super) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = method(request.method());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    app.requests.get_or_create(&Kind { method, status }).inc();
    response
}

/// Its name; invented ones are one kind, so that nobody fills the memory with them.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::POST => "POST",
        _ => "other",
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(
    State(app): State<App>,
    uri: axum::http::Uri,
) -> Result<Response, Refused> {
    Asking::of(&uri, &[])?;
    let body = text(app.engine.published(), &app.requests).map_err(|error| {
        let (object, wish) = ("/metrics", "write the metrics");
        Refusal::new(
            Code::Unavailable,
            object,
            wish,
            error.to_string(),
            "ask again",
        )
    })?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(answer::plain(kind, body))
}

fn text(published: Arc<Published>, requests: &Requests) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("berth");
    registry.register("requests", "Answered requests", requests.clone());
    registry.register_collector(Box::new(Snapshot(published)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// What was published, as metrics.
#[derive(Debug)]
struct Snapshot(Arc<Published>);

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        let published = &*self.0;
        page.gauge("generation", "The node's generation", published.generation)?;
        workloads(&mut page, published)?;
        repairs(&mut page, published)?;
        reconciles(&mut page, published)?;
        node::capacity(&mut page, &published.capacity)
    }
}

fn workloads(page: &mut Page<'_>, published: &Published) -> fmt::Result {
    let views = || published.workloads.values();
    let states = Standing::ALL.map(|state| {
        let count = views().filter(|view| view.state == state).count();
        ([("state", state.as_str())], number(count))
    });
    page.gauges("workloads", "Workloads by state", states)?;
    let settings = views().map(|view| {
        let wrong = view.settings.iter().filter(|setting| !setting.ok).count();
        ([("workload", view.id.as_str())], number(wrong))
    });
    let help = "Settings of a workload that are not as wished";
    page.gauges("drifted_settings", help, settings)?;
    let conditions = views().map(|view| {
        (
            [("workload", view.id.as_str())],
            number(view.conditions.len()),
        )
    });
    page.gauges("conditions", "Conditions of a workload", conditions)
}

fn repairs(page: &mut Page<'_>, published: &Published) -> fmt::Result {
    let counters = &published.metrics;
    let repairs = published.workloads.values();
    let repairs = repairs.map(|view| ([("workload", view.id.as_str())], view.repairs));
    page.counters("repairs", "Settings of a workload put right", repairs)?;
    let help = "Settings that belong to no single workload put right";
    page.counter("node_repairs", help, counters.node_repairs)?;
    let help = "Repairs the kernel refused";
    page.counter("failed_repairs", help, counters.failed_repairs)?;
    let help = "Settings another program keeps setting";
    page.gauge("fights", help, counters.fights)?;
    let incomplete = counters.incomplete_rollbacks;
    let whole = counters.rollbacks.saturating_sub(incomplete);
    let rollbacks = [("whole", whole), ("incomplete", incomplete)];
    let rollbacks = rollbacks.map(|(result, count)| ([("result", result)], count));
    page.counters("rollbacks", "Requests taken back half-way", rollbacks)
}

fn reconciles(page: &mut Page<'_>, published: &Published) -> fmt::Result {
    let reconciles = &published.metrics.reconciles;
    let (name, help) = (
        "reconcile_duration",
        "Time to compare and repair everything",
    );
    let mut encoder = page.begin(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    let sum = reconciles.sum().as_secs_f64();
    let buckets = reconciles.buckets();
    encoder.encode_histogram::<NoLabelSet>(sum, reconciles.count(), &buckets, None)?;
    let health = &published.health;
    if let Some(last) = health.last_reconcile_unix {
        let help = "When everything was last compared, since 1970";
        let mut encoder = page.begin(
            "last_reconcile_timestamp",
            help,
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        encoder.encode_gauge(&last)?;
    }
    page.gauge(
        "healthy",
        "Whether the agent does its work",
        u64::from(health.ok),
    )
}

/// Where metrics are written to.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn begin<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.begin(name, help, None, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        let mut encoder = self.begin(name, help, None, MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// A gauge with labels.
    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, impl AsRef<str>); N], u64)>,
    ) -> fmt::Result {
        let mut encoder = self.begin(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            let labels = plain(&labels);
            encoder.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A counter with labels.
    fn counters<'v>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, &'v str); 1], u64)>,
    ) -> fmt::Result {
        let mut encoder = self.begin(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            let mut family = encoder.encode_family(&labels)?;
            family.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }
}

fn plain<'a, const N: usize>(
    labels: &'a [(&'static str, impl AsRef<str>); N],
) -> Vec<(&'static str, &'a str)> {
    labels
        .iter()
        .map(|(key, value)| (*key, value.as_ref()))
        .collect()
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
