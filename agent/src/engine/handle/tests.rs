use std::thread;

use serde_json::json;

use super::*;

fn nothing() -> Published {
    Published {
        generation: 1,
        capacity: Arc::new(json!({})),
        workloads: BTreeMap::new(),
        metrics: Counters::default(),
        health: Health::default(),
    }
}

fn release() -> Asked {
    let (uid, gid, pid) = (0, 0, 1);
    Asked {
        change: Change::ReleaseAll,
        if_match: None,
        dry_run: false,
        by: Peer { uid, gid, pid },
    }
}

fn outcome() -> Outcome {
    Outcome {
        created: false,
        generation: 2,
        plan: vec![],
        notes: vec![],
        workload: None,
    }
}

#[tokio::test]
async fn the_engine_answers_from_its_thread() {
    let (handle, ends) = Handle::new(nothing(), Events::new());
    let mut watched = handle.watch();
    let engine = thread::spawn(move || {
        let Message::Ask(request) = ends.messages.recv().unwrap() else {
            panic!("no request");
        };
        assert_eq!(request.asked, release());
        let generation = 2;
        ends.published.send_replace(Arc::new(Published {
            generation,
            ..nothing()
        }));
        request.answer.send(Ok(outcome())).unwrap();
    });
    assert_eq!(handle.ask(release()).await, Ok(outcome()));
    assert!(watched.changed().await.is_ok());
    assert_eq!(handle.published().generation, 2);
    engine.join().unwrap();
}

#[tokio::test]
async fn an_engine_that_ends_or_has_too_much_to_do_is_unavailable() {
    let (handle, ends) = Handle::new(nothing(), Events::new());
    let asks: Vec<_> = (0..QUEUE)
        .map(|_| {
            tokio::spawn({
                let handle = handle.clone();
                async move { handle.ask(release()).await }
            })
        })
        .collect();
    // The runtime looks elsewhere between some of them.
    for _ in 0..QUEUE {
        tokio::task::yield_now().await;
    }
    let full = handle.ask(release()).await.unwrap_err();
    assert_eq!(full.code, Code::Unavailable);
    assert!(full.reason.contains("too many"), "{full}");
    drop(ends);
    for ask in asks {
        let ended = ask.await.unwrap().unwrap_err();
        assert!(ended.reason.contains("before"), "{ended}");
    }
    let gone = handle.ask(release()).await.unwrap_err();
    assert!(gone.reason.contains("the agent ends"), "{gone}");
}

#[test]
fn durations_fall_into_the_bucket_of_their_bound() {
    let mut durations = Durations::default();
    for millis in [0, 1, 2, 10, 60_000] {
        durations.observe(Duration::from_millis(millis));
    }
    let buckets = durations.buckets();
    let counts: Vec<u64> = buckets.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [2, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(buckets[10].0, f64::INFINITY);
    assert_eq!(durations.count(), 5);
    assert_eq!(durations.sum(), Duration::from_millis(60_013));
}

#[test]
fn standings_are_named_as_they_are_written() {
    for standing in Standing::ALL {
        assert_eq!(json!(standing), json!(standing.as_str()));
    }
}
