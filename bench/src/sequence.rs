//! One call after the other: what an ADD and a DEL take on an empty node.

use anyhow::Result;

use crate::bars::Bars;
use crate::program::{Caller, Program, Work};
use crate::run::Sample;
use crate::stage::{Container, Stage};
use crate::stats::{median, paired_ratio, percentile};
use crate::{Bridge, say};

/// Rounds at the start that do not count.
const WARM_UP: usize = 3;
/// The number of the container that stays.
const RESIDENT: usize = 9999;

/// A program on its stage with all that was measured of it. One container is there all the
/// time, so that nobody has to make and remove the bridge.
struct Lane {
    caller: Caller,
    stage: Stage,
    resident: Container,
    adds: Vec<Sample>,
    dels: Vec<Sample>,
}

/// The samples' wall times or processor times.
#[derive(Clone, Copy)]
enum Clock {
    Wall,
    Cpu,
}

impl Clock {
    fn of(self, samples: &[Sample]) -> Vec<f64> {
        let one = |sample: &Sample| match self {
            Self::Wall => sample.wall,
            Self::Cpu => sample.cpu,
        };
        samples.iter().map(one).collect()
    }
}

/// Measures each kind of work and prints figures and bars.
///
/// # Errors
/// A program that fails, or that leaves something behind.
pub(crate) fn measure(bridge: &Bridge, bars: &mut Bars) -> Result<()> {
    say("ms: median (p10-p90) of a call, start to end");
    for work in [Work::L2, Work::L3, Work::Masquerade] {
        let mut lanes = lanes(bridge, work)?;
        for round in 0..bridge.rounds + WARM_UP {
            let first = round % lanes.len();
            for n in 0..lanes.len() {
                let lane = (first + n) % lanes.len();
                lanes[lane].round(round)?;
            }
        }
        for lane in &mut lanes {
            lane.adds.drain(..WARM_UP);
            lane.dels.drain(..WARM_UP);
            lane.print(work);
        }
        compare(bridge, work, &lanes, bars);
        if work == Work::Masquerade {
            print_least(&lanes);
        }
        lanes.into_iter().try_for_each(Lane::end)?;
    }
    Ok(())
}

fn lanes(bridge: &Bridge, work: Work) -> Result<Vec<Lane>> {
    use Program::{Floor, Guarded, Nothing, Ours, Reference};
    let mut programs = vec![Nothing, Floor, Ours, Guarded, Reference];
    if work == Work::Masquerade {
        programs.remove(0);
    }
    let lane = |program: Program| {
        let label = format!("{program:?}-{}", work.name());
        let caller = Caller::new(program, work, bridge.vlan, &bridge.paths, &label);
        let stage = Stage::new()?;
        let resident = stage.enter(|| {
            caller.prepare()?;
            let container = Container::new("resident", true)?;
            caller.add(RESIDENT, &container)?;
            Ok(container)
        })?;
        let (adds, dels) = (Vec::new(), Vec::new());
        Ok(Lane {
            caller,
            stage,
            resident,
            adds,
            dels,
        })
    };
    programs.into_iter().map(lane).collect()
}

impl Lane {
    fn round(&mut self, n: usize) -> Result<()> {
        let Self {
            caller,
            stage,
            adds,
            dels,
            ..
        } = self;
        stage.enter(|| {
            let container = Container::new(&format!("c{n}"), true)?;
            adds.push(caller.add(n, &container)?);
            caller.verify(&container)?;
            dels.push(caller.del(n, &container)?);
            container.remove()
        })
    }

    fn end(self) -> Result<()> {
        let Self {
            caller,
            stage,
            resident,
            ..
        } = self;
        stage.enter(|| {
            caller.del(RESIDENT, &resident)?;
            resident.remove()?;
            caller.verify_nothing_left()
        })
    }

    fn print(&self, work: Work) {
        for (verb, samples) in [("ADD", &self.adds), ("DEL", &self.dels)] {
            let figure = |clock: Clock| {
                let all = clock.of(samples);
                let (low, high) = (percentile(&all, 10), percentile(&all, 90));
                format!("{:6.2} ({:.2}-{:.2})", median(&all), low, high)
            };
            let (wall, cpu) = (figure(Clock::Wall), figure(Clock::Cpu));
            let (work, program) = (work.name(), format!("{:?}", self.caller.program));
            say(&format!(
                "{work:4} {verb} {program:9} wall {wall:22} cpu {cpu}"
            ));
        }
    }
}

/// One bar: verb, clock, against whom, and the limit.
type Limit = (&'static str, Clock, Program, f64);

fn limits(work: Work) -> &'static [Limit] {
    use Clock::{Cpu, Wall};
    use Program::{Floor, Reference};
    match work {
        Work::L2 => &[
            ("add", Wall, Reference, 0.40),
            ("add", Cpu, Reference, 0.30),
            ("del", Cpu, Reference, 0.35),
        ],
        Work::L3 => &[
            ("add", Wall, Reference, 0.22),
            ("add", Cpu, Reference, 0.17),
            ("del", Cpu, Reference, 0.17),
            ("add", Wall, Floor, 1.8),
            ("add", Cpu, Floor, 1.7),
            ("del", Wall, Floor, 1.35),
        ],
        Work::Masquerade => &[
            ("add", Wall, Reference, 0.12),
            ("add", Cpu, Reference, 0.12),
            ("del", Wall, Reference, 0.25),
        ],
    }
}

/// What the kernel alone takes for the removal of a port, which no DEL can be below.
fn print_least(lanes: &[Lane]) {
    let walls = |program: Program| {
        let lane = lanes.iter().find(|lane| lane.caller.program == program);
        Clock::Wall.of(lane.map_or(&[][..], |lane| &lane.dels))
    };
    let least = paired_ratio(&walls(Program::Floor), &walls(Program::Reference));
    say(&format!(
        "masq DEL: the port's removal alone takes {least:.3} of the reference's wall time"
    ));
}

fn compare(bridge: &Bridge, work: Work, lanes: &[Lane], bars: &mut Bars) {
    let (place, slack) = match bridge.vlan {
        Some(_) => ("vlan", 2.0),
        None => ("untagged", 1.0),
    };
    for &(verb, clock, against, limit) in limits(work) {
        let values = |program: Program| {
            let lane = lanes.iter().find(|lane| lane.caller.program == program)?;
            let samples = if verb == "add" {
                &lane.adds
            } else {
                &lane.dels
            };
            Some(clock.of(samples))
        };
        let clock = if matches!(clock, Clock::Wall) {
            "wall"
        } else {
            "cpu"
        };
        let against_name = match against {
            Program::Reference => bridge.paths.reference_name(),
            _ => format!("{against:?}").to_lowercase(),
        };
        let name = format!(
            "bridge.{place}.{}.{verb}.{clock}/{against_name}",
            work.name()
        );
        match (values(Program::Ours), values(against)) {
            (Some(ours), Some(theirs)) => {
                bars.at_most(&name, paired_ratio(&ours, &theirs), limit * slack);
            }
            _ => bars.missing(&name, "not measured"),
        }
    }
}
