//! Which images real containerd imports at the same time: told by the order of events. The node's `ctr` waits at the beginning
//! of an import until another one is there, so that nothing depends on how quick either is.

use omk::event::{Event, ImageStep};

use super::*;

/// Imports wait for each other: as long as it takes, or a while in which one that should not come would.
fn wait_for_two(lab: &Lab, processors: usize, tenths: usize) {
    let script = format!(
        "echo 'echo {processors}' >/tmp/nproc && chmod 755 /tmp/nproc && mv /tmp/nproc /usr/bin/nproc\n\
         mkdir -p /tmp/imports; mv /usr/bin/ctr /usr/bin/ctr.real; cat >/usr/bin/ctr <<'END'\n\
         #!/bin/sh\n\
         case \" $* \" in *' images import '*)\n\
         : >/tmp/imports/$$; n=0\n\
         while [ $(ls /tmp/imports | wc -l) -lt 2 ] && [ $n -lt {tenths} ]; do sleep 0.1; n=$((n+1)); done\n\
         esac\n\
         exec /usr/bin/ctr.real \"$@\"\n\
         END\n\
         chmod 755 /usr/bin/ctr"
    );
    let done = lab.exec(1, &["sh", "-c", &script]);
    assert!(done.status.success(), "{done:?}");
}

/// Begin and end of every import, in their order.
async fn steps(lab: &Lab, store: &MemoryStore, images: &[BundleImage], change: fn(&mut Push)) -> Vec<String> {
    let recorder = Arc::new(Recorder::default());
    let mut push = push(lab, "omk", store, images);
    push.events = Arc::clone(&recorder) as Events;
    change(&mut push);
    let report = push.run().await.unwrap();
    assert!(report.all_ready(), "{report:#?}");
    assert!(!runs(&staged(lab)), "{}", staged(lab));
    let check = ctr(lab, &["images", "check"]);
    assert!(push.options.fast_import.is_some() || !check.contains("incomplete"), "{check}");
    assert!(check.lines().skip(1).all(|l| l.trim_end().ends_with("true")), "{check}");
    let step = |event: Event| match event {
        Event::NodeImage { image, step: ImageStep::Importing, .. } => Some(format!("begins {image}")),
        Event::NodeImage { image, step: ImageStep::Imported, .. } => Some(format!("ends {image}")),
        _ => None,
    };
    recorder.events().into_iter().filter_map(step).collect()
}

/// How many imports there were at the same time.
fn most(steps: &[String]) -> usize {
    let (mut now, mut most) = (0, 0);
    for step in steps {
        if step.starts_with("begins ") {
            now += 1;
            most = most.max(now);
        } else {
            now -= 1;
        }
    }
    assert_eq!(now, 0, "{steps:?}");
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_images_that_share_nothing_are_imported_at_the_same_time() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    wait_for_two(&lab, 2, 600);
    let store = MemoryStore::new();
    let image =
        |i: u64| bundled(&store, &format!("lab.example/app{i}:1"), &[&layer("only", &noise(i, 300_000))]);
    let all: Vec<BundleImage> = (1..6).map(image).collect();
    let steps = steps(&lab, &store, &all, |_| {}).await;
    assert_eq!((steps.len(), most(&steps)), (10, 2), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_images_that_share_a_layer_are_imported_one_after_the_other() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    wait_for_two(&lab, 2, 30);
    let store = MemoryStore::new();
    let base = layer("base", &noise(1, 300_000));
    let image = |i: u64| {
        bundled(&store, &format!("lab.example/app{i}:1"), &[&base, &layer("own", &noise(i, 100_000))])
    };
    let two = steps(&lab, &store, &[image(2), image(3)], |_| {}).await;
    assert_eq!((two.len(), most(&two)), (4, 1), "{two:?}");

    // What they share is there by now.
    lab.exec(1, &["sh", "-c", "rm /tmp/imports/*"]);
    let more = steps(&lab, &store, &[image(4), image(5)], |_| {}).await;
    assert_eq!((more.len(), most(&more)), (4, 2), "{more:?}");

    lab.exec(1, &["sh", "-c", "rm /tmp/imports/*"]);
    let gentle = steps(&lab, &store, &[image(6), image(7)], |push| push.options.background = true).await;
    assert_eq!((gentle.len(), most(&gentle)), (4, 1), "{gentle:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_a_node_with_one_processor_imports_one_image_at_a_time() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    wait_for_two(&lab, 1, 30);
    let store = MemoryStore::new();
    let image =
        |i: u64| bundled(&store, &format!("lab.example/app{i}:1"), &[&layer("only", &noise(i, 300_000))]);
    let steps = steps(&lab, &store, &[image(1), image(2)], |_| {}).await;
    assert_eq!((steps.len(), most(&steps)), (4, 1), "{steps:?}");
}
