//! Which images a node imports at the same time: such that bring nothing in common. containerd up to 1.7 unpacks a layer twice
//! when two images that have it are imported at once, which takes longer than one after the other; and two that write one blob
//! wait for each other.

use std::collections::BTreeSet;

use crate::oci::{Descriptor, Digest};
use crate::runtime::{NodeFacts, Runtime, RuntimeImage};

/// What an import would meet another one at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Brings {
    /// Blobs that it reads from staging or that are not stored yet, layers that it unpacks, and its config, by which CRI names the
    /// image.
    what: BTreeSet<Digest>,
    /// It does more to the node than to bring this.
    alone: bool,
}

impl Brings {
    pub(super) fn of(
        runtime: &dyn Runtime,
        facts: &NodeFacts,
        staged: &BTreeSet<Digest>,
        image: &RuntimeImage,
    ) -> Self {
        // What is unpacked, or stored, is not brought: a carrier's layers are never stored.
        let new = |b: &&Descriptor| staged.contains(b.digest()) || runtime.has(facts, image, b).is_none();
        let blobs = image.blobs.iter().filter(new).map(Descriptor::digest);
        let layers = image.image.chain_ids.iter().filter(|c| !facts.snapshots.contains(*c));
        let what = blobs.chain(layers).chain([image.image.config.digest()]).cloned().collect();
        // What is taken over from another namespace is marked on the node, as a whole; what is damaged there is taken out first.
        let more = |b: &Descriptor| {
            facts.distrusted.contains(b.digest())
                || !staged.contains(b.digest()) && runtime.adopts(facts, image, b)
        };
        Self { what, alone: image.blobs.iter().any(more) }
    }

    /// Whether both may be imported at the same time.
    pub(super) fn beside(&self, other: &Self) -> bool {
        !self.alone && !other.alone && self.what.is_disjoint(&other.what)
    }
}

/// Which of the images that wait, longest first, is imported next beside those that are: the first that meets none of them, also
/// where one before it has to wait. `None` where as many run as may, or each has to wait for one that runs.
pub(super) fn next<'a>(
    waiting: impl IntoIterator<Item = Brings>,
    running: impl IntoIterator<Item = &'a Brings>,
    at_once: usize,
) -> Option<(usize, Brings)> {
    let running: Vec<&Brings> = running.into_iter().collect();
    if running.len() >= at_once.max(1) {
        return None;
    }
    waiting.into_iter().enumerate().find(|(_, w)| running.iter().all(|r| w.beside(r)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Containerd, Flavor, fixtures};
    use crate::store::MemoryStore;

    fn digests<'a>(blobs: impl IntoIterator<Item = &'a Descriptor>) -> BTreeSet<Digest> {
        blobs.into_iter().map(|b| b.digest().clone()).collect()
    }

    fn brings(facts: &NodeFacts, image: &RuntimeImage) -> Brings {
        let staged = digests(image.blobs.iter().filter(|b| !facts.content.contains(b.digest())));
        Brings::of(&Containerd::new(Flavor::Plain), facts, &staged, image)
    }

    #[test]
    fn an_image_waits_for_what_it_shares_and_does_not_keep_a_later_one() {
        let store = MemoryStore::new();
        let image = |name: &str, layers: &[&str]| fixtures::image(&store, name, layers);
        let (a, b) = (image("a", &["base", "a"]), image("b", &["base", "b"]));
        let (c, d) = (image("c", &["c"]), image("d", &["d"]));
        let mut facts = fixtures::empty_node();
        let all = |facts: &NodeFacts, images: &[&RuntimeImage]| -> Vec<Brings> {
            images.iter().map(|i| brings(facts, i)).collect()
        };
        let at = |waiting: Vec<Brings>, running: &[Brings], at_once| {
            next(waiting, running, at_once).map(|(at, _)| at)
        };
        let of = |images: &[&RuntimeImage]| all(&facts, images);
        assert_eq!(at(of(&[&a, &b, &c]), &[], 2), Some(0), "the first that came");
        assert_eq!(at(of(&[&b, &c, &d]), &of(&[&a]), 2), Some(1), "the base is on its way");
        assert_eq!(at(of(&[&b]), &of(&[&a]), 2), None);
        assert_eq!(at(of(&[&d]), &of(&[&a, &c]), 2), None, "as many as may");
        assert_eq!(at(of(&[&d]), &of(&[&a, &c]), 3), Some(0));
        assert_eq!(at(of(&[&c]), &of(&[&a]), 1), None);
        assert_eq!(at(of(&[&c]), &[], 0), Some(0), "one is never too many");
        assert_eq!(at(Vec::new(), &[], 2), None);

        // As after the import of the first.
        facts.content.extend(digests(&a.blobs));
        assert_eq!(at(all(&facts, &[&b]), &all(&facts, &[&c]), 2), Some(0));
        let e = image("e", &["base", "e"]);
        let two = |facts: &NodeFacts| at(all(facts, &[&e]), &all(facts, &[&b]), 2);
        assert_eq!(two(&facts), None, "the base is stored, but not unpacked");
        facts.snapshots.extend(a.image.chain_ids.iter().cloned());
        assert_eq!(two(&facts), Some(0));
    }

    #[test]
    fn what_is_staged_is_read_though_it_is_stored() {
        let store = MemoryStore::new();
        let (a, b) =
            (fixtures::image(&store, "a", &["base", "a"]), fixtures::image(&store, "b", &["base", "b"]));
        let mut facts = fixtures::empty_node();
        facts.content.extend(digests(&a.image.layers));
        facts.snapshots.extend(a.image.chain_ids.iter().cloned());
        let containerd = Containerd::new(Flavor::Plain);
        let of =
            |image: &RuntimeImage, staged: &BTreeSet<Digest>| Brings::of(&containerd, &facts, staged, image);
        let none = BTreeSet::new();
        assert!(of(&a, &none).beside(&of(&b, &none)));
        let base = digests(&a.image.layers[..1]);
        assert!(!of(&a, &base).beside(&of(&b, &base)), "who is first takes it out of staging");
    }

    #[test]
    fn one_config_under_two_manifests_is_one_name_to_cri() {
        let store = MemoryStore::new();
        let a = fixtures::image(&store, "a", &["x"]);
        let mut b = fixtures::image(&store, "b", &["y"]);
        b.image.config = a.image.config.clone();
        let mut facts = fixtures::empty_node();
        facts.content.extend(digests(a.blobs.iter().chain(&b.blobs)));
        facts.snapshots.extend(a.image.chain_ids.iter().chain(&b.image.chain_ids).cloned());
        assert!(!brings(&facts, &a).beside(&brings(&facts, &b)));
    }

    #[test]
    fn what_is_adopted_or_mended_runs_alone() {
        let store = MemoryStore::new();
        let big = "b".repeat(70_000);
        let (a, b) = (fixtures::image(&store, "a", &[&big]), fixtures::image(&store, "b", &["b"]));
        let layer = a.image.layers[0].digest();
        let containerd = Containerd::new(Flavor::Plain);
        let mut facts = fixtures::empty_node();
        let beside = |facts: &NodeFacts, staged: &BTreeSet<Digest>| {
            Brings::of(&containerd, facts, staged, &a).beside(&brings(facts, &b))
        };
        assert!(beside(&facts, &BTreeSet::new()));
        facts.elsewhere.insert(layer.clone());
        assert!(!beside(&facts, &BTreeSet::new()));
        assert!(beside(&facts, &digests(&a.blobs)), "it was sent");
        facts.distrusted.insert(layer.clone());
        assert!(!beside(&facts, &digests(&a.blobs)));
    }
}
