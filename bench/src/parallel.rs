//! Many containers at once, as when a node comes back.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;

use crate::bars::Bars;
use crate::program::{Caller, Paths, Program, Work};
use crate::say;
use crate::stage::{Container, Stage};
use crate::stats::{median, paired_ratio, percentile};

const CONTAINERS: usize = 200;
const AT_ONCE: usize = 32;
const ROUNDS: usize = 5;

/// One fill of a node.
struct Fill {
    /// ADDs per second.
    rate: f64,
    /// Of a single ADD, ms.
    p90: f64,
}

/// Fills a node with each plugin in turn, and prints figures and bars.
///
/// # Errors
/// A program that fails, or that leaves something behind.
pub(crate) fn measure(paths: &Paths, bars: &mut Bars) -> Result<()> {
    say(&format!("{CONTAINERS} containers, {AT_ONCE} at once"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Each is first as often as second, but for one.
        if round % 2 == 0 {
            ours.push(fill(Program::Ours, paths)?);
            theirs.push(fill(Program::Reference, paths)?);
        } else {
            theirs.push(fill(Program::Reference, paths)?);
            ours.push(fill(Program::Ours, paths)?);
        }
    }
    let rates = |fills: &[Fill]| fills.iter().map(|fill| fill.rate).collect::<Vec<_>>();
    let p90s = |fills: &[Fill]| fills.iter().map(|fill| fill.p90).collect::<Vec<_>>();
    for (program, fills) in [(Program::Ours, &ours), (Program::Reference, &theirs)] {
        let (rate, p90) = (median(&rates(fills)), median(&p90s(fills)));
        say(&format!("{program:?}: {rate:.0} ADD/s, p90 {p90:.0} ms"));
    }
    let rate = paired_ratio(&rates(&ours), &rates(&theirs));
    let p90 = paired_ratio(&p90s(&ours), &p90s(&theirs));
    let reference = paths.reference_name();
    bars.at_least(&format!("bridge.parallel.add.rate/{reference}"), rate, 4.0);
    bars.at_most(&format!("bridge.parallel.add.p90/{reference}"), p90, 0.333);
    Ok(())
}

fn fill(program: Program, paths: &Paths) -> Result<Fill> {
    let caller = Caller::new(
        program,
        Work::L3,
        None,
        paths,
        &format!("{program:?}-parallel"),
    );
    let stage = Stage::new()?;
    stage.enter(|| {
        caller.prepare()?;
        let containers = (0..CONTAINERS)
            .map(|n| Container::new(&format!("c{n}"), true))
            .collect::<Result<Vec<_>>>()?;
        let start = Instant::now();
        let walls = at_once(&containers, |n, container| {
            Ok(caller.add(n, container)?.wall)
        })?;
        let rate = CONTAINERS as f64 / start.elapsed().as_secs_f64();
        containers
            .iter()
            .try_for_each(|container| caller.verify(container))?;
        at_once(&containers, |n, container| {
            Ok(caller.del(n, container)?.wall)
        })?;
        caller.verify_nothing_left()?;
        containers.into_iter().try_for_each(Container::remove)?;
        Ok(Fill {
            rate,
            p90: percentile(&walls, 90),
        })
    })
}

/// `act` on each container, by as many threads as there are to be calls at once.
fn at_once(
    containers: &[Container],
    act: impl Fn(usize, &Container) -> Result<f64> + Sync,
) -> Result<Vec<f64>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let worker = || -> Result<()> {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(container) = containers.get(n) else {
                return Ok(());
            };
            let value = act(n, container)?;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push(value);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}
