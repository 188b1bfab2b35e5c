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
async fn steps(
    lab: &Lab,
    store: &MemoryStore,
    images: &[BundleImage],
    change: impl FnOnce(&mut Push),
) -> Vec<String> {
    let (report, steps) = imported(lab, store, images, change).await;
    assert!(report.all_ready(), "{report:#?}");
    assert!(!runs(&staged(lab)), "{}", staged(lab));
    let check = ctr(lab, &["images", "check"]);
    assert!(check.lines().skip(1).all(|l| l.trim_end().ends_with("true")), "{check}");
    assert!(!check.contains("omk.invalid/"), "{check}");
    steps
}

async fn imported(
    lab: &Lab,
    store: &MemoryStore,
    images: &[BundleImage],
    change: impl FnOnce(&mut Push),
) -> (PushReport, Vec<String>) {
    let recorder = Arc::new(Recorder::default());
    let mut push = push(lab, "omk", store, images);
    push.events = Arc::clone(&recorder) as Events;
    change(&mut push);
    let report = push.run().await.unwrap();
    let step = |event: Event| match event {
        Event::NodeImage { image, step: ImageStep::Importing, .. } => Some(format!("begins {image}")),
        Event::NodeImage { image, step: ImageStep::Imported, .. } => Some(format!("ends {image}")),
        _ => None,
    };
    (report, recorder.events().into_iter().filter_map(step).collect())
}

/// An image that shares nothing with others.
fn only(store: &MemoryStore, i: u64) -> BundleImage {
    bundled(store, &format!("lab.example/app{i}:1"), &[&layer("only", &noise(i, 300_000))])
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
    let all: Vec<BundleImage> = (1..6).map(|i| only(&store, i)).collect();
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
    let steps = steps(&lab, &store, &[only(&store, 1), only(&store, 2)], |_| {}).await;
    assert_eq!((steps.len(), most(&steps)), (4, 1), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_fast_imports_run_at_the_same_time() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    wait_for_two(&lab, 2, 600);
    let (store, packed) = (MemoryStore::new(), tempfile::tempdir().unwrap());
    let image = |i: u64| {
        let text = layer("only", format!("{i} ").repeat(300_000).as_bytes());
        bundled(&store, &format!("lab.example/app{i}:1"), &[&text])
    };
    let all: Vec<BundleImage> = (1..6).map(image).collect();
    let fast = |push: &mut Push| push.options.fast_import = Some(packed.path().to_owned());
    let steps = steps(&lab, &store, &all, fast).await;
    assert_eq!((steps.len(), most(&steps)), (10, 2), "{steps:?}");
    let content = ctr(&lab, &["content", "ls", "-q"]);
    assert_eq!(content.lines().count(), 10, "manifests and configs, and nothing of carriers: {content}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_an_import_that_fails_leaves_the_one_beside_it_alone() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    let store = MemoryStore::new();
    let before = bundled(&store, "lab.example/app:1", &[&layer("good", &noise(1, 10_000))]);
    assert!(run(&lab, "root", &store, std::slice::from_ref(&before)).await.all_ready());
    let mut expected = names(&lab);

    wait_for_two(&lab, 2, 600);
    // That it is no tar shows when it is unpacked.
    let broken = bundled(&store, "lab.example/app:1", &[&noise(2, 20_000)]);
    let other = bundled(&store, "lab.example/other:1", &[&layer("other", &noise(3, 2_000_000))]);
    let (report, steps) = imported(&lab, &store, &[broken, other.clone()], |_| {}).await;
    let ready: Vec<bool> = report.nodes[0].images.iter().map(|i| i.ready).collect();
    assert_eq!(ready, [false, true], "{report:#?}");
    assert_eq!(steps.iter().filter(|s| s.starts_with("ends")).count(), 1, "{steps:?}");
    expected.extend(other.names.iter().map(|n| (n.clone(), other.graph.root.digest().to_string())));
    expected.sort();
    assert_eq!(names(&lab), expected, "the tag means what it meant, and no backup is left");
    let check = ctr(&lab, &["images", "check"]);
    assert!(!check.contains("incomplete"), "{check}");
}

/// A lock, four for transfer, and one for all commands.
#[tokio::test(flavor = "multi_thread")]
async fn lab_where_the_server_allows_few_channels_the_second_import_waits() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up_with(1, &[("OMK_LAB_MAXSESSIONS", "6")]);
    // Longer than a channel is waited for that nothing will make free.
    wait_for_two(&lab, 2, 120);
    let store = MemoryStore::new();
    let image = |i: u64| {
        let layers = [1, 2, 3].map(|n| layer(&format!("file{n}"), &noise(10 * i + n, 300_000)));
        let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        bundled(&store, &format!("lab.example/app{i}:1"), &layers)
    };
    let steps = steps(&lab, &store, &[image(1), image(2), image(3)], |_| {}).await;
    assert_eq!(steps.iter().filter(|s| s.starts_with("ends")).count(), 3, "{steps:?}");
}
