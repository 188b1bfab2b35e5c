//! One run at a time in a staging folder.
//!
//! The lock is `flock(2)` on the folder's own mark, taken by a command that stays for as long as the session: when the
//! connection, the sender or the node dies, the lock is gone with it. Nothing has to be cleaned up, as a lock that is
//! a file or a folder would. A sender that vanished without a word (power, cable) is noticed by its missing sign of
//! life. Where the node has no `flock`, everything goes on as if there were nobody else: runs never write to the same
//! file, but one may take away what another is about to import.
//!
//! The mark has three lines: key and process of the holder, its name for people, and its *turn*. Every connection has a turn of its own,
//! and an import that was begun by an earlier one is told by it that it came too late.

use super::{NodeError, quote};

/// Between two signs of life of whoever holds a lock, in seconds.
pub(super) const BEAT: u64 = 15;
/// The node lets go of a lock whose holder gave none for so long, in seconds.
const DEAD: u64 = 100;
/// How often a lock is asked for that nobody holds whose process lives, or whose holder has to go, a second apart.
const TRIES: u32 = 5;
/// What a node may say about a lock, in bytes.
const MAX_ANSWER: usize = 8 << 10;
/// Parts of blobs that nobody came back for are removed after this many days.
pub(super) const KEEP_DAYS: u32 = 7;

/// Who holds a staging folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    key: String,
    who: String,
    turn: String,
}

impl Holder {
    /// `run` tells this run from all others, `node` is the inventory's name. The same run may take its own lock over:
    /// after a lost connection the node may not have noticed yet.
    pub fn new(run: &str, node: &str) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "an unknown host" } else { host.trim() };
        let key = crate::oci::Digest::sha256(format!("{run} {node}").as_bytes()).hex()[..32].to_owned();
        let who = format!("omk on {host} (process {}, run {run}, node {node})", std::process::id());
        Self { key, who: clean(&who), turn: format!("{:016x}", fastrand::u64(..)) }
    }

    /// What the mark says as long as nobody has come later, be it over a new connection of the same run.
    pub fn turn(&self) -> &str {
        &self.turn
    }
}

/// What the command says before it stays, or ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Held,
    /// The node has no lock to give.
    Free,
    Busy(String),
}

impl Answer {
    /// `None`: there is more to come.
    pub(super) fn read(said: &[u8]) -> Result<Option<Self>, NodeError> {
        let text = String::from_utf8_lossy(said);
        // What a login shell prints of its own goes before.
        if text.lines().any(|l| l == "==held") {
            return Ok(Some(Self::Held));
        }
        if text.lines().any(|l| l == "==free") {
            return Ok(Some(Self::Free));
        }
        if let Some((_, rest)) = text.split_once("==busy\n")
            && let Some((who, _)) = rest.split_once("\n==end")
        {
            return Ok(Some(Self::Busy(clean(who))));
        }
        if said.len() > MAX_ANSWER {
            return Err(NodeError::Other("the node's answer about its lock makes no sense".to_owned()));
        }
        Ok(None)
    }

    pub(super) fn accept(self) -> Result<bool, NodeError> {
        match self {
            Self::Held => Ok(true),
            Self::Free => Ok(false),
            Self::Busy(holder) => Err(NodeError::Busy { holder }),
        }
    }
}

/// A peer wrote it.
pub(super) fn clean(who: &str) -> String {
    let text: String = who.chars().filter(|c| !c.is_control()).take(300).collect();
    if text.trim().is_empty() { "somebody who left no name".to_owned() } else { text.trim().to_owned() }
}

/// Takes the lock, says so, and stays until its input ends; with `beat`, also until the input is silent for too long.
/// Under the lock nobody else is at work, so what is of no use to anybody is swept: parts of blobs without a byte or
/// without a line in their journal, all parts of one blob but the largest (whose run is over, and the next goes on from one
/// only), and old ones. A part `HEX` without a run in its name needs no journal.
///
/// Between taking the lock and writing one's name there is a moment, and what the mark says then is of a run that is over. So who
/// is refused by nobody whose process lives asks again: the name comes, or nobody was there but one who looked.
pub(super) fn script(root: &str, holder: &Holder, beat: bool) -> String {
    let Holder { key, who, turn } = holder;
    let (root, who) = (quote(root), quote(who));
    let mut script = format!(
        "cd {root} || exit 1\n\
         sweep() {{ find partial -type f '(' -size 0 -o -mtime +{KEEP_DAYS} ')' \"$@\" -exec rm -f '{{}}' +; }}\n\
         free() {{ sweep -mmin +60; echo ==free; exit 0; }}\n\
         busy() {{ echo ==busy; sed -n 2p .omk-staging | head -c 1000; echo; echo ==end; exit 0; }}\n\
         lives() {{ run= pid=; read -r run pid <.omk-staging; [ -n \"$pid\" ] && grep -qF -e \"$run\" \"/proc/$pid/cmdline\" 2>/dev/null; }}\n\
         command -v flock >/dev/null 2>&1 || free\n\
         exec 9<>.omk-staging || exit 1\n\
         since=$(date -u +%Y-%m-%dT%H:%M:%SZ) n=0\n\
         while flock -n 9 2>/dev/null; r=$?; [ $r = 1 ]; do\n\
         [ $n -lt {TRIES} ] || busy\n\
         if lives; then\n\
         [ \"$run\" = {key} ] || busy\n\
         kill \"$pid\"\n\
         fi\n\
         n=$((n+1)); sleep 1\n\
         done\n\
         [ $r = 0 ] || free\n\
         printf '%s %s\\n%s, since %s by the clock of the node\\n%s\\n' {key} $$ {who} \"$since\" {turn} >.omk-staging\n\
         for p in partial/*.*; do case $p in *.journal) continue ;; esac\n\
         [ -s \"$p\" ] && [ -s \"$p.journal\" ] || rm -f \"$p\" \"$p.journal\"\n\
         done\n\
         seen=\n\
         ls -S partial | while IFS= read -r p; do\n\
         case $p in *.journal) continue ;; *.*) ;; *) continue ;; esac\n\
         case \" $seen\" in *\" ${{p%%.*}} \"*) rm -f \"partial/$p\" \"partial/$p.journal\" ;; *) seen=\"$seen${{p%%.*}} \" ;; esac\n\
         done\n\
         sweep\n\
         echo ==held\n"
    );
    // `timeout` of old busybox wants -t: tried before it is relied upon. What waits must not hold the lock itself.
    script += &match beat {
        true => format!(
            "if timeout 9 true 2>/dev/null; then\n\
             while x=$(timeout {DEAD} dd bs=1 count=1 2>/dev/null 9>&-) && [ \"$x\" = . ]; do :; done\n\
             else cat >/dev/null 9>&-; fi\n"
        ),
        false => "cat >/dev/null 9>&-\n".to_owned(),
    };
    script
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_are_read_once_they_are_whole() {
        let read = |said: &str| Answer::read(said.as_bytes()).unwrap();
        assert_eq!(read("welcome\n==held\n"), Some(Answer::Held));
        assert_eq!(read("==free\n"), Some(Answer::Free));
        assert_eq!(read("==busy\nomk on a"), None);
        assert_eq!(read("==busy\nomk on\ta\n==end\n"), Some(Answer::Busy("omk ona".into())));
        assert_eq!(read("==busy\n\n==end\n"), Some(Answer::Busy("somebody who left no name".into())));
        assert!(Answer::read(&vec![b'x'; MAX_ANSWER + 1]).is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(said in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some(Answer::Busy(who))) = Answer::read(&said) {
                prop_assert!(!who.chars().any(char::is_control) && who.chars().count() <= 300);
            }
        }
    }
}
