//! The routes over a real socket, with an engine that answers what it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;

use axum::http::{HeaderMap, Method, StatusCode};
use berth_kernel::Root;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

use super::*;
use crate::engine::events::{Event, Events};
use crate::engine::handle::{
    Asked, Change, Counters, Ends, Health, Message, Outcome, Published, Standing, View,
};
use crate::refusal::{Code, Refusal};

const ROOT: Peer = Peer {
    uid: 0,
    gid: 0,
    pid: 7,
};
const READER: Peer = Peer {
    uid: 1000,
    gid: 990,
    pid: 8,
};

pub(crate) fn view() -> View {
    let spec = json!({
        "id": "game-17", "target": {"cgroup": "/game-17"}, "cpu": {"cores": 4},
        "memory": {"max_bytes": 8_589_934_592_u64},
        "disk": [{"path": "/data/game-17", "limit_bytes": 1_073_741_824}],
        "io": [{"path": "/data", "weight": 300}, {"path": "/logs", "write_bytes_per_sec": 1024}],
    });
    serde_json::from_value(json!({
        "id": "game-17", "state": "active", "generation": 41, "spec": spec, "cgroup": "/game-17",
        "cpus": "2-5", "nodes": "0", "why": ["one node has room"], "repairs": 3,
        "settings": [
            {"object": "cpuset.cpus", "wished": "2-5", "live": "2-5", "ok": true},
            {"object": "memory.max", "wished": "8", "live": "max", "ok": false}],
        "conditions": [
            {"kind": "fight", "object": "memory.max", "effect": "no limit",
             "reason": "reset", "remedy": "stop it"}],
    }))
    .unwrap()
}

fn published(generation: u64) -> Published {
    let mut metrics = Counters::default();
    metrics.reconciles.observe(Duration::from_millis(3));
    (metrics.rollbacks, metrics.incomplete_rollbacks) = (3, 1);
    let capacity = json!({
        "generation": generation,
        "cpu": {"nodes": [{"node": 0, "cores_total": 8, "cores_exclusive_free": 3}]},
        "memory": {"nodes": [{"node": 0, "free_bytes": 9}]},
        "disks": [{"mount": "/data", "size_bytes": 7, "quota": {"enforced": true}}],
        "nics": [{"vfs": [{"state": "free"}, {"state": "free"}, {"state": "claimed"}]}],
    });
    Published {
        generation,
        capacity: Arc::new(capacity),
        workloads: BTreeMap::from([(view().id, view())]),
        metrics,
        health: Health {
            ok: true,
            reasons: vec![],
            last_reconcile_unix: Some(1_790_000_000),
        },
    }
}

type Replies = Box<dyn Fn(&Asked) -> Result<Outcome, Refusal> + Send>;

/// A served API.
pub(crate) struct Served {
    pub(crate) root: Root,
    publish: watch::Sender<Arc<Published>>,
    events: Events,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Option<oneshot::Sender<()>>,
    server: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Served {
    pub(crate) fn start(peer: Peer, replies: Replies) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let events = Events::starting_at(1);
        let (handle, ends) = Handle::new(published(42), events.clone());
        let Ends {
            messages,
            published: publish,
        } = ends;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        thread::spawn(move || {
            for message in messages {
                let Message::Ask(request) = message else {
                    continue;
                };
                let reply = replies(&request.asked);
                seen.lock().unwrap().push(request.asked);
                request.answer.send(reply).ok();
            }
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let socket = socket::tests::of_peer(&root, peer);
        let server = tokio::spawn(serve(socket, handle, async move {
            stopped.await.ok();
        }));
        let (stop, _dir) = (Some(stop), dir);
        Self {
            root,
            publish,
            events,
            asked,
            stop,
            server,
            _dir,
        }
    }

    async fn raw(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = UnixStream::connect(self.root.run.join("berth/agent.sock"))
            .await
            .unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    async fn ask(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Said {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "berth");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let response = self.raw(request).await;
        let (parts, body) = response.into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Said {
            status: parts.status,
            headers: parts.headers,
            text,
            body,
        }
    }

    async fn get(&self, path: &str) -> Said {
        self.ask(&format!("GET {path}"), &[], "").await
    }

    async fn stream(&self, path: &str) -> Incoming {
        let request = Request::builder().uri(path).header("host", "berth");
        let response = self.raw(request.body(Full::default()).unwrap()).await;
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        response.into_body()
    }

    fn last_asked(&self) -> Asked {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

struct Said {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    body: Value,
}

impl Said {
    fn refused(&self, status: u16, code: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.body["code"], code, "{}", self.text);
        for key in ["object", "wish", "reason", "next"] {
            assert!(
                self.body[key].as_str().is_some_and(|text| !text.is_empty()),
                "{}",
                self.text
            );
        }
    }
}

fn done(asked: &Asked) -> Result<Outcome, Refusal> {
    let is_delete = matches!(asked.change, Change::Delete { .. } | Change::ReleaseAll);
    Ok(Outcome {
        created: matches!(asked.change, Change::Put { .. }),
        generation: 43,
        plan: vec![],
        notes: vec![],
        workload: (!is_delete).then(view),
    })
}

fn served() -> Served {
    Served::start(ROOT, Box::new(done))
}

/// The next line of a stream.
async fn line(stream: &mut Incoming) -> Value {
    let frame = tokio::time::timeout(Duration::from_secs(10), stream.frame())
        .await
        .unwrap();
    serde_json::from_slice(&frame.unwrap().unwrap().into_data().unwrap()).unwrap()
}

#[tokio::test]
async fn the_report_is_tagged_with_its_generation() {
    let served = served();
    let said = served.get("/v1/capacity").await;
    assert_eq!(
        (said.status.as_u16(), &said.headers["etag"]),
        (200, &"\"42\"".parse().unwrap())
    );
    assert_eq!(said.body["generation"], 42);
    // The file run/berth/capacity.json is written so.
    assert_eq!(said.text, published(42).capacity.to_string());
    let same = served
        .ask("GET /v1/capacity", &[("if-none-match", "\"42\"")], "")
        .await;
    assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""));
    assert_eq!(same.headers["etag"], "\"42\"");
    let other = served
        .ask("GET /v1/capacity", &[("if-none-match", "\"41\"")], "")
        .await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn a_watched_report_comes_again_when_the_generation_changes_and_ends_with_the_agent() {
    let mut served = served();
    let mut stream = served.stream("/v1/capacity?watch").await;
    assert_eq!(line(&mut stream).await["generation"], 42);
    // The same generation is no news.
    served.publish.send_replace(Arc::new(published(42)));
    tokio::task::yield_now().await;
    served.publish.send_replace(Arc::new(published(44)));
    assert_eq!(line(&mut stream).await["generation"], 44);
    served.stop.take().unwrap().send(()).unwrap();
    assert!(stream.frame().await.is_none());
    served.server.await.unwrap();
    assert!(!served.root.run.join("berth/agent.sock").exists());
}

#[tokio::test]
async fn workloads_are_shown_and_explained() {
    let served = served();
    let all = served.get("/v1/workloads").await;
    assert_eq!(all.body["generation"], 42);
    assert_eq!(all.body["workloads"], json!([view()]));
    let one = served.get("/v1/workloads/game-17").await;
    assert_eq!(
        (one.body, &one.headers["etag"]),
        (json!(view()), &"\"42\"".parse().unwrap())
    );
    let why = served.get("/v1/workloads/game-17/explain").await.body;
    assert_eq!(
        (&why["why"][0], &why["cpus"]),
        (&json!("one node has room"), &json!("2-5"))
    );
    served
        .get("/v1/workloads/none")
        .await
        .refused(404, "not_found");
    served
        .get("/v1/workloads/none/explain")
        .await
        .refused(404, "not_found");
    served.get("/v1/workloads/A").await.refused(400, "invalid");
    served
        .get("/v1/workloads/%ff")
        .await
        .refused(400, "invalid");
}

#[tokio::test]
async fn changes_are_put_to_the_engine_as_asked() {
    let served = served();
    let path = "/v1/workloads/game-17";
    let id: crate::spec::WorkloadId = "game-17".parse().unwrap();
    let tag = [("if-match", "\"42\"")];
    let put = served
        .ask(&format!("PUT {path}"), &tag, r#"{"a": 1}"#)
        .await;
    assert_eq!(
        (put.status.as_u16(), &put.headers["etag"]),
        (201, &"\"43\"".parse().unwrap())
    );
    assert_eq!(put.headers["location"], path);
    let change = Change::Put {
        id: id.clone(),
        body: json!({"a": 1}),
    };
    let (if_match, dry_run, by) = (Some(42), false, ROOT);
    assert_eq!(
        served.last_asked(),
        Asked {
            change,
            if_match,
            dry_run,
            by
        }
    );
    let dry = served
        .ask(&format!("PUT {path}?dry_run=true"), &[], "{}")
        .await;
    assert_eq!(dry.status, 200);
    assert!(served.last_asked().dry_run && served.last_asked().if_match.is_none());
    let patch = served
        .ask(&format!("PATCH {path}"), &[], r#"{"cpu": null}"#)
        .await;
    assert_eq!(patch.status, 200);
    let change = Change::Patch {
        id: id.clone(),
        patch: json!({"cpu": null}),
    };
    assert_eq!(served.last_asked().change, change);
    let delete = served.ask(&format!("DELETE {path}"), &[], "").await;
    assert_eq!(
        (delete.status.as_u16(), &delete.body["workload"]),
        (200, &Value::Null)
    );
    assert_eq!(served.last_asked().change, Change::Delete { id });
    served.ask("POST /v1/release", &[], "").await;
    assert_eq!(served.last_asked().change, Change::ReleaseAll);
}

#[tokio::test]
async fn every_refusal_of_the_engine_has_its_status() {
    for (code, status) in [
        (Code::Invalid, 400),
        (Code::Forbidden, 403),
        (Code::NotFound, 404),
        (Code::DoesNotFit, 409),
        (Code::Conflict, 409),
        (Code::StaleGeneration, 412),
        (Code::Unsupported, 422),
        (Code::IfMatchRequired, 428),
        (Code::Kernel, 500),
        (Code::RollbackIncomplete, 500),
        (Code::Unavailable, 503),
    ] {
        let refusal = move |_: &Asked| Err(Refusal::new(code, "o", "w", "r", "n"));
        let served = Served::start(ROOT, Box::new(refusal));
        let said = served.ask("DELETE /v1/workloads/a", &[], "").await;
        said.refused(status, json!(code).as_str().unwrap());
    }
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused_in_the_same_form() {
    let served = served();
    let path = "/v1/workloads/a";
    served.get("/v2").await.refused(404, "not_found");
    let wrong = served.ask("POST /v1/capacity", &[], "").await;
    wrong.refused(405, "invalid");
    assert!(wrong.headers["allow"].to_str().unwrap().contains("GET"));
    served
        .ask(&format!("PUT {path}"), &[], "{")
        .await
        .refused(400, "invalid");
    served
        .ask(&format!("PUT {path}"), &[], "")
        .await
        .refused(400, "invalid");
    served
        .ask(&format!("PUT {path}?dryrun"), &[], "{}")
        .await
        .refused(400, "invalid");
    let yaml = [("content-type", "application/yaml")];
    served
        .ask(&format!("PUT {path}"), &yaml, "{}")
        .await
        .refused(415, "invalid");
    let tag = [("if-match", "*")];
    served
        .ask(&format!("DELETE {path}"), &tag, "")
        .await
        .refused(400, "invalid");
    let large = format!("\"{}\"", "x".repeat(BODY_LIMIT));
    served
        .ask(&format!("PUT {path}"), &[], &large)
        .await
        .refused(413, "invalid");
    let full = format!("\"{}\"", "x".repeat(BODY_LIMIT - 2));
    assert_eq!(
        served.ask(&format!("PUT {path}"), &[], &full).await.status,
        201
    );
    for query in [
        "/v1/events?since=x",
        "/v1/capacity?watch=2",
        "/v1/workloads?all",
        "/metrics?x",
    ] {
        served.get(query).await.refused(400, "invalid");
    }
    assert_eq!(served.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn who_is_not_root_may_only_read() {
    let served = Served::start(READER, Box::new(done));
    for path in [
        "/v1/capacity",
        "/v1/workloads/game-17",
        "/v1/events",
        "/metrics",
        "/healthz",
    ] {
        assert_eq!(served.get(path).await.status, 200, "{path}");
    }
    let path = "/v1/workloads/game-17";
    for line in ["PUT", "PATCH", "DELETE"].map(|method| format!("{method} {path}")) {
        served.ask(&line, &[], "{}").await.refused(403, "forbidden");
    }
    served
        .ask("POST /v1/release?dry_run", &[], "")
        .await
        .refused(403, "forbidden");
    assert!(served.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn events_are_listed_and_followed() {
    let served = served();
    for kind in ["put", "repair"] {
        served.events.push(Event::new(kind, "o", "w"));
    }
    let all = served.get("/v1/events").await.body;
    assert_eq!(
        (all["events"].as_array().unwrap().len(), &all["last"]),
        (2, &json!(2))
    );
    let rest = served.get("/v1/events?since=1").await.body;
    assert_eq!(rest["events"][0]["kind"], "repair");
    let none = served.get("/v1/events?since=2").await.body;
    assert_eq!(none, json!({"events": [], "last": 2}));
    let mut from = served.stream("/v1/events?watch&since=1").await;
    assert_eq!(line(&mut from).await["seq"], 2);
    let mut now = served.stream("/v1/events?watch").await;
    served.events.push(Event::new("lost", "o", "w"));
    assert_eq!(line(&mut from).await["kind"], "lost");
    assert_eq!(line(&mut now).await["seq"], 3);
}

#[tokio::test]
async fn health_is_the_engines() {
    let served = served();
    assert_eq!(served.get("/healthz").await.body["ok"], true);
    let health = Health {
        reasons: vec!["the disk is full".to_owned()],
        ..Health::default()
    };
    served.publish.send_replace(Arc::new(Published {
        health,
        ..published(42)
    }));
    let ill = served.get("/healthz").await;
    ill.refused(503, "unavailable");
    assert_eq!(ill.body["reason"], "the disk is full");
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let served = served();
    served.get("/v2").await;
    let said = served.get("/metrics").await;
    let kind = said.headers["content-type"].to_str().unwrap();
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    for line in [
        "berth_generation 42",
        "berth_workloads{state=\"active\"} 1",
        "berth_workloads{state=\"lost\"} 0",
        "berth_repairs_total{workload=\"game-17\"} 3",
        "berth_drifted_settings{workload=\"game-17\"} 1",
        "berth_conditions{workload=\"game-17\"} 1",
        "berth_rollbacks_total{result=\"whole\"} 2",
        "berth_rollbacks_total{result=\"incomplete\"} 1",
        "berth_reconcile_duration_seconds_count 1",
        "berth_reconcile_duration_seconds_bucket{le=\"0.005\"} 1",
        "berth_reconcile_duration_seconds_bucket{le=\"+Inf\"} 1",
        "berth_last_reconcile_timestamp_seconds 1790000000",
        "berth_healthy 1",
        "berth_requests_total{method=\"GET\",status=\"404\"} 1",
        "berth_cores{node=\"0\",state=\"total\"} 8",
        "berth_memory_bytes{node=\"0\",state=\"free\"} 9",
        "berth_cores{node=\"0\",state=\"exclusive_free\"} 3",
        "berth_disk_bytes{mount=\"/data\",state=\"size\"} 7",
        "berth_vfs{state=\"free\"} 2",
        "berth_node_conditions 0",
    ] {
        assert!(
            said.text.lines().any(|own| own == line),
            "{line} in\n{}",
            said.text
        );
    }
    assert!(said.text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_client_reads_what_the_server_says() {
    let refusal = |asked: &Asked| match asked.dry_run {
        true => done(asked),
        false => Err(
            Refusal::new(Code::DoesNotFit, "o", "w", "r", "n").lacking(vec![
                crate::refusal::Missing {
                    what: "cores".to_owned(),
                    asked: 4,
                    available: 2,
                },
            ]),
        ),
    };
    let served = Served::start(ROOT, Box::new(refusal));
    let root = served.root.clone();
    let client = tokio::task::spawn_blocking(move || {
        use crate::client::{Ask, Client, Refused};
        let client = Client::new(&root).unwrap();
        let answer = client.ask(&Ask::get("/v1/workloads/game-17")).unwrap();
        assert_eq!((answer.generation, answer.body), (Some(42), json!(view())));
        let put = |path: &str| Ask {
            if_match: Some(42),
            body: Some(json!({})),
            ..Ask::new(Method::PUT, path)
        };
        assert!(client.ask(&put("/v1/workloads/a?dry_run=true")).is_ok());
        let error = client.ask(&put("/v1/workloads/a")).unwrap_err();
        assert!(
            format!("{error:#}").ends_with("cores: asked 4, available 2"),
            "{error:#}"
        );
        assert_eq!(
            error.downcast_ref::<Refused>().unwrap().0.code,
            Code::DoesNotFit
        );
        let mut lines = Vec::new();
        let ended = client.follow("/v1/capacity?watch", &mut |line| {
            lines.push(line);
            anyhow::bail!("enough")
        });
        assert_eq!(ended.unwrap_err().to_string(), "enough");
        assert_eq!(lines[0]["generation"], 42);
        assert!(client.follow("/v1/nothing", &mut |_| Ok(())).is_err());
    });
    client.await.unwrap();
    assert_eq!(served.last_asked().if_match, Some(42));
    assert_eq!(view().state, Standing::Active);
}

#[tokio::test]
async fn the_description_has_only_what_there_is() {
    let served = served();
    let description: Value =
        serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
    let mut count = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in ["get", "put", "patch", "delete", "post"] {
            let line = format!(
                "{} {}",
                method.to_uppercase(),
                path.replace("{id}", "game-17")
            );
            let said = served.ask(&line, &[], "{}").await;
            let described = methods[method].is_object();
            assert_eq!(said.status != 405, described, "{line}: {}", said.text);
            if described {
                count += 1;
                let responses = methods[method]["responses"].as_object().unwrap();
                assert!(
                    responses.contains_key(said.status.as_str()),
                    "{line}: {}",
                    said.status
                );
            }
        }
    }
    assert_eq!(count, 11);
}
