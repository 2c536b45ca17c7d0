//! Many schedulers that know an old state of the node book each core once.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_tests::{Context, Http, Node, Result, Test, Tree, anyhow, bail, ensure, test};
use serde_json::{Value, json};

use crate::kit::{Agent, NEEDS, SOCKET, cpus_of, generation_of, refused, taken};

pub(crate) fn tests() -> Vec<Test> {
    vec![test("each_core_is_booked_once", NEEDS, once).limit(Duration::from_secs(600))]
}

const CLIENTS: usize = 20;

/// All read the same generation first, so all but one are late; each tries again until
/// it has a core or there is none.
fn once(_node: &Node) -> Result<()> {
    let tree = Tree::create("berth-test-race")?;
    let agent = Agent::start()?;
    let stale = agent.generation()?;
    let mut specs = Vec::new();
    for n in 0..CLIENTS {
        let cgroup = tree.make(&format!("w{n}"))?;
        specs.push(json!({"target": {"cgroup": cgroup.name()}, "cpu": {"cores": 1}}));
    }
    let outcomes: Vec<Result<Booking>> = std::thread::scope(|scope| {
        let clients = specs
            .iter()
            .enumerate()
            .map(|(n, spec)| scope.spawn(move || book(&format!("w{n}"), spec, stale)));
        let clients: Vec<_> = clients.collect();
        let join = |client: std::thread::ScopedJoinHandle<'_, Result<Booking>>| {
            client.join().unwrap_or_else(|_| bail!("a client panicked"))
        };
        clients.into_iter().map(join).collect()
    });
    let mut booked = BTreeSet::new();
    let (mut winners, mut late) = (Vec::new(), 0);
    for outcome in outcomes {
        let Booking { id, cpus, stale } = outcome?;
        late += stale;
        if let Some(cpus) = cpus {
            ensure!(cpus.len() == 2, "{id} has {cpus:?}");
            ensure!(
                booked.is_disjoint(&cpus),
                "{cpus:?} of {id} is booked twice"
            );
            booked.extend(cpus);
            winners.push(id);
        }
    }
    ensure!(late >= CLIENTS - 1, "only {late} were late");
    ensure!(winners.len() >= 4, "only {winners:?} have a core");
    ensure!(winners.len() < CLIENTS, "there are not that many cores");
    for id in &winners {
        agent.settled(id)?;
    }
    let live = berth_tests::Cgroup::root().set("cpuset.cpus.effective")?;
    ensure!(live.is_disjoint(&booked), "the kernel shares {booked:?}");
    for id in &winners {
        agent.delete(id)?;
    }
    ensure!(tree.top().read("cpuset.cpus.exclusive")?.is_empty());
    Ok(())
}

struct Booking {
    id: String,
    /// Its CPUs, if it got any.
    cpus: Option<BTreeSet<u32>>,
    /// How often it was late.
    stale: usize,
}

fn book(id: &str, spec: &Value, first: u64) -> Result<Booking> {
    let http = Http::at(SOCKET);
    let mut generation = first;
    for stale in 0..1000 {
        let request = http.request("PUT", format!("/v1/workloads/{id}"));
        let request = request.header("if-match", format!("\"{generation}\""));
        let answer = request.json(spec).send()?;
        let cpus = match answer.status {
            412 => {
                refused(&answer, 412, "stale_generation", &[])?;
                generation = generation_of(&http.get("/v1/capacity")?)?;
                continue;
            }
            // More asked at once than wait: come again.
            503 => continue,
            409 => {
                refused(&answer, 409, "does_not_fit", &[])?;
                None
            }
            _ => Some(cpus_of(&taken(&answer)?)?),
        };
        let id = id.to_owned();
        return Ok(Booking { id, cpus, stale });
    }
    Err(anyhow!("{id} was late a thousand times")).context("no progress")
}
