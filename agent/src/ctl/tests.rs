use serde_json::json;

use super::*;
use crate::api::Explanation;
use crate::cli::ResizeArgs;
use crate::engine::handle::{Outcome, PlannedStep, View};

fn view() -> View {
    crate::api::tests::view()
}

fn told(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_table_has_what_each_has_and_the_conditions_in_full() {
    let text = told(|out| get::text(&[view()], out));
    let lines: Vec<_> = text.lines().collect();
    let head = lines[0].split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(head, "ID STATE CPUS MEMORY DISK IO REPAIRS CONDITIONS");
    let row = lines[1].split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        row,
        "game-17 active 2-5 8GiB /data/game-17=1GiB /data=weight 300, /logs=write 1KiB/s 3 fight"
    );
    assert_eq!(
        lines[2..],
        [
            "game-17: fight: memory.max",
            "  reason: reset",
            "  next:   stop it"
        ]
    );
}

#[test]
fn only_what_differs_is_told() {
    let mut view = view();
    let mut differs = false;
    let text = told(|out| {
        differs = diff::text(&[view.clone()], out)?;
        Ok(())
    });
    assert!(differs);
    assert_eq!(text, "game-17: memory.max\n  wished: 8\n  live:   max\n");
    view.settings[1].ok = true;
    assert!(!diff::text(&[view], &mut Vec::new()).unwrap());
}

#[test]
fn an_explanation_is_sentences() {
    let view = view();
    let explanation = Explanation {
        id: view.id,
        state: view.state,
        cpus: view.cpus,
        nodes: view.nodes,
        why: view.why,
        conditions: vec![],
    };
    let text = told(|out| explain::text(&explanation, out));
    assert_eq!(
        text,
        "game-17: active, CPUs 2-5, NUMA nodes 0\n  one node has room\n"
    );
}

#[test]
fn a_plan_is_its_steps_and_notes() {
    let step = PlannedStep {
        object: "memory.max of /a".to_owned(),
        from: "max".to_owned(),
        to: "8".to_owned(),
        why: "its memory".to_owned(),
    };
    let outcome = Outcome {
        created: true,
        generation: 2,
        plan: vec![step],
        notes: vec!["it is reserved".to_owned()],
        workload: None,
    };
    let text = told(|out| plan::tell("a: created", &outcome, out));
    assert_eq!(
        text,
        "a: created\n  memory.max of /a: max -> 8  (its memory)\n  note: it is reserved\n"
    );
    assert_eq!(plan::verb("created", true), "would be created");
}

fn wish() -> ResizeArgs {
    ResizeArgs {
        id: "game-17".parse().unwrap(),
        cores: None,
        cpus: None,
        memory: None,
        disk: vec![],
        io_share: vec![],
        dry_run: false,
    }
}

#[test]
fn a_resize_patches_only_what_is_wished_and_keeps_the_rest_of_a_list() {
    let spec = view().spec;
    let args = ResizeArgs {
        cores: Some(6),
        memory: Some(1 << 30),
        ..wish()
    };
    let patch = resize::patch(&args, &spec).unwrap();
    let cpu = json!({"cores": 6, "cpus": null});
    assert_eq!(patch, json!({"cpu": cpu, "memory": {"max_bytes": 1 << 30}}));
    let disk = vec![("/data/game-17".into(), 5)];
    let io_share = vec![("/data".into(), 0.5)];
    let patch = resize::patch(
        &ResizeArgs {
            disk,
            io_share,
            ..wish()
        },
        &spec,
    )
    .unwrap();
    assert_eq!(
        patch["disk"],
        json!([{"path": "/data/game-17", "limit_bytes": 5}])
    );
    let logs = json!({"path": "/logs", "write_bytes_per_sec": 1024});
    assert_eq!(patch["io"], json!([{"path": "/data", "share": 0.5}, logs]));
    assert_eq!(patch.as_object().unwrap().len(), 2);
}

#[test]
fn what_the_spec_does_not_have_is_no_resize() {
    let mut spec = view().spec;
    (spec.cpu, spec.memory) = (None, None);
    for args in [
        ResizeArgs {
            cores: Some(1),
            ..wish()
        },
        ResizeArgs {
            memory: Some(1),
            ..wish()
        },
        ResizeArgs {
            disk: vec![("/other".into(), 1)],
            ..wish()
        },
        ResizeArgs {
            io_share: vec![("/other".into(), 0.1)],
            ..wish()
        },
    ] {
        let error = resize::patch(&args, &spec).unwrap_err().to_string();
        assert!(error.contains("berth apply -f FILE"), "{error}");
    }
}

#[test]
fn no_agent_is_told_with_the_way_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let root = berth_kernel::Root::under(dir.path());
    let ask = || Client::new(&root).unwrap().ask(&Ask::get("/v1/workloads"));
    let error = format!("{:#}", ask().unwrap_err());
    for part in [
        "run/berth/agent.sock",
        "no agent listens",
        "systemctl start berth",
    ] {
        assert!(error.contains(part), "{error}");
    }
    std::fs::create_dir_all(root.run.join("berth")).unwrap();
    let path = root.run.join("berth/agent.sock");
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    let error = format!("{:#}", ask().unwrap_err());
    assert!(error.contains("no agent listens"), "{error}");
}
