//! ADD put through every failure, in this process, and rollbacks that cannot finish.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Cursor, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use berth_cni::error::CniError;
use berth_cni::keys::KeySpec;
use berth_cni::request::{Call, GcRequest, Request};
use berth_cni::result::AddResult;
use berth_cni::run::{Io, Plugin};
use berth_kernel::Root;
use berth_state::testing::every_failure;
use berth_state::undo::{Faults, Undo};
use berth_tests::{Need, Node, Result, Space, Test, anyhow, ensure, test};
use cni_bridge_vlan::BridgeVlan;
use serde_json::Value;

use crate::scene::{BROKEN, Kind, LOST_ROUTE, Scene, ipam_answers, is_reduced, plugin};

pub(crate) fn tests() -> Vec<Test> {
    const HOST: &[Need] = &[Need::Root];
    const VLAN: &[Need] = &[Need::VlanFiltering];
    const GATEWAY: &[Need] = &[Need::VlanFiltering, Need::Vlan8021q];
    let long = Duration::from_secs(600);
    let mut all = vec![
        test("every_failure_vlan_with_uplink", VLAN, |node| {
            fails_everywhere(node, Kind::VlanUplink)
        }),
        test("every_failure_vlan_on_foreign_bridge", VLAN, |node| {
            fails_everywhere(node, Kind::VlanForeign)
        }),
        test("every_failure_vlan_on_shared_bridge", VLAN, |node| {
            fails_everywhere(node, Kind::VlanShared)
        }),
        test("every_failure_gateway_in_a_vlan", GATEWAY, |node| {
            fails_everywhere(node, Kind::VlanGateway)
        }),
        test("panic_is_rolled_back", HOST, panic_is_rolled_back),
        test(
            "undeliverable_result_is_rolled_back",
            HOST,
            undeliverable_result,
        ),
        test(
            "failing_inverse_is_told_and_del_finishes",
            HOST,
            failing_inverse,
        ),
        test("failing_del_can_be_repeated", HOST, failing_del),
    ];
    if !is_reduced() {
        all.extend(on_untagged_bridges());
    }
    all.into_iter().map(|test| test.limit(long)).collect()
}

fn on_untagged_bridges() -> [Test; 10] {
    const HOST: &[Need] = &[Need::Root];
    const RULES: &[Need] = &[Need::BridgeRules];
    [
        test("every_failure_rules", RULES, |node| {
            fails_everywhere(node, Kind::Ruled)
        }),
        test("every_failure_rules_beside_others", RULES, |node| {
            fails_everywhere(node, Kind::RuledBeside)
        }),
        test("every_failure_gateway", HOST, |node| {
            fails_everywhere(node, Kind::Gateway)
        }),
        test("every_failure_fresh_bridge", HOST, |node| {
            fails_everywhere(node, Kind::Fresh)
        }),
        test("every_failure_foreign_bridge", HOST, |node| {
            fails_everywhere(node, Kind::Foreign)
        }),
        test("every_failure_uplink_lent_to_a_bridge", HOST, |node| {
            fails_everywhere(node, Kind::ForeignUplink)
        }),
        test("every_failure_shared_bridge", HOST, |node| {
            fails_everywhere(node, Kind::Shared)
        }),
        test("every_failure_addresses", HOST, |node| {
            fails_everywhere(node, Kind::Addressed)
        }),
        test("every_failure_limits", &[Need::Shaping], |node| {
            fails_everywhere(node, Kind::Limited)
        }),
        test("every_failure_delegated_ipam", HOST, |node| {
            fails_everywhere(node, Kind::Delegated)
        }),
    ]
}

/// Codes of the plugin, as its documentation lists them.
const INCOMPLETE: u64 = 102;
const INTERNAL: u64 = 104;

fn fails_everywhere(node: &Node, kind: Kind) -> Result<()> {
    let scene = Scene::set(node, kind)?;
    let whole_node = node.snapshot()?;
    // Nothing happens between the end of one attempt and the start of the next.
    let known: RefCell<Option<Vec<String>>> = RefCell::new(None);
    let wrong = RefCell::new(Vec::new());
    let observe = || {
        let mut known = known.borrow_mut();
        known
            .get_or_insert_with(|| {
                scene
                    .changes()
                    .unwrap_or_else(|error| vec![format!("cannot look at the node: {error:#}")])
            })
            .clone()
    };
    let attempt = |faults: Faults| {
        known.replace(None);
        let plugin = BridgeVlan::new(Root::host()).failing(faults.clone());
        let outcome = call(&plugin, "ADD", &scene);
        if let Err(error) = &outcome
            && error["code"] != INTERNAL
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
    ensure!(steps >= 8, "only {steps} steps were made to fail");
    eprintln!("{steps} steps failed on both sides");
    assert_eq!(result["interfaces"][2]["name"], "eth0");
    ensure!(scene.pod.has_link("eth0")?, "no interface in the pod");
    ensure!(!scene.changes()?.is_empty(), "an ADD that changed nothing");
    call(&BridgeVlan::new(Root::host()), "DEL", &scene).map_err(|error| anyhow!("{error}"))?;
    scene.must_be_as_before("DEL")?;
    whole_node.must_equal(&node.snapshot()?)
}

/// Adds, then panics.
struct Panics(BridgeVlan);

impl Plugin for Panics {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn version(&self) -> &str {
        self.0.version()
    }
    fn keys(&self) -> &[KeySpec] {
        self.0.keys()
    }
    fn add(&self, request: &Request, undo: &mut Undo) -> Result<AddResult, CniError> {
        self.0.add(request, undo)?;
        panic!("on purpose");
    }
    fn del(&self, request: &Request) -> Result<(), CniError> {
        self.0.del(request)
    }
    fn check(&self, request: &Request) -> Result<(), CniError> {
        self.0.check(request)
    }
    fn status(&self, call: &Call) -> Result<(), CniError> {
        self.0.status(call)
    }
    fn gc(&self, request: &GcRequest) -> Result<(), CniError> {
        self.0.gc(request)
    }
}

fn panic_is_rolled_back(node: &Node) -> Result<()> {
    let scene = Scene::set(node, Kind::Addressed)?;
    let outcome = call(&Panics(BridgeVlan::new(Root::host())), "ADD", &scene);
    let error = outcome.err().unwrap_or_default();
    assert_eq!(error["code"], INTERNAL, "{error}");
    ensure!(error["msg"].to_string().contains("on purpose"), "{error}");
    scene.must_be_as_before("an ADD that panicked")
}

/// A pipe whose reader went away.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn undeliverable_result(node: &Node) -> Result<()> {
    let scene = Scene::set(node, Kind::Delegated)?;
    let io = Io {
        stdout: Box::new(Closed),
        ..io(&scene, "ADD", &Rc::default())
    };
    assert_eq!(berth_cni::run::run(&BridgeVlan::new(Root::host()), io), 1);
    scene.must_be_as_before("an ADD nobody heard the result of")
}

/// By the built plugin: a record of this process's own would wait for its end.
fn failing_inverse(node: &Node) -> Result<()> {
    let scene = Scene::set(node, Kind::Delegated)?;
    let plugin = plugin()?;
    ipam_answers(LOST_ROUTE)?;
    let error = plugin
        .call("ADD", &scene.attachment, &scene.conf)?
        .failure()?;
    assert_eq!(error.code, 100, "{error:?}");
    ensure!(error.msg.contains("10.20.0.0/16"), "{error:?}");
    scene.must_be_as_before("an ADD the kernel refused")?;

    fs::write(BROKEN, "")?;
    let error = plugin
        .call("ADD", &scene.attachment, &scene.conf)?
        .failure()?;
    assert_eq!(error.code, INCOMPLETE, "{error:?}");
    let all = format!("{} {}", error.msg, error.details);
    for part in ["10.20.0.0/16", "IPAM", "the pool is offline", "run DEL"] {
        ensure!(all.contains(part), "{part:?} is not in {error:?}");
    }
    let record = scene.record();
    ensure!(
        record.is_some_and(|r| r["phase"] == "prepared"),
        "no record of what is left"
    );
    ensure!(
        !node.has_link("br0")?,
        "one inverse that fails keeps the others from being done"
    );
    del_goes_on_where_it_stopped(&scene)
}

fn failing_del(node: &Node) -> Result<()> {
    let scene = Scene::set(node, Kind::Delegated)?;
    plugin()?.add(&scene.attachment, &scene.conf)?;
    fs::write(BROKEN, "")?;
    del_goes_on_where_it_stopped(&scene)
}

fn del_goes_on_where_it_stopped(scene: &Scene) -> Result<()> {
    for _ in 0..2 {
        let reply = plugin()?.call("DEL", &scene.attachment, &scene.conf)?;
        let error = reply.failure()?;
        assert_eq!(error.code, INCOMPLETE, "{error:?}");
        ensure!(error.msg.contains("the pool is offline"), "{error:?}");
        ensure!(
            scene.record().is_some(),
            "the record went with a failed DEL"
        );
        let left = scene.changes()?;
        ensure!(
            left.iter().all(|line| line.contains("file /")),
            "DEL did not go on past the failed step: {left:?}"
        );
    }
    fs::remove_file(BROKEN)?;
    plugin()?.del(&scene.attachment, &scene.conf)?;
    scene.must_be_as_before("DEL with the pool back")
}

/// Standard output as a value.
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

fn io(scene: &Scene, verb: &str, said: &Rc<RefCell<Vec<u8>>>) -> Io {
    let attachment = &scene.attachment;
    let text = |path: &Option<std::path::PathBuf>| {
        let path = path.as_deref().unwrap_or(std::path::Path::new(""));
        path.display().to_string()
    };
    let env = [
        ("CNI_COMMAND", verb.to_owned()),
        ("CNI_CONTAINERID", attachment.container_id.clone()),
        ("CNI_NETNS", text(&attachment.netns)),
        ("CNI_IFNAME", attachment.ifname.clone()),
        ("CNI_PATH", text(&attachment.cni_path)),
        ("PATH", std::env::var("PATH").unwrap_or_default()),
    ];
    let env: BTreeMap<String, String> = env.map(|(k, v)| (k.to_owned(), v)).into();
    let stdin: Box<dyn Read> = Box::new(Cursor::new(scene.conf.to_string()));
    Io {
        env,
        stdin,
        stdout: Box::new(Said(Rc::clone(said))),
        stderr: Box::new(io::stderr()),
    }
}

/// One call in this process: the result, or the error document.
fn call(plugin: &dyn Plugin, verb: &str, scene: &Scene) -> Result<Value, Value> {
    let said = Rc::default();
    let status = berth_cni::run::run(plugin, io(scene, verb, &said));
    let document = serde_json::from_slice(&said.borrow()).unwrap_or_default();
    if status == 0 {
        Ok(document)
    } else {
        Err(document)
    }
}
