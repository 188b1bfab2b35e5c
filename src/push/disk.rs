//! What a plan does to the disks of a node, and whether they bear it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::free::staged;
use super::plan::{NodePlan, PIPELINE, PlanError};
use crate::oci::{Descriptor, Digest};
use crate::runtime::kubelet::IMAGE_GC_PERCENT;
use crate::runtime::{Disk, NodeFacts, Runtime};
use crate::units;

/// Space on one file system of which a plan needs some. Sizes are bytes; those after are estimates that err upwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskNeed {
    /// For staging, the runtime, or both.
    pub what: &'static str,
    /// Where it is mounted.
    pub mount: String,
    /// The folders on it that need it.
    pub paths: Vec<String>,
    /// What is needed at most at any time, an estimate.
    pub need: u64,
    /// What of that is needed whatever images unpack to.
    #[serde(skip)]
    pub least: u64,
    /// What is free now.
    pub free: u64,
    /// All of it.
    pub size: u64,
    /// What is used now.
    pub used: u64,
    /// What is used when all is done and staging is empty again.
    pub used_after: u64,
    /// What is free then.
    pub free_after: u64,
    /// The share of `size` from which kubelet removes images, in percent; `None` where it does not look at this file system.
    pub image_gc_percent: Option<u8>,
}

impl DiskNeed {
    /// The share that is not free when so many bytes more are taken, in percent, as kubelet counts
    /// (`realImageGCManager.GarbageCollect`): what is kept for root is not free.
    fn percent_with(&self, more: u64) -> u8 {
        let free = u128::from(self.free.saturating_sub(more));
        let size = u128::from(self.size.max(1));
        100u8.saturating_sub(u8::try_from(free * 100 / size).unwrap_or(100))
    }

    /// The share that is taken now, in percent.
    pub fn percent(&self) -> u8 {
        self.percent_with(0)
    }

    /// The share that is taken while most is needed, in percent.
    pub fn percent_at_most(&self) -> u8 {
        self.percent_with(self.need)
    }

    /// Whether kubelet would remove images while most is needed.
    pub fn collects(&self) -> bool {
        self.image_gc_percent.is_some_and(|from| from < 100 && self.percent_at_most() >= from)
    }
}

/// What is told of a disk that is too small. The option goes on where it may turn out to be large enough, and is not named where it
/// cannot. `staged`: bytes that earlier runs left in staging.
pub(super) fn too_small(disk: &DiskNeed, staged: u64) -> String {
    let bytes = units::bytes;
    let kept = match staged {
        0 => String::new(),
        n => format!(", and the {} that are in staging stay there", bytes(n)),
    };
    let way = match disk.least <= disk.free {
        true => "make room, or pass --ignore-disk: what images unpack to is an estimate that errs upwards"
            .to_owned(),
        false => format!(
            "make room, or preheat a bundle of fewer images: {} are needed whatever they unpack to",
            bytes(disk.least)
        ),
    };
    format!(
        "disk too small: about {} are needed on {}, {} of its {} are free; nothing more is sent{kept}; {way}",
        bytes(disk.need),
        place(disk),
        bytes(disk.free),
        bytes(disk.size)
    )
}

/// The file system, what for, and the folders where they are not the file system's own.
fn place(disk: &DiskNeed) -> String {
    let paths: Vec<&str> = disk.paths.iter().filter(|p| **p != disk.mount).map(String::as_str).collect();
    let paths = if paths.is_empty() { String::new() } else { format!(": {}", paths.join(", ")) };
    format!("{} ({}{paths})", disk.mount, disk.what)
}

/// Refuses what does not fit, and what would make a kubelet that runs on the node remove images, perhaps those that were just
/// brought.
pub(super) fn check(disks: &[DiskNeed], facts: &NodeFacts) -> Result<(), PlanError> {
    // What can be gone on with nevertheless is told after what cannot.
    let small = disks.iter().filter(|d| d.need > d.free).max_by_key(|d| d.least > d.free);
    if let Some(disk) = small {
        return Err(PlanError::Disk { disk: Box::new(disk.clone()), staged: staged(facts) });
    }
    match (&facts.kubelet, disks.iter().find(|d| d.collects())) {
        (Some(kubelet), Some(d)) => Err(PlanError::ImageGc {
            what: d.what,
            mount: d.mount.clone(),
            percent: d.percent_at_most(),
            before: d.percent(),
            threshold: kubelet.image_gc_percent,
            source_file: kubelet.source.clone(),
        }),
        _ => Ok(()),
    }
}

/// `at_once`: images that are imported at the same time. What they unpack to counts once more for none: it is where it stays.
pub(super) fn needs(
    plan: &NodePlan,
    runtime: &dyn Runtime,
    facts: &NodeFacts,
    at_once: usize,
) -> Vec<DiskNeed> {
    // A part that is there is gone on from, in its place; a part of anything else is of no help.
    let rest = |b: &Descriptor| {
        b.size() - facts.partials.get(b.digest().hex()).map_or(0, |&part| part.min(b.size()))
    };
    let sizes: Vec<u64> = plan.to_import().map(|i| i.send.iter().map(rest).sum()).collect();
    let least = at_once_in_staging(plan, rest);
    let staging = if runtime.keeps_shared_blobs_staged() {
        sizes.iter().sum()
    } else {
        // What is imported is gone from staging, and so many images are there at once, in whatever order.
        let sent: BTreeSet<&Digest> = plan.to_send().map(Descriptor::digest).collect();
        let of = |i: &super::ImagePlan| {
            let blobs = i.image.blobs.iter().filter(|b| sent.contains(b.digest()));
            blobs.map(rest).sum::<u64>()
        };
        let mut windows: Vec<u64> = plan.to_import().map(of).collect();
        windows.sort_unstable_by(|a, b| b.cmp(a));
        windows.iter().take(PIPELINE + at_once - 1).sum::<u64>().min(sizes.iter().sum())
    };
    let mut after = facts.clone();
    let (mut stored, mut stays) = (0u64, 0u64);
    for image in plan.to_import().map(|i| &i.image) {
        stored = stored.saturating_add(runtime.disk_need(&after, image));
        stays = stays.saturating_add(runtime.disk_least(&after, image));
        after.content.extend(image.blobs.iter().map(|b| b.digest().clone()));
        after.snapshots.extend(image.image.chain_ids.iter().cloned());
    }
    let gc = facts.kubelet.as_ref().map_or(IMAGE_GC_PERCENT, |k| k.image_gc_percent);
    let gc = runtime.feeds_kubelet().then_some(gc);
    let on = |disk: &Disk, what, (need, least): (u64, u64), stays: u64, image_gc_percent| DiskNeed {
        what,
        mount: disk.mount.clone(),
        paths: vec![disk.path.clone()],
        need,
        least,
        free: disk.free,
        size: disk.size,
        used: disk.used,
        used_after: disk.used.saturating_add(stays),
        free_after: disk.free.saturating_sub(stays),
        image_gc_percent,
    };
    let mut needs = match (&facts.staging_disk, &facts.runtime_disk) {
        (Some(s), Some(r)) if s.same(r) => {
            let most = staging.saturating_add(stored);
            // What is imported is copied out of staging, where the last of it still lies then.
            let both = on(
                r,
                "staging and images",
                (most, stays.max(least.saturating_add(least.min(stays)))),
                stored,
                gc,
            );
            let mut paths = vec![s.path.clone(), r.path.clone()];
            paths.dedup();
            vec![DiskNeed { paths, ..both }]
        }
        (s, r) => {
            let s = s.as_ref().map(|d| on(d, "staging", (staging, least), 0, None));
            let r = r.as_ref().map(|d| on(d, "images", (stored, stays), stored, gc));
            s.into_iter().chain(r).collect()
        }
    };
    needs.retain(|d| d.need > 0);
    needs
}

/// Bytes that are in staging at the same time in whatever order images come: what an image brings that no other one does, or the
/// largest blob.
fn at_once_in_staging(plan: &NodePlan, rest: impl Fn(&Descriptor) -> u64) -> u64 {
    let sent: BTreeSet<&Digest> = plan.to_send().map(Descriptor::digest).collect();
    let mut wanted: BTreeMap<&Digest, u32> = BTreeMap::new();
    for blob in plan.to_import().flat_map(|i| &i.image.blobs) {
        *wanted.entry(blob.digest()).or_default() += 1;
    }
    let alone = |i: &super::ImagePlan| -> u64 {
        let own = i.image.blobs.iter().filter(|b| sent.contains(b.digest()) && wanted[b.digest()] == 1);
        own.map(&rest).sum()
    };
    plan.to_import().map(alone).chain(plan.to_send().map(&rest)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Kubelet, fixtures};

    fn disk(need: u64, free: u64, image_gc_percent: Option<u8>) -> DiskNeed {
        DiskNeed {
            what: "images",
            mount: "/var".into(),
            paths: vec!["/var/lib/containerd".into()],
            need,
            least: 0,
            free,
            size: 1000,
            used: 1000 - free,
            used_after: 0,
            free_after: 0,
            image_gc_percent,
        }
    }

    fn node(kubelet: Option<Kubelet>) -> NodeFacts {
        NodeFacts { kubelet, ..fixtures::empty_node() }
    }

    #[test]
    fn a_disk_that_fits_but_would_be_collected_is_refused_where_a_kubelet_runs() {
        let kubelet = Kubelet { image_gc_percent: 85, source: Some("/var/lib/kubelet/config.yaml".into()) };
        let facts = node(Some(kubelet));
        let check = |d: DiskNeed| check(&[d], &facts).map_err(|e| e.to_string());
        assert_eq!(check(disk(540, 700, Some(85))), Ok(()));
        assert!(
            check(disk(541, 700, Some(85))).is_err(),
            "84.1 % are 85 % to kubelet, which rounds what is free down"
        );
        insta::assert_snapshot!(check(disk(600, 700, Some(85))).unwrap_err(), @"/var (images) would be 90 % full (it is 30 %), and kubelet removes images that no container uses from 85 % on (/var/lib/kubelet/config.yaml); make room, raise imageGCHighThresholdPercent, or pass --ignore-disk");
        assert_eq!(check(disk(690, 700, Some(100))), Ok(()), "100 switches it off");
        assert_eq!(check(disk(690, 700, None)), Ok(()), "kubelet does not look there");
        assert!(check(disk(701, 700, None)).unwrap_err().starts_with("disk too small"));
        assert_eq!(super::check(&[disk(690, 700, Some(85))], &node(None)), Ok(()), "there is no kubelet yet");
    }

    #[test]
    fn the_option_is_named_only_where_it_can_help() {
        let mut facts = node(None);
        let said = |disks: &[DiskNeed], facts: &NodeFacts| check(disks, facts).unwrap_err().to_string();
        let may = DiskNeed { least: 700, ..disk(800, 700, None) };
        insta::assert_snapshot!(said(std::slice::from_ref(&may), &facts), @"disk too small: about 800 B are needed on /var (images: /var/lib/containerd), 700 B of its 1.0 kB are free; nothing more is sent; make room, or pass --ignore-disk: what images unpack to is an estimate that errs upwards");
        let root =
            |path: &str| DiskNeed { mount: "/".into(), paths: vec![path.into(), "/".into()], ..may.clone() };
        assert!(said(&[root("/")], &facts).contains(" on / (images), 700 B of its 1.0 kB are free; "));
        facts.partial = 300;
        let cannot =
            DiskNeed { what: "staging", least: 701, paths: vec!["/var".into()], ..disk(710, 700, None) };
        insta::assert_snapshot!(said(&[may, cannot], &facts), @"disk too small: about 710 B are needed on /var (staging), 700 B of its 1.0 kB are free; nothing more is sent, and the 300 B that are in staging stay there; make room, or preheat a bundle of fewer images: 701 B are needed whatever they unpack to");
    }

    #[test]
    fn shares_are_right_at_the_edges() {
        assert_eq!(disk(0, 1000, None).percent_at_most(), 0);
        assert_eq!(disk(2000, 1000, None).percent_at_most(), 100);
        let none = DiskNeed { size: 0, ..disk(0, 0, None) };
        assert_eq!((none.percent(), none.collects()), (100, false));
    }
}
