//! What a chart renders to once values are set otherwise: names that its templates build, in sections that are off.
//!
//! The chart is rendered with everything switched on at once, and with each text that its templates know for a value.
//! For an image that turns up, the few values that bring it are looked for by halves.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Finding, Findings, Held, Origin, SourceName, rules, scan, tree};
use crate::chart::{Chart, Offer, RenderOptions, RenderedDoc, Stage};
use crate::oci::ImageRef;

/// What a file has in it that names an image, or an object that leads to more.
const WORDS: [&str; 5] = ["image", "toolkit.fluxcd.io", "helmrelease", "helm.cattle.io", "argoproj.io"];
/// Objects that are followed even if they are switched off, by group; and what they refer to.
const LEADS: [&str; 4] =
    ["helm.toolkit.fluxcd.io", "source.toolkit.fluxcd.io", "helm.cattle.io", "argoproj.io"];
/// Renderings of one chart.
const MAX_RENDERINGS: usize = 192;
/// Texts that are tried one by one; the rest is tried together.
const MAX_SINGLE: usize = 48;
/// Renderings that may be spent on looking for what brings one image.
const MAX_SEARCH: usize = 20;
/// Keys that switch a part of a chart on; anything else that is `false` is tried after them.
const SWITCHES: [&str; 5] = ["enabled", "create", "install", "enable", "deploy"];

/// What is asked of a chart that is rendered again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// What it prints as it is, as far as that goes: it cannot be rendered otherwise.
    pub(super) as_it_is: bool,
    /// What it prints with other values.
    pub(super) otherwise: bool,
}

struct Trial<'s> {
    stage: &'s Stage,
    name: &'s dyn Fn(&str) -> SourceName,
    /// What the chart prints as it is.
    usual: HashSet<RenderedDoc>,
    left: usize,
}

impl Trial<'_> {
    /// What is found once `changes` are made, in files that are not printed as usual.
    fn found(&mut self, changes: &[&Offer]) -> Findings {
        self.left = self.left.saturating_sub(1);
        let mut all = Findings::default();
        for doc in self.stage.render(changes).into_iter().filter(|d| !self.usual.contains(d)) {
            all.merge(scan(&doc.text, &(self.name)(&doc.source)));
        }
        all
    }
}

/// Something that turns up: an image, or an object by group, kind and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum News {
    Object(String, String, String),
    Image(ImageRef),
}

impl News {
    fn of(held: &Held) -> Option<Self> {
        let leads = LEADS.contains(&held.group()) && !held.name().is_empty();
        leads.then(|| Self::Object(held.group().to_owned(), held.kind.clone(), held.full_name()))
    }

    fn all(found: &Findings) -> BTreeSet<Self> {
        let images = found.findings.iter().map(|f| Self::Image(f.image.clone()));
        images.chain(found.held.iter().filter_map(Self::of)).collect()
    }
}

/// Images that the chart renders to if nothing makes it fail, or with other values, and that are not among `known`; and
/// objects that lead to more.
pub(super) fn switched_on(
    chart: &Chart,
    options: &RenderOptions,
    asked: Asked,
    known: &BTreeSet<ImageRef>,
    name: &dyn Fn(&str) -> SourceName,
) -> Findings {
    let mut out = Findings::default();
    let Ok(stage) = &Stage::new(chart, options, &WORDS) else { return out };
    let mut trial = Trial { stage, name, usual: HashSet::new(), left: MAX_RENDERINGS };
    let usual = trial.found(&[]);
    let mut known: BTreeSet<News> = known.iter().cloned().map(News::Image).chain(News::all(&usual)).collect();
    if asked.as_it_is {
        let found = usual.findings.into_iter();
        out.findings.extend(found.map(|f| Finding::new(f.image, &rules::INCOMPLETE_CHART, f.origin)));
        out.held = usual.held;
    }
    if !asked.otherwise {
        return out;
    }
    trial.usual = stage.render(&[]).into_iter().collect();
    // What is there comes first: what brings it is looked for with the renderings that are left.
    let mut turned_up = Vec::new();
    for round in rounds(stage.offers()) {
        if trial.left == 0 || stage.is_spent() {
            break;
        }
        let found = trial.found(&round);
        let wanted: BTreeSet<News> = News::all(&found).difference(&known).cloned().collect();
        known.extend(wanted.iter().cloned());
        if !wanted.is_empty() {
            turned_up.push((round, found, wanted));
        }
    }
    for (round, found, mut wanted) in turned_up {
        while let Some(news) = wanted.first().cloned() {
            let (few, brought) = match &round[..] {
                [_] => (Some(round.clone()), None),
                _ => search(&mut trial, &round, &news),
            };
            // Where it takes too many renderings to find the few, only the one that was looked for is told.
            let (from, only) = match &brought {
                Some(brought) => (brought, None),
                None if few.is_some() => (&found, None),
                None => (&found, Some(&news)),
            };
            // What fewer values bring as well is looked for by itself.
            let mut fewer: BTreeSet<News> = BTreeSet::new();
            for (i, _) in few.iter().flatten().enumerate().filter(|_| brought.is_some()) {
                let rest = few.iter().flatten().enumerate().filter(|(n, _)| *n != i);
                let rest: Vec<&Offer> = rest.map(|(_, o)| *o).collect();
                fewer.extend(if rest.is_empty() { BTreeSet::new() } else { News::all(&trial.found(&rest)) });
            }
            let takes = |n: &News| match only {
                Some(only) => only == n,
                None => *n == news || wanted.contains(n) && !fewer.contains(n),
            };
            take(&mut out, from, few.as_deref().map(told), &takes);
            let mut gone: BTreeSet<News> = News::all(from).into_iter().filter(|n| takes(n)).collect();
            gone.insert(news);
            wanted.retain(|n| !gone.contains(n));
        }
    }
    out
}

/// Takes over what `takes` says, as switched on by `switch`.
fn take(out: &mut Findings, from: &Findings, switch: Option<String>, takes: &dyn Fn(&News) -> bool) {
    for f in from.findings.iter().filter(|f| takes(&News::Image(f.image.clone()))) {
        let origin = Origin { switch: switch.clone(), ..f.origin.clone() };
        out.findings.push(Finding::new(f.image.clone(), &rules::SWITCHED_ON, origin));
    }
    for held in from.held.iter().filter(|h| News::of(h).is_some_and(|n| takes(&n))) {
        let switch = Some(switch.clone().unwrap_or_default().into());
        let mut held = held.clone();
        held.switch = switch;
        out.held.push(held);
    }
}

/// What is tried at once: all switches, each file of values, each text, and whatever is `false`.
fn rounds(offers: &[Offer]) -> Vec<Vec<&Offer>> {
    let is_named = |o: &&Offer| o.path.last().is_some_and(|l| SWITCHES.contains(&l.as_str()));
    let flags: Vec<&Offer> = offers.iter().filter(|o| o.is_switch()).collect();
    let named: Vec<&Offer> = flags.iter().copied().filter(is_named).collect();
    let mut texts: Vec<&Offer> = offers.iter().filter(|o| !o.is_switch() && is_word(o)).collect();
    // What speaks of images is tried before the rest.
    texts.sort_by_key(|o| !o.path.iter().any(|k| k.to_ascii_lowercase().contains("image")));
    let mut rounds = vec![named.clone()];
    rounds.extend(offers.iter().filter(|o| o.file.is_some()).map(|o| vec![o]));
    let single = texts.len().min(MAX_SINGLE);
    rounds.extend(texts[..single].iter().map(|o| vec![*o]));
    if flags.len() > named.len() {
        rounds.push(flags);
    }
    let mut by_value: BTreeMap<&[String], Vec<&Offer>> = BTreeMap::new();
    for offer in texts {
        by_value.entry(&offer.path).or_default().push(offer);
    }
    let most = by_value.values().map(Vec::len).max().unwrap_or_default();
    let nth = |n: usize| by_value.values().filter_map(|all| all.get(n).copied()).collect::<Vec<_>>();
    rounds.extend((0..most).map(|n| [&named[..], &nth(n)].concat()));
    rounds.retain(|r| !r.is_empty());
    rounds
}

/// Whether the text is one that people choose, rather than the beginning of something.
fn is_word(offer: &Offer) -> bool {
    let text = offer.value.as_str().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    text.len() <= 40 && text.chars().all(plain) && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// As few of `all` as bring what is looked for, and what they bring; none if that takes too many renderings.
fn search<'o>(
    trial: &mut Trial<'_>,
    all: &[&'o Offer],
    news: &News,
) -> (Option<Vec<&'o Offer>>, Option<Findings>) {
    let mut needed: Vec<&Offer> = Vec::new();
    let mut rest = all;
    let end = trial.left.saturating_sub(MAX_SEARCH);
    while trial.left > end {
        let found = trial.found(&needed);
        if News::all(&found).contains(news) {
            needed.sort_by_key(|o| all.iter().position(|a| a == o));
            return (Some(needed), Some(found));
        }
        // The shortest beginning of the rest that will do, with what is needed anyway.
        let (mut low, mut high) = (1, rest.len());
        while low < high && trial.left > end {
            let middle = usize::midpoint(low, high);
            let with: Vec<&Offer> = needed.iter().copied().chain(rest[..middle].iter().copied()).collect();
            if News::all(&trial.found(&with)).contains(news) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let Some(offer) = high.checked_sub(1).and_then(|i| rest.get(i)) else { break };
        needed.push(offer);
        rest = &rest[..high - 1];
    }
    (None, None)
}

/// `metrics.enabled=true,mode=cluster`
fn told(changes: &[&Offer]) -> String {
    let one = |o: &&Offer| {
        if let Some(file) = &o.file {
            return format!("the values of {file}");
        }
        let steps: Vec<tree::Step<'_>> = o.path.iter().map(|k| tree::Step::Key(k)).collect();
        let value = o.value.as_str().map_or_else(|| o.value.to_string(), str::to_owned);
        format!("{}={value}", tree::path(&steps))
    };
    changes.iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
#[path = "switched_tests.rs"]
mod tests;
