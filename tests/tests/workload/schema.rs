//! What the agent answers is what its published schemas say.

use berth_tests::{Node, Result, Test, Tree, anyhow, ensure, test};
use serde_json::{Value, json};

use crate::kit::{Agent, Home, MIB, NEEDS};

const OPENAPI: &str = include_str!("../../../docs/openapi.json");
const CAPACITY: &str = include_str!("../../../docs/capacity.schema.json");

pub(crate) fn tests() -> Vec<Test> {
    vec![test("answers_are_as_published", NEEDS, answers)]
}

fn answers(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-schema")?;
    let home = Home::make(&tree, "game")?;
    let agent = Agent::start()?;
    let spec = home.spec(json!({
        "cpu": {"cores": 1}, "memory": {"max_bytes": 64 * MIB},
        "io": [{"path": "/data/xfs", "write_bytes_per_sec": 5 * MIB}],
    }));
    let created = agent.put("game", &spec)?.expect(201)?;
    is_valid(&component("Outcome")?, &created, "PUT")?;
    for (path, name) in [
        ("/v1/workloads", "WorkloadList"),
        ("/v1/workloads/game", "Workload"),
        ("/v1/workloads/game/explain", "Explanation"),
        ("/v1/events", "EventList"),
        ("/v1/capacity", "Capacity"),
        ("/healthz", "Health"),
    ] {
        is_valid(&component(name)?, &agent.http.get(path)?.expect(200)?, path)?;
    }
    let report = agent.http.get("/v1/capacity")?.expect(200)?;
    is_valid(&serde_json::from_str(CAPACITY)?, &report, "the report")?;
    ensure!(report["schema"] == 1, "{report}");
    let refused = agent.put("game", &json!({"cpu": {"cors": 1}}))?;
    is_valid(&component("Refusal")?, &refused.expect(400)?, "a refusal")?;
    // The schemas can say no.
    let validator = validator(&component("Refusal")?)?;
    ensure!(
        !validator.is_valid(&json!({"code": 7})),
        "anything is valid"
    );
    agent.delete("game")
}

/// The schema of one of the description's components.
fn component(name: &str) -> Result<Value> {
    let openapi: Value = serde_json::from_str(OPENAPI)?;
    ensure!(
        openapi["components"]["schemas"][name].is_object(),
        "no {name}"
    );
    Ok(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": format!("#/components/schemas/{name}"),
        "components": openapi["components"],
    }))
}

fn validator(schema: &Value) -> Result<jsonschema::Validator> {
    jsonschema::validator_for(schema).map_err(|error| anyhow!("no schema: {error}"))
}

fn is_valid(schema: &Value, answer: &Value, what: &str) -> Result<()> {
    let validator = validator(schema)?;
    let wrong: Vec<String> = validator
        .iter_errors(answer)
        .map(|error| error.to_string())
        .collect();
    ensure!(wrong.is_empty(), "{what}: {}: {answer}", wrong.join("; "));
    Ok(())
}
