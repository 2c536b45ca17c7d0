//! Attachments that come and go for long, many at once: no error, and nothing left.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_tests::{
    Attachment, Context, Need, Node, Plugin, Pod, Result, Test, ensure, is_emulated, is_soak, test,
};
use serde_json::{Value, json};

use crate::gateway::forwarding;
use crate::kit::{conf, plugin, with};

pub(crate) fn tests() -> Vec<Test> {
    vec![test("adds_and_dels_for_long", &[Need::Root], soak).limit(Duration::from_secs(3600))]
}

/// How many at once.
const AT_ONCE: usize = 32;
/// ADDs, each with its DEL; all of them with `BERTH_SOAK=1`, and few on an emulated CPU,
/// which is what has VLANs here.
const CYCLES: usize = 10_000;
const REDUCED_CYCLES: usize = 500;
const EMULATED_CYCLES: usize = 64;
/// Each cycle of this number is checked before it ends.
const CHECKED: usize = 16;

/// A quarter has layer 2 only, a quarter a fixed address, a quarter one of a pool, and a
/// quarter a gateway and masquerade too, where the kernel has that.
fn conf_of(worker: usize) -> Value {
    let pool = json!({"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]});
    let address = format!("10.2.0.{}/24", worker + 1);
    let fixed = json!({"type": "static", "addresses": [{"address": address}]});
    let keys = match worker % 4 {
        0 => json!({}),
        1 => json!({"ipam": fixed, "addressConflict": "off", "mac": mac(worker)}),
        2 => json!({"ipam": pool}),
        _ => json!({"ipam": pool, "bridge": "br1", "isDefaultGateway": true,
            "ipMasq": Need::Nftables.check().is_ok()}),
    };
    let network = ["bare", "fixed", "pool", "nat"][worker % 4];
    conf(network, with(json!({"bridge": "br0"}), keys))
}

fn mac(worker: usize) -> String {
    format!("02:00:5e:20:00:{worker:02x}")
}

fn cycle(plugin: &Plugin, at: &Attachment, conf: &Value, number: usize) -> Result<()> {
    let result = plugin.add(at, conf)?;
    if number.is_multiple_of(CHECKED) {
        let later = with(conf.clone(), json!({"prevResult": result}));
        plugin.check(at, &later)?;
    }
    plugin.del(at, conf)
}

/// Takes cycles until there are none left.
fn work(pod: &Pod, worker: usize, left: &AtomicUsize) -> Result<()> {
    let (plugin, conf) = (plugin()?, conf_of(worker));
    let at = Attachment::of(pod, &format!("pod{worker}"), "eth0");
    let take = |left: usize| left.checked_sub(1);
    while let Ok(number) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
        let done = cycle(&plugin, &at, &conf, number);
        done.with_context(|| format!("{number} before the end, pod {worker}"))?;
    }
    Ok(())
}

fn soak(node: &Node) -> Result<()> {
    forwarding(node)?;
    let pods = (0..AT_ONCE).map(|n| node.pod(&format!("pod{n}")));
    let pods: Vec<Pod> = pods.collect::<Result<_>>()?;
    let cycles = match (is_soak(), is_emulated()) {
        (true, _) => CYCLES,
        (false, false) => REDUCED_CYCLES,
        (false, true) => EMULATED_CYCLES,
    };
    let left = AtomicUsize::new(cycles);
    // The pools stay, as everything of their networks does that is no lease.
    for (worker, pod) in pods.iter().enumerate().take(4) {
        work(pod, worker, &AtomicUsize::new(1))?;
    }
    let start = Instant::now();
    node.as_before(|| {
        std::thread::scope(|scope| {
            let each = pods.iter().enumerate();
            let workers: Vec<_> = each
                .map(|(worker, pod)| {
                    let left = &left;
                    scope.spawn(move || work(pod, worker, left))
                })
                .collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|_| panic!("a worker did")))
        })
    })?;
    ensure!(left.into_inner() == 0, "cycles are left");
    let took = start.elapsed().as_secs_f64();
    eprintln!("{cycles} cycles at {AT_ONCE} at once in {took:.1} s");
    Ok(())
}
