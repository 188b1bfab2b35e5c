//! The plan and the report of a run as tables, with what is unusual below them.

use std::collections::BTreeMap;

use crate::cli::nodes::NodeArgs;
use crate::cli::output::{self, say, warn};
use crate::cli::proof::{cell, weak};
use crate::push::journal::Kept;
use crate::push::{
    CheckKind, DiskNeed, NodePlan, NodeReport, NodeResult, PushPlan, PushReport, Refused, UndoState,
};

/// `order`: the nodes as the inventory has them; the plan keeps those that are refused apart.
pub(super) fn tell_plan(plan: &PushPlan, order: &[String]) {
    say(&plan_table(plan, order));
    let figures = plan.refused.iter().filter_map(|r| r.plan.as_deref());
    let mut all: Vec<&NodePlan> = plan.nodes.iter().chain(figures).collect();
    all.sort_by_key(|n| order.iter().position(|name| *name == n.node));
    if let Some(disks) = disk_table(&all) {
        say(&format!("\n{disks}"));
    }
    for refused in &plan.refused {
        warn(&format!("{}: {}", refused.node, refused.reason));
    }
    let images = plan
        .nodes
        .iter()
        .flat_map(|n| n.images.iter().filter(|i| i.ready).map(|i| (n.node.as_str(), i.note.as_deref())));
    notes(images).iter().for_each(|n| warn(n));
    collected(&plan.nodes).iter().for_each(|n| warn(n));
    for node in &plan.nodes {
        for gone in &node.prune {
            warn(&format!("{}: {} would be removed (--prune)", node.node, gone.name));
        }
        spared(&node.node, &node.spared);
    }
}

fn spared(node: &str, spared: &[Kept]) {
    for kept in spared {
        warn(&format!("{node}: {} is not in the bundle, but left: {}", kept.name, kept.reason));
    }
}

/// Where room is needed, now and afterwards.
fn disk_table(nodes: &[&NodePlan]) -> Option<String> {
    let collected = nodes.iter().flat_map(|n| &n.disk).any(|d| d.image_gc_percent.is_some());
    let row = |n: &NodePlan, d: &DiskNeed| {
        let used = |bytes: u64, free: u64| {
            let percent = 100 - u128::from(free) * 100 / u128::from(d.size.max(1));
            format!("{} ({percent} %)", output::bytes(bytes))
        };
        let mut cells = vec![
            n.node.clone(),
            d.mount.clone(),
            d.what.to_owned(),
            used(d.used, d.free),
            output::bytes(d.free),
            output::bytes(d.need),
            used(d.used_after, d.free_after),
            output::bytes(d.free_after),
        ];
        let from = |percent: u8| format!("from {percent} %");
        cells.extend(collected.then(|| d.image_gc_percent.map_or_else(|| "-".to_owned(), from)));
        cells
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for node in nodes {
        rows.extend(node.disk.iter().map(|d| row(node, d)));
    }
    let mut head = vec!["NODE", "DISK", "FOR", "USED", "FREE", "NEEDED", "USED AFTER", "FREE AFTER"];
    head.extend(collected.then_some("KUBELET GC"));
    (!rows.is_empty()).then(|| output::table(&head, &rows))
}

/// Plans that are carried out although kubelet would remove images: there is none yet, or that is how it was wanted.
fn collected(nodes: &[NodePlan]) -> Vec<String> {
    let line = |node: &NodePlan, d: &DiskNeed| {
        format!(
            "note: {}: {} would be {} % full, and kubelet removes images that no container uses from {} % on",
            node.node,
            d.mount,
            d.percent_at_most(),
            d.image_gc_percent.unwrap_or_default()
        )
    };
    nodes.iter().flat_map(|n| n.disk.iter().filter(|d| d.collects()).map(move |d| line(n, d))).collect()
}

fn plan_table(plan: &PushPlan, order: &[String]) -> String {
    let dash = || "-".to_owned();
    let planned = || plan.nodes.iter().chain(plan.refused.iter().filter_map(|r| r.plan.as_deref()));
    let resumed = planned().any(|n| n.bytes_resumed > 0);
    let adopted = planned().any(|n| n.bytes_adopted > 0);
    let row = |n: &NodePlan, refused: Option<NodeResult>| {
        let ready = n.images.iter().filter(|i| i.ready).count();
        let to_do = if ready == n.images.len() { "ready" } else { "to do" };
        let mut cells = vec![
            n.node.clone(),
            refused.map_or(to_do, state).to_owned(),
            n.platform.to_string(),
            n.runtime.clone(),
            format!("{ready} of {}", n.images.len()),
            format!("{} in {}", output::bytes(n.bytes), output::count(blobs(n.blobs), "blob")),
            output::bytes(n.bytes_skipped),
        ];
        cells.extend(adopted.then(|| output::bytes(n.bytes_adopted)));
        cells.extend(resumed.then(|| output::bytes(n.bytes_resumed)));
        cells
    };
    let refusal = |r: &Refused| {
        if let Some(figures) = &r.plan {
            return row(figures, Some(r.state));
        }
        let mut cells = vec![r.node.clone(), state(r.state).to_owned()];
        cells.extend((0..5 + usize::from(adopted) + usize::from(resumed)).map(|_| dash()));
        cells
    };
    let place = |name: &str| order.iter().position(|n| n == name);
    let mut rows: Vec<Vec<String>> =
        plan.nodes.iter().map(|n| row(n, None)).chain(plan.refused.iter().map(refusal)).collect();
    rows.sort_by_key(|r| place(&r[0]));
    let mut head = vec!["NODE", "STATE", "PLATFORM", "RUNTIME", "READY", "TO SEND", "THERE"];
    head.extend(adopted.then_some("ADOPTABLE"));
    head.extend(resumed.then_some("RESUMABLE"));
    output::table(&head, &rows)
}

fn state(result: NodeResult) -> &'static str {
    match result {
        NodeResult::Ready => "ready",
        NodeResult::Stopped => "stopped",
        NodeResult::Failed => "failed",
        NodeResult::Refused => "refused",
    }
}

pub(super) fn tell_report(report: &PushReport, nodes: &NodeArgs) {
    say(&report_table(report));
    if idle(report) {
        say("nothing to do: every image was there already");
    }
    weak(report).iter().for_each(|note| warn(note));
    for node in &report.nodes {
        // That it was stopped stands in the table; how it was put back does not.
        let told = node.state != NodeResult::Stopped || node.undone.is_some();
        if let Some(error) = node.error.as_ref().filter(|_| told) {
            warn(&format!("{}: {error}", node.node));
        }
    }
    let images = report
        .nodes
        .iter()
        .flat_map(|n| n.images.iter().filter(|i| i.ready).map(|i| (n.node.as_str(), i.reason.as_deref())));
    notes(images).iter().for_each(|n| warn(n));
    for node in &report.nodes {
        if !node.pruned.is_empty() {
            warn(&format!("{}: removed (--prune): {}", node.node, node.pruned.join(", ")));
        }
        spared(&node.node, &node.spared);
    }
    undo_hint(report).iter().for_each(|hint| say(&nodes.addressed(hint)));
}

/// Whether every node was ready before the run; what is pinned may have been pinned by it.
fn idle(report: &PushReport) -> bool {
    let pinned =
        |n: &NodeReport| n.images.iter().flat_map(|i| &i.checks).any(|c| c.check == CheckKind::Pinned);
    let moved = |n: &NodeReport| n.bytes_sent + n.bytes_adopted + n.bytes_resumed > 0;
    let idle = |n: &NodeReport| n.state == NodeResult::Ready && !n.recorded && !moved(n) && !pinned(n);
    report.nodes.iter().all(idle) && report.nodes.iter().any(|n| !n.images.is_empty())
}

/// How what a run changed is undone; nothing where it changed nothing, or where --atomic has put everything back.
pub(in crate::cli) fn undo_hint(report: &PushReport) -> Option<String> {
    let back = |n: &&NodeReport| n.undone.as_ref().is_some_and(|u| u.state == UndoState::Undone);
    let changed: Vec<&NodeReport> = report.nodes.iter().filter(|n| n.recorded && !back(n)).collect();
    if changed.is_empty() {
        return None;
    }
    let run = &report.run_id;
    let pruned = changed.iter().any(|n| !n.pruned.is_empty());
    let but = if pruned { ", but brings nothing back that was pruned" } else { "" };
    let stopped = if report.nodes.iter().any(|n| n.state == NodeResult::Stopped) {
        " was stopped: the same command goes on from there"
    } else {
        ""
    };
    Some(format!("\nrun {run}{stopped}; `omk preheat rollback --run {run}` undoes it{but}"))
}

fn report_table(report: &PushReport) -> String {
    let resumed = report.nodes.iter().any(|n| n.bytes_resumed > 0);
    let adopted = report.nodes.iter().any(|n| n.bytes_adopted > 0);
    let checked =
        |kind| report.nodes.iter().flat_map(|n| &n.images).flat_map(|i| &i.checks).any(|c| c.check == kind);
    let (cri, pinned) = (checked(CheckKind::Cri), checked(CheckKind::Pinned));
    let deep = checked(CheckKind::Content);
    let row = |n: &NodeReport| {
        let ready = n.images.iter().filter(|i| i.ready).count();
        let mut cells = vec![
            n.node.clone(),
            state(n.state).to_owned(),
            if n.images.is_empty() { "-".to_owned() } else { format!("{ready} of {}", n.images.len()) },
            format!("{} in {}", output::bytes(n.bytes_sent), output::count(blobs(n.blobs_sent), "blob")),
            output::bytes(n.bytes_skipped),
        ];
        cells.extend(adopted.then(|| output::bytes(n.bytes_adopted)));
        cells.extend(resumed.then(|| output::bytes(n.bytes_resumed)));
        cells.extend(cri.then(|| cell(n, CheckKind::Cri)));
        cells.extend(pinned.then(|| cell(n, CheckKind::Pinned)));
        cells.extend(deep.then(|| cell(n, CheckKind::Content)));
        cells.push(format!("{}.{} s", n.duration_ms / 1000, n.duration_ms % 1000 / 100));
        cells
    };
    let rows: Vec<Vec<String>> = report.nodes.iter().map(row).collect();
    let mut head = vec!["NODE", "STATE", "IMAGES", "SENT", "THERE"];
    head.extend(adopted.then_some("ADOPTED"));
    head.extend(resumed.then_some("RESUMED"));
    head.extend(cri.then_some("CRI"));
    head.extend(pinned.then_some("PINNED"));
    head.extend(deep.then_some("CONTENT"));
    head.push("TIME");
    output::table(&head, &rows)
}

/// Nodes that a note names one by one.
const NAMED: usize = 8;

/// What is unusual about images that are ready, each thing once: `note: 3 images on n1, n2: …`. Takes ready images with
/// their nodes, node by node.
fn notes<'a>(ready: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Vec<String> {
    let mut grouped: BTreeMap<&str, (usize, Vec<&str>)> = BTreeMap::new();
    for (node, note) in ready {
        let Some(note) = note else { continue };
        let (images, nodes) = grouped.entry(note).or_default();
        *images += 1;
        if nodes.last() != Some(&node) {
            nodes.push(node);
        }
    }
    let line = |(note, (images, nodes)): (&str, (usize, Vec<&str>))| {
        format!("note: {} on {}: {note}", output::count(images, "image"), output::some(&nodes, NAMED))
    };
    grouped.into_iter().map(line).collect()
}

fn blobs(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(node: &str, resumed: u64) -> NodePlan {
        NodePlan {
            node: node.into(),
            platform: "linux/amd64".parse().unwrap(),
            runtime: "containerd 2.1".into(),
            images: Vec::new(),
            blobs: 0,
            bytes: 0,
            bytes_skipped: 0,
            bytes_adopted: 0,
            bytes_resumed: resumed,
            skipped: Vec::new(),
            imports_at_once: 1,
            disk: Vec::new(),
            prune: Vec::new(),
            spared: Vec::new(),
        }
    }

    #[test]
    fn a_refused_node_has_its_row_in_the_inventorys_order() {
        let refused =
            |node: &str, state| Refused { node: node.into(), state, reason: "why".into(), plan: None };
        let (no, down) = (refused("a", NodeResult::Refused), refused("c", NodeResult::Failed));
        let mut plan = PushPlan { bundle: "b".into(), nodes: Vec::new(), refused: vec![no, down] };
        let order = ["a", "b", "c"].map(str::to_owned);
        let states = |plan: &PushPlan| -> Vec<String> {
            let table = plan_table(plan, &order);
            let two = |l: &str| l.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            table.lines().map(two).collect()
        };
        assert_eq!(states(&plan), ["NODE STATE", "a refused", "c failed"]);
        plan.nodes.push(planned("b", 0));
        assert_eq!(states(&plan), ["NODE STATE", "a refused", "b ready", "c failed"]);
        assert!(!plan_table(&plan, &order).contains("RESUMABLE"));
        plan.nodes[0].bytes_resumed = 4_200_000;
        let table = plan_table(&plan, &order);
        assert!(table.contains("RESUMABLE") && table.contains("4.2 MB"), "{table}");
        // The figures of one that does not fit are why it is refused.
        plan.refused[0].plan = Some(Box::new(NodePlan {
            blobs: 2,
            bytes: 7_000_000,
            bytes_adopted: 1_000_000,
            ..planned("a", 0)
        }));
        insta::assert_snapshot!(plan_table(&plan, &order), @r"
        NODE  STATE    PLATFORM     RUNTIME         READY   TO SEND            THERE  ADOPTABLE  RESUMABLE
        a     refused  linux/amd64  containerd 2.1  0 of 0  7.0 MB in 2 blobs  0 B    1.0 MB     0 B
        b     ready    linux/amd64  containerd 2.1  0 of 0  0 B in 0 blobs     0 B    0 B        4.2 MB
        c     failed   -            -               -       -                  -      -          -
        ");
    }

    #[test]
    fn disks_are_told_before_and_after() {
        let mut plan = planned("a", 0);
        assert!(disk_table(&[&plan]).is_none());
        plan.disk.push(DiskNeed {
            what: "images",
            mount: "/var".into(),
            paths: Vec::new(),
            least: 0,
            need: 30_000_000,
            free: 40_000_000,
            size: 100_000_000,
            used: 60_000_000,
            used_after: 90_000_000,
            free_after: 10_000_000,
            image_gc_percent: Some(85),
        });
        let table = disk_table(&[&plan]).unwrap();
        insta::assert_snapshot!(table, @r"
        NODE  DISK  FOR     USED            FREE     NEEDED   USED AFTER      FREE AFTER  KUBELET GC
        a     /var  images  60.0 MB (60 %)  40.0 MB  30.0 MB  90.0 MB (90 %)  10.0 MB     from 85 %
        ");
        assert_eq!(
            collected(&[plan]),
            [
                "note: a: /var would be 90 % full, and kubelet removes images that no container uses from 85 % on"
            ]
        );
    }

    #[test]
    fn notes_are_told_once_with_their_nodes() {
        let many: Vec<String> = (1..=10).map(|n| format!("n{n}")).collect();
        let all = many.iter().flat_map(|n| [(n.as_str(), Some("odd")), (n.as_str(), None)]);
        let some = [("n1", Some("other")), ("n1", Some("other")), ("n2", Some("other"))];
        assert_eq!(
            notes(all.chain(some)),
            [
                "note: 10 images on n1, n2, n3, n4, n5, n6, n7, n8 and 2 more: odd",
                "note: 3 images on n1, n2: other"
            ]
        );
    }
}
