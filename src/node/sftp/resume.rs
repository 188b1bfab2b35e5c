//! What is left of an interrupted transfer, and how much of it is good.
//!
//! The journal of a partial blob has one line per 4 MiB that the node acknowledged: `START END HEX`, where HEX is the
//! digest of the bytes `START..END` as the sender saw them, in the blob's own algorithm. START is where that sender
//! began, so that it needs to hash every byte once only. Nothing in the journal is believed: the node hashes those
//! ranges of the partial blob anew, and only what agrees counts. A power loss that kept the journal but not the data
//! therefore costs a retransfer and nothing else.

use std::collections::BTreeMap;

use super::Staging;
use crate::node::{RemoteCommand, quote};
use crate::oci::{Descriptor, Digest};
use crate::store::StoreError;

/// Bytes between two lines of a journal; every START and END is a multiple.
pub(super) const CHUNK: u64 = 4 << 20;
/// A journal is not read beyond this, in bytes: enough for a blob of 40 GiB.
const MAX_JOURNAL: u64 = 1 << 20;

/// One proved range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) hex: String,
}

impl Segment {
    pub(super) fn line(&self) -> String {
        format!("{} {} {}\n", self.start, self.end, self.hex)
    }
}

/// A partial blob on the node and what its journal claims.
#[derive(Debug, Default, PartialEq, Eq)]
struct Leftover {
    run: String,
    /// Somebody wrote to it within the last minute, by the node's clock.
    fresh: bool,
    size: u64,
    /// By START: END and digest.
    claims: BTreeMap<u64, BTreeMap<u64, String>>,
}

impl Leftover {
    /// Up to where the claims go without a gap and the file reaches.
    fn claimed(&self) -> u64 {
        let mut at = 0;
        while let Some((&end, _)) = self.claims.get(&at).and_then(|ends| ends.range(..=self.size).next_back())
        {
            at = end;
        }
        at
    }
}

/// Prints every partial copy of the blob with its journal. `find -mmin` that fails says "fresh", the careful answer.
fn survey(root: &str, hex: &str) -> String {
    format!(
        "cd {}/partial || exit 0\n\
         for j in {hex}.*.journal; do\n\
         p=${{j%.journal}}\n\
         [ -f \"$p\" ] && [ ! -L \"$p\" ] || continue\n\
         f=fresh; [ -z \"$(find \"$p\" -prune -mmin +1 2>/dev/null)\" ] || f=stale\n\
         echo \"partial ${{p#*.}} $f $(wc -c <\"$p\")\"\n\
         head -c {MAX_JOURNAL} \"$j\"\n\
         echo\n\
         done\n",
        quote(root)
    )
}

/// Reads what [`survey`] printed. Lines that make no sense are as if they were not there.
fn read_survey(text: &str, hex_len: usize) -> Vec<Leftover> {
    let mut all: Vec<Leftover> = Vec::new();
    let good_run =
        |run: &str| (1..=64).contains(&run.len()) && run.bytes().all(|b| b.is_ascii_alphanumeric());
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["partial", run, age, size] => {
                if let (true, Ok(size)) = (good_run(run), size.trim().parse()) {
                    let fresh = *age != "stale";
                    all.push(Leftover { run: (*run).to_owned(), fresh, size, ..Leftover::default() });
                } else {
                    // Its lines must not be taken for those of the one before.
                    all.push(Leftover::default());
                }
            }
            [start, end, hex] => {
                let good =
                    hex.len() == hex_len && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if let (Some(last), Ok(start), Ok(end), true) =
                    (all.last_mut(), start.parse::<u64>(), end.parse::<u64>(), good)
                    && start.is_multiple_of(CHUNK)
                    && end.is_multiple_of(CHUNK)
                    && start < end
                {
                    last.claims.entry(start).or_default().insert(end, (*hex).to_owned());
                }
            }
            _ => {}
        }
    }
    all.retain(|l| !l.run.is_empty());
    all
}

/// The one to go on with, and those that are of no use beside it: this run's own, else the one that claims most.
fn choose(mut all: Vec<Leftover>, own: &str) -> (Option<Leftover>, Vec<Leftover>) {
    let mine = all.iter().position(|l| l.run == own && l.claimed() > 0);
    let most = || (0..all.len()).filter(|&at| all[at].claimed() > 0).max_by_key(|&at| all[at].claimed());
    let chosen = mine.or_else(most).map(|at| all.swap_remove(at));
    (chosen, all)
}

/// Makes another run's partial blob this run's, and removes those that are of no use beside it: a disk that has room for
/// a blob once must not be filled by what each interrupted run left of it. A fresh one is copied and a fresh one stays:
/// its writer may be alive, and must not write into what is proved here.
fn adopt(root: &str, hex: &str, from: &Leftover, to: &str, superseded: &[Leftover]) -> String {
    let mut script = format!("cd {}/partial || exit 1\n", quote(root));
    for other in superseded.iter().filter(|l| !l.fresh && l.run != to) {
        script += &format!("rm -f {hex}.{run} {hex}.{run}.journal\n", run = other.run);
    }
    let (old, new) = (format!("{hex}.{}", from.run), format!("{hex}.{to}"));
    if from.run == to {
        return script;
    }
    script += &match from.fresh {
        true => format!(
            "cp --reflink=auto {old} {new} 2>/dev/null || cp {old} {new} || {{ rm -f {new}; exit 1; }}\n"
        ),
        false => format!("mv -f {old} {new} && mv -f {old}.journal {new}.journal || exit 1\n"),
    };
    script
}

/// Prints the digest of a range of a file; both ends are multiples of [`CHUNK`].
fn hash_range(path: &str, tool: &str, start: u64, end: u64) -> String {
    let (skip, count) = (start / CHUNK, (end - start) / CHUNK);
    format!("dd if={} bs={CHUNK} skip={skip} count={count} 2>/dev/null | {tool}\n", quote(path))
}

/// The proved prefix of the blob on the node, as segments without a gap from 0; empty when there is none. Afterwards
/// the partial blob has this run's name.
pub(super) async fn resume(staging: &Staging, blob: &Descriptor) -> Result<Vec<Segment>, StoreError> {
    let (digest, root) = (blob.digest(), &staging.root);
    let own = &staging.connection.lineage;
    let output = run(staging, survey(root, digest.hex()), 0).await?;
    let mut all = read_survey(&output, digest.hex().len());
    if staging.connection.holds() {
        // Nobody else is at work here. What the server of a sender that just died still writes is at its place in the
        // same blob, and all of it is hashed in the end.
        all.iter_mut().for_each(|l| l.fresh = false);
    }
    let (Some(found), rest) = choose(all, own) else { return Ok(Vec::new()) };
    let script = adopt(root, digest.hex(), &found, own, &rest);
    prove(staging, blob, &found, script).await
}

async fn prove(
    staging: &Staging,
    blob: &Descriptor,
    found: &Leftover,
    mut before: String,
) -> Result<Vec<Segment>, StoreError> {
    let path = staging.partial(blob.digest());
    let tool = format!("{}sum", blob.digest().algorithm().as_str());
    let limit = found.size.min(blob.size());
    let mut proved: Vec<Segment> = Vec::new();
    loop {
        let start = proved.last().map_or(0, |s| s.end);
        let Some(ends) = found.claims.get(&start) else { break };
        let ends: Vec<(u64, &String)> = ends.range(..=limit).map(|(&end, hex)| (end, hex)).collect();
        // How many of `ends` are known good, and how many may be: the last first, then halving. A prefix is good up to
        // the first bad byte and bad from there on, so this finds the boundary.
        let (mut good, mut open) = (0, ends.len());
        let mut probe = open;
        while good < open {
            let (end, hex) = ends[probe - 1];
            let script = std::mem::take(&mut before) + &hash_range(&path, &tool, start, end);
            let printed = run(staging, script, end - start).await?;
            match printed.split_ascii_whitespace().next() == Some(hex) {
                true => good = probe,
                false => open = probe - 1,
            }
            probe = good + (open - good).div_ceil(2);
        }
        let Some((end, hex)) = good.checked_sub(1).map(|at| ends[at]) else { break };
        proved.push(Segment { start, end, hex: hex.clone() });
        if good < ends.len() {
            break;
        }
    }
    Ok(proved)
}

/// What the node hashes the whole partial blob to.
pub(super) async fn hash_all(staging: &Staging, blob: &Descriptor) -> Result<Digest, StoreError> {
    let algorithm = blob.digest().algorithm().as_str();
    let path = quote(&staging.partial(blob.digest()));
    let script = format!("[ -f {path} ] || {{ echo gone; exit 0; }}\n{algorithm}sum <{path}\n");
    let printed = run(staging, script, blob.size()).await?;
    let hex = printed.split_ascii_whitespace().next().unwrap_or_default();
    if hex == "gone" {
        let text = format!(
            "the staged part of {} is gone from {}: another run seems to use the same staging folder; wait until it \
             has ended",
            blob.digest(),
            staging.connection.address
        );
        return Err(StoreError::Remote(text));
    }
    format!("{algorithm}:{hex}").parse().map_err(|_| {
        let text = format!(
            "{} cannot hash what was staged: is {algorithm}sum installed there?",
            staging.connection.address
        );
        StoreError::Remote(text)
    })
}

/// Removes every partial copy of a blob that is complete now.
pub(super) async fn clean(staging: &Staging, digest: &Digest) -> Result<(), StoreError> {
    run(staging, format!("rm -f {}/partial/{}.*\n", quote(&staging.root), digest.hex()), 0).await.map(drop)
}

async fn run(staging: &Staging, script: String, hashes: u64) -> Result<String, StoreError> {
    let mut command = RemoteCommand::user(script);
    command.patience = Some(super::hash_patience(hashes, staging.connection.options.patience));
    Ok(staging.connection.run(&command).await.map_err(super::into_store)?.text())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(c: char) -> String {
        c.to_string().repeat(64)
    }

    #[test]
    fn a_survey_gives_what_is_claimed_without_gaps() {
        let (mib4, mib8, mib16) = (CHUNK, 2 * CHUNK, 4 * CHUNK);
        let text = format!(
            "partial r1 stale {mib16}\n0 {mib4} {a}\n0 {mib8} {a}\n{mib8} {mib16} {a}\n\n\
             partial r2 fresh {mib8}\n0 {mib4} {a}\n0 {mib16} {a}\n0 5 {a}\n0 {mib8} short\ntorn li\n\
             partial ../../x fresh 9999999999\n0 {mib16} {a}\n",
            a = hex('a')
        );
        let all = read_survey(&text, 64);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].run.as_str(), all[0].fresh, all[0].claimed()), ("r1", false, mib16));
        assert_eq!((all[1].run.as_str(), all[1].fresh, all[1].claimed()), ("r2", true, mib4));
        assert_eq!(choose(read_survey(&text, 64), "r2").0.unwrap().run, "r2");
        assert_eq!(choose(read_survey(&text, 64), "other").0.unwrap().run, "r1");
        assert_eq!(choose(read_survey("partial r fresh 0\n", 64), "r").0, None);

        let (found, rest) = choose(read_survey(&text, 64), "r2");
        let script = adopt("/s", "abc", &found.unwrap(), "r2", &rest);
        assert_eq!(script, "cd /s/partial || exit 1\nrm -f abc.r1 abc.r1.journal\n");
        let (found, rest) = choose(read_survey(&text, 64), "r3");
        let script = adopt("/s", "abc", &found.unwrap(), "r3", &rest);
        let renamed = "mv -f abc.r1 abc.r3 && mv -f abc.r1.journal abc.r3.journal || exit 1\n";
        assert_eq!(script, format!("cd /s/partial || exit 1\n{renamed}"), "the fresh one stays");
    }

    proptest! {
        #[test]
        fn any_survey_is_survived(text in "(partial [a-z]{1,3} (fresh|stale) [0-9]{1,20}\n|[0-9]{1,20} [0-9]{1,20} [a-f0-9]{64}\n|[ -~\n]{0,20}){0,20}") {
            for leftover in read_survey(&text, 64) {
                prop_assert!(leftover.claimed() <= leftover.size);
                prop_assert_eq!(leftover.claimed() % CHUNK, 0);
            }
        }
    }
}
