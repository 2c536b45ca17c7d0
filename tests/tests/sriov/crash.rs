//! kill -9 at the system calls by which ADD or DEL changes something, then DEL; and
//! every step of an ADD made to fail: the VF is as it was.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Cursor, Write};
use std::rc::Rc;
use std::time::Duration;

use berth_cni::run::Io;
use berth_kernel::Root;
use berth_state::testing::every_failure;
use berth_state::undo::Faults;
use berth_tests::{
    Attachment, Context, Look, Need, Pod, Port, Result, Side, Space, Strike, Test, anyhow, ensure,
    is_soak, test,
};
use cni_sriov::Sriov;
use serde_json::{Value, json};

use crate::kit::{IFNAME, of_vf, plugin};
use crate::stage::{Case, Stage};

pub(crate) fn tests() -> Vec<Test> {
    const NEEDS: &[Need] = &[Need::Sriov, Need::Ptrace];
    vec![
        test("killed_and_failed_anywhere", NEEDS, |node| {
            Stage::set(node, &[(Port::Pf0, 1)])?.run(&CASES)
        })
        .at_home()
        .limit(Duration::from_secs(7200)),
    ]
}

const CASES: [Case; 3] = [
    ("kill_with_mac", |stage| killed(stage, Kind::Mac)),
    ("kill_without_mac", |stage| killed(stage, Kind::Plain)),
    ("fail_every_step", every_step),
];

/// What is wished of the VF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Everything but a MAC address.
    Plain,
    /// One too, for which the driver is bound anew.
    Mac,
}

impl Kind {
    fn conf(self, stage: &Stage<'_>) -> Value {
        let ipam = json!({"type": "static", "addresses": [{"address": "10.1.0.1/24"}],
            "routes": [{"dst": "10.8.0.0/16", "gw": "10.1.0.254"}]});
        let mut keys = json!({"vlan": 100, "vlanQoS": 1, "trust": "on", "spoofchk": "off",
            "max_tx_rate": 90, "mtu": 2000, "promisc": true, "announce": false,
            "rps": {"cpus": "2-3", "flowEntries": 64}, "irq": {"policy": "cpus", "cpus": "5"},
            "ipam": ipam});
        if self == Self::Mac {
            keys["mac"] = json!("02:00:5e:10:00:51");
        }
        of_vf(&stage.vfs[0], keys)
    }

    /// How many places of ADD and of DEL are struck.
    fn places(self) -> [usize; 2] {
        match self {
            _ if is_soak() => [usize::MAX; 2],
            Self::Plain => [18, 12],
            Self::Mac => [8, 5],
        }
    }
}

/// One attachment, ready to be added.
struct Scene<'s> {
    stage: &'s Stage<'s>,
    pod: Pod,
    at: Attachment,
    conf: Value,
    /// Strikes that came too late.
    missed: Cell<usize>,
}

impl<'s> Scene<'s> {
    fn set(stage: &'s Stage<'s>, kind: Kind) -> Result<Self> {
        let pod = stage.node.pod("pod")?;
        let at = Attachment::of(&pod, "c1", IFNAME);
        Ok(Self {
            stage,
            pod,
            at,
            conf: kind.conf(stage),
            missed: Cell::new(0),
        })
    }

    /// What is not as it was, of the VF, Berth's files and the pod.
    fn changes(&self, look: Look) -> Result<Vec<String>> {
        let mut changes = self.stage.changes(look)?;
        let inside = self.pod.link_names()?;
        if inside != ["lo"] {
            changes.push(format!("  + in the pod: {inside:?}"));
        }
        Ok(changes)
    }

    fn must_be_as_before(&self, after: &dyn fmt::Display) -> Result<()> {
        let changes = self.changes(Look::Short)?;
        ensure!(
            changes.is_empty(),
            "after {after} the VF is not as before:\n{}",
            changes.join("\n")
        );
        Ok(())
    }
}

/// A strike as a message names it.
struct At<'a>(&'a str, Strike, &'a [String]);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(verb, strike, calls) = self;
        let side = match strike.side {
            Side::Before => "before",
            Side::After => "after",
        };
        let call = calls.get(strike.call).map_or("?", String::as_str);
        let of = calls.len();
        write!(
            f,
            "{verb} killed {side} call {} of {of} ({call})",
            strike.call
        )
    }
}

fn killed(stage: &Stage<'_>, kind: Kind) -> Result<()> {
    let scene = Scene::set(stage, kind)?;
    let adds = plugin()?.changing_calls("ADD", &scene.at, &scene.conf)?;
    ensure!(scene.pod.has_link(IFNAME)?, "no interface in the pod");
    let dels = plugin()?.changing_calls("DEL", &scene.at, &scene.conf)?;
    scene.must_be_as_before(&"ADD and DEL, traced")?;
    let [in_add, in_del] = kind.places();
    let mut failed = Vec::new();
    let start = std::time::Instant::now();
    let all = strikes(&adds, in_add).len() + strikes(&dels, in_del).len();
    for (number, strike) in strikes(&adds, in_add).into_iter().enumerate() {
        let at = At("ADD", strike, &adds);
        let outcome = if number % 4 == 3 {
            add_then_add(&scene, strike, &at)
        } else {
            add_then_del(&scene, strike, &at)
        };
        note(&scene, outcome, &mut failed)?;
    }
    for strike in strikes(&dels, in_del) {
        let at = At("DEL", strike, &dels);
        note(&scene, del_then_del(&scene, strike, &at), &mut failed)?;
    }
    eprintln!(
        "{} changing calls in ADD, {} in DEL; struck for {:.1} s",
        adds.len(),
        dels.len(),
        start.elapsed().as_secs_f64()
    );
    let missed = scene.missed.get();
    ensure!(missed * 4 <= all, "{missed} of {all} strikes came too late");
    ensure!(
        failed.is_empty(),
        "{} of them failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
    Ok(())
}

/// Each failure is told once: what it left is put right before the next.
fn note(scene: &Scene<'_>, outcome: Result<()>, failed: &mut Vec<String>) -> Result<()> {
    let Err(error) = outcome else { return Ok(()) };
    failed.push(format!("{error:#}"));
    plugin()?.call("DEL", &scene.at, &scene.conf)?;
    let left = scene.changes(Look::Short)?;
    ensure!(
        left.is_empty(),
        "cannot go on, another DEL does not help either:\n{}\nbefore that:\n{}",
        left.join("\n"),
        failed.join("\n")
    );
    Ok(())
}

/// Which of these calls are struck: every one and both sides if there is room for all;
/// else some spread over the whole. What only writes a log line or a lock is left out.
fn strikes(calls: &[String], room: usize) -> Vec<Strike> {
    let counts = |call: &&String| {
        let idle = ["/berth/locks/", "/dev/", "pipe:", "descriptor "];
        !idle.iter().any(|part| call.contains(part))
    };
    let mut places: Vec<usize> = (0..calls.len()).filter(|at| counts(&&calls[*at])).collect();
    if room == usize::MAX {
        let both = places
            .iter()
            .flat_map(|call| [Side::Before, Side::After].map(|side| Strike { call: *call, side }));
        return both.collect();
    }
    let last = places.last().copied();
    let step = places.len().div_ceil(room).max(1);
    // A kill after a call is one before the next, but for the last.
    places = places.into_iter().step_by(step).collect();
    let before = places.into_iter().map(|call| Strike {
        call,
        side: Side::Before,
    });
    let after = last.map(|call| Strike {
        call,
        side: Side::After,
    });
    before.chain(after).collect()
}

fn kill(scene: &Scene<'_>, verb: &str, strike: Strike, at: &At<'_>) -> Result<()> {
    let traced = plugin()?.traced(verb, &scene.at, &scene.conf, Some(strike))?;
    if !traced.struck {
        // The kernel's answers decide how many calls there are: a driver that is bound
        // anew, a poll. A run that was over before its place is one more whole run.
        let end = &traced.finished;
        let over = (end.status, traced.calls.len());
        ensure!(end.status.success(), "{at}: not struck: {over:?}");
        eprintln!("{at}: it was over after {} calls", over.1);
        scene.missed.set(scene.missed.get() + 1);
    }
    Ok(())
}

fn del(scene: &Scene<'_>, at: &At<'_>) -> Result<()> {
    plugin()?
        .del(&scene.at, &scene.conf)
        .with_context(|| format!("DEL after {at}"))
}

fn add_then_del(scene: &Scene<'_>, strike: Strike, at: &At<'_>) -> Result<()> {
    kill(scene, "ADD", strike, at)?;
    del(scene, at)?;
    scene.must_be_as_before(&format_args!("{at}, and DEL,"))
}

/// What the runtime was never told of is added again; an ADD that was killed when all
/// was done stands, and the next is refused.
fn add_then_add(scene: &Scene<'_>, strike: Strike, at: &At<'_>) -> Result<()> {
    kill(scene, "ADD", strike, at)?;
    let file = crate::kit::record_file("net", "c1");
    let record: Value = std::fs::read(file)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let reply = plugin()?.call("ADD", &scene.at, &scene.conf)?;
    if record["phase"] == "committed" {
        let error = reply.failure().with_context(|| format!("ADD after {at}"))?;
        ensure!(error.code == 7, "ADD after {at}: {error:?}");
    } else {
        let result = reply.result();
        result.with_context(|| format!("ADD after {at}"))?;
        ensure!(scene.pod.has_link(IFNAME)?, "ADD after {at} made nothing");
    }
    del(scene, at)?;
    scene.must_be_as_before(&format_args!("{at}, ADD again and DEL,"))
}

fn del_then_del(scene: &Scene<'_>, strike: Strike, at: &At<'_>) -> Result<()> {
    plugin()?.add(&scene.at, &scene.conf)?;
    kill(scene, "DEL", strike, at)?;
    del(scene, at)?;
    scene.must_be_as_before(&format_args!("{at}, and DEL,"))
}

/// In this process: each step of ADD fails before its action, and once half-way.
fn every_step(stage: &Stage<'_>) -> Result<()> {
    let scene = Scene::set(stage, if is_soak() { Kind::Mac } else { Kind::Plain })?;
    // Nothing happens between the end of one attempt and the start of the next.
    let known: RefCell<Option<Vec<String>>> = RefCell::new(None);
    let wrong = RefCell::new(Vec::new());
    let observe = || {
        let mut known = known.borrow_mut();
        let look = || scene.changes(Look::Short);
        known
            .get_or_insert_with(|| {
                look().unwrap_or_else(|error| vec![format!("cannot look: {error:#}")])
            })
            .clone()
    };
    let attempt = |faults: Faults| {
        known.replace(None);
        let outcome = call(&Sriov::new(Root::host()).failing(faults), "ADD", &scene);
        if let Err(error) = &outcome
            && error["code"] != 104
        {
            wrong.borrow_mut().push(error.to_string());
        }
        outcome.map_err(|error| error.to_string())
    };
    let (steps, result) = every_failure(observe, attempt)?;
    ensure!(
        wrong.borrow().is_empty(),
        "answered otherwise than with the fault: {:?}",
        wrong.borrow()
    );
    ensure!(steps >= 12, "only {steps} steps were made to fail");
    eprintln!("{steps} steps failed on both sides");
    assert_eq!(result["interfaces"][0]["name"], IFNAME);
    call(&Sriov::new(Root::host()), "DEL", &scene).map_err(|error| anyhow!("{error}"))?;
    scene.must_be_as_before(&"DEL")
}

/// One call in this process: the result, or the error document.
fn call(plugin: &Sriov, verb: &str, scene: &Scene<'_>) -> Result<Value, Value> {
    let said = Said::default();
    let netns = scene.pod.path().display().to_string();
    let env = [
        ("CNI_COMMAND", verb.to_owned()),
        ("CNI_CONTAINERID", scene.at.container_id.clone()),
        ("CNI_NETNS", netns),
        ("CNI_IFNAME", scene.at.ifname.clone()),
        ("PATH", std::env::var("PATH").unwrap_or_default()),
    ];
    let env: BTreeMap<String, String> = env.map(|(k, v)| (k.to_owned(), v)).into();
    let status = berth_cni::run::run(
        plugin,
        Io {
            env,
            stdin: Box::new(Cursor::new(scene.conf.to_string())),
            stdout: Box::new(said.clone()),
            stderr: Box::new(io::stderr()),
        },
    );
    let document = serde_json::from_slice(&said.0.borrow()).unwrap_or_default();
    if status == 0 {
        Ok(document)
    } else {
        Err(document)
    }
}

/// What was written to it.
#[derive(Clone, Default)]
struct Said(Rc<RefCell<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
