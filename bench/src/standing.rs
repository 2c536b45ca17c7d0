//! What an ADD takes on a node that is nearly full.

use anyhow::Result;

use crate::bars::Bars;
use crate::count;
use crate::program::{Caller, Paths, Program, Work};
use crate::say;
use crate::stage::{Container, Stage, without_ipv6};
use crate::stats::{median, paired_ratio};

/// A bridge has room for 1023 ports.
const STANDING: usize = 1000;
const ROUNDS: usize = 40;
const WARM_UP: usize = 3;

/// A node with this many containers, IPv6 off.
struct Lane {
    caller: Caller,
    stage: Stage,
    standing: Vec<Container>,
    walls: Vec<f64>,
}

/// Measures ADD on an empty and a full node, and prints figures and bars.
///
/// # Errors
/// A program that fails, or that leaves something behind.
pub(crate) fn measure(paths: &Paths, bars: &mut Bars) -> Result<()> {
    say(&format!("{STANDING} containers standing, IPv6 off"));
    let mut lanes = [
        // The one keeps the bridge, as the thousand do.
        Lane::new(Program::Ours, 1, paths)?,
        Lane::new(Program::Ours, STANDING, paths)?,
        Lane::new(Program::Reference, STANDING, paths)?,
    ];
    for round in 0..ROUNDS + WARM_UP {
        for n in 0..lanes.len() {
            lanes[(round + n) % 3].round(STANDING + round)?;
        }
    }
    let calls = [lanes[0].calls()?, lanes[1].calls()?];
    for lane in &mut lanes {
        lane.walls.drain(..WARM_UP);
        let (program, standing) = (lane.caller.program, lane.standing.len());
        let wall = median(&lane.walls);
        say(&format!(
            "{program:?} beside {standing} containers: ADD {wall:.2} ms"
        ));
    }
    let [empty, full, reference] = &lanes;
    let growth = paired_ratio(&full.walls, &empty.walls);
    bars.at_most("bridge.standing.add.wall/empty", growth, 1.8);
    let more = calls[1].abs_diff(calls[0]);
    bars.at_most("bridge.standing.add.calls-more", more as f64, 2.0);
    let theirs = paired_ratio(&reference.walls, &full.walls);
    let name = format!("bridge.standing.{}.add.wall/ours", paths.reference_name());
    bars.at_least(&name, theirs, 7.0);
    lanes.into_iter().try_for_each(Lane::empty)
}

impl Lane {
    fn new(program: Program, standing: usize, paths: &Paths) -> Result<Self> {
        let label = format!("{program:?}-standing-{standing}");
        let caller = Caller::new(program, Work::L3, None, paths, &label);
        let stage = Stage::new()?;
        let standing = stage.enter(|| {
            without_ipv6()?;
            caller.prepare()?;
            let add = |n| {
                let container = Container::new(&format!("c{n}"), false)?;
                caller.add(n, &container)?;
                Ok(container)
            };
            (0..standing).map(add).collect::<Result<Vec<_>>>()
        })?;
        Ok(Self {
            caller,
            stage,
            standing,
            walls: Vec::new(),
        })
    }

    fn round(&mut self, n: usize) -> Result<()> {
        let Self {
            caller,
            stage,
            walls,
            ..
        } = self;
        stage.enter(|| {
            let container = Container::new(&format!("c{n}"), false)?;
            walls.push(caller.add(n, &container)?.wall);
            caller.verify(&container)?;
            caller.del(n, &container)?;
            container.remove()
        })
    }

    /// How many system calls an ADD makes here.
    fn calls(&self) -> Result<usize> {
        let n = 2 * STANDING;
        self.stage.enter(|| {
            let container = Container::new("counted", false)?;
            let command = self.caller.command("ADD", n, &container);
            let counted = count::of(&self.caller, &command)?;
            self.caller.del(n, &container)?;
            container.remove()?;
            Ok(counted.calls)
        })
    }

    fn empty(self) -> Result<()> {
        let Self {
            caller,
            stage,
            standing,
            ..
        } = self;
        stage.enter(|| {
            for (n, container) in standing.into_iter().enumerate() {
                caller.del(n, &container)?;
                container.remove()?;
            }
            caller.verify_nothing_left()
        })
    }
}
