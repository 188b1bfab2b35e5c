//! Runs that somebody stops.

use omk::event::EventSink;

use super::*;

/// Stops the run as soon as something is to be tried again.
struct StopAtRetry(CancellationToken, Arc<Recorder>);

impl EventSink for StopAtRetry {
    fn emit(&self, event: Event) {
        if matches!(event, Event::Retry { .. }) {
            self.0.cancel();
        }
        self.1.emit(event);
    }
}

#[tokio::test]
async fn a_run_that_is_stopped_while_it_waits_for_another_attempt_is_stopped() {
    let world = World::new();
    let lost = Fault::LostAtImport(Arc::new(AtomicU32::new(1)));
    let here = Here { faults: [("n1".to_owned(), lost)].into(), ..Here::default() };
    let mut push = world.push(&["n1"], here);
    push.events = Arc::new(StopAtRetry(world.cancel.clone(), Arc::clone(&world.recorder)));
    let report = push.run().await.unwrap();
    let node = &report.nodes[0];
    assert_eq!((node.state, node.error.as_deref()), (NodeResult::Stopped, Some("stopped")), "{node:#?}");
    let connecting = |e: &Event| matches!(e, Event::Node { state: NodeState::Connecting, .. });
    let connects = world.recorder.events().iter().filter(|e| connecting(e)).count();
    assert_eq!(connects, 1, "it is not reached once more");
    assert!(node.recorded);
}

#[tokio::test]
async fn cancelling_finishes_the_import_that_runs_and_the_next_run_goes_on() {
    let world = World::new();
    let fault = Fault::CancelAtImport(world.cancel.clone());
    let here = Here { faults: [("n1".to_owned(), fault)].into(), ..Here::default() };
    let report = world.push(&["n1"], here).run().await.unwrap();
    assert_eq!(report.nodes[0].state, NodeResult::Stopped);
    assert_eq!(report.nodes[0].error.as_deref(), Some("stopped"));
    let ready: Vec<bool> = report.nodes[0].images.iter().map(|i| i.ready).collect();
    assert_eq!(ready.iter().filter(|r| **r).count(), 1, "what it came to is told: {report:#?}");
    assert!(ready.len() == 2 && report.nodes[0].recorded);
    let states = world.recorder.events();
    let states: Vec<_> = states
        .iter()
        .filter_map(|e| if let Event::Node { state, .. } = e { Some(state) } else { None })
        .collect();
    let [.., omk::event::NodeState::Settling, omk::event::NodeState::Stopped] = states[..] else {
        panic!("{states:?}")
    };
    assert_eq!(world.archives("n1").len(), 1, "the one whose import had begun");

    let mut push = world.push(&["n1"], Here::default());
    push.cancel = CancellationToken::new();
    let rest = push.run().await.unwrap();
    assert!(rest.all_ready(), "{rest:#?}");
    assert!(report.nodes[0].bytes_sent + rest.nodes[0].bytes_sent <= size(&world.images) + 1);
}
