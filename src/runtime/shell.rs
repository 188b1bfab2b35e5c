//! Scripts that every runtime needs.

use std::time::Duration;

use super::{ImportJob, NodeFacts, RuntimeError, RuntimeImage};
use crate::node::{CommandOutput, RemoteCommand, quote};
use crate::oci::{Descriptor, Digest};

/// Whether a folder may be used for staging: absolute, not directly under the root, no `..`, no control characters.
///
/// # Errors
/// Naming the path.
pub fn check_staging(path: &str) -> Result<(), RuntimeError> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let good = path.starts_with('/')
        && parts.len() >= 2
        && !parts.iter().any(|p| matches!(*p, "." | ".."))
        && !path.chars().any(char::is_control);
    if good { Ok(()) } else { Err(RuntimeError::Staging(path.chars().take(200).collect())) }
}

/// In an import script, in the staging folder: waits for all imports of an earlier run or connection that still work on. The lock
/// is on the folder of blobs.
const ONE_AT_A_TIME: &str = r#"if command -v flock >/dev/null 2>&1 && [ -d blobs ]; then
exec 8<blobs
n=0
while flock -n 8 2>/dev/null; [ $? = 1 ]; do
[ $n -lt 240 ] || { echo "an earlier import is still at work on the node; run the same command again later" >&2; exit 92; }
n=$((n+1)); sleep 1
done
fi
"#;

/// The same for an import that may run beside others of its run, none of which touches what it does: whoever waits for one waits
/// for all that share the lock. Its run has waited for earlier ones: who has the lock for himself came later, and this import, whose
/// connection is lost then, must not begin any more.
const BESIDE_OTHERS: &str = r#"if command -v flock >/dev/null 2>&1 && [ -d blobs ]; then
exec 8<blobs
flock -s -n 8 2>/dev/null
[ $? != 1 ] || late
fi
"#;

/// How an import takes its place among others, in the staging folder. A node that is overloaded may begin it long after its connection
/// was lost. Whoever came later has written a turn of their own to the folder's [mark](crate::node::Holder) before they wait for imports:
/// so an import that has the lock and still finds its own turn, or none yet, is one that they wait for, and any other must not begin.
pub(super) fn in_turn(turn: Option<&str>, at_once: usize) -> String {
    let lock = if at_once > 1 { BESIDE_OTHERS } else { ONE_AT_A_TIME };
    let check = turn.map(|turn| {
        format!("turn=\n{{ read -r turn; read -r turn; read -r turn; }} <.omk-staging\n[ -z \"$turn\" ] || [ \"$turn\" = {} ] || late\n", quote(turn))
    });
    format!("{LATE}{lock}{}", check.unwrap_or_default())
}

const LATE: &str = "late() { echo \"another connection took over on the node; run the same command again\" >&2; exit 92; }\n";

/// Waits for an import whose connection was lost, for whoever takes back what it brings. As the session's own user: it reads
/// the folder that is locked.
pub fn await_import(staging: &str) -> RemoteCommand {
    let script = format!("cd {} || exit 98\n{ONE_AT_A_TIME}", quote(staging));
    RemoteCommand { patience: Some(Duration::from_secs(300)), ..RemoteCommand::user(script) }
}

/// Reads the answer to [`await_import`].
///
/// # Errors
/// When an import runs still.
pub fn parse_await_import(output: &CommandOutput) -> Result<(), RuntimeError> {
    if output.ok() {
        return Ok(());
    }
    Err(RuntimeError::Failed {
        what: "waiting for an import whose connection was lost".to_owned(),
        complaint: output.complaint(),
    })
}

/// How an import script begins: in the staging folder, alone there unless there may be more than one, with files that only root
/// reads.
pub(super) fn import_head(job: &ImportJob<'_>, at_once: usize) -> String {
    let lock = in_turn(job.turn, at_once);
    format!(
        "set -u\n\
         PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C; export PATH LC_ALL\n\
         umask 077\n\
         cd {} || exit 98\n\
         {lock}",
        quote(job.staging)
    )
}

/// How a script ends whose import failed: `t` is the status of tar, or `dd` and that of what goes before, `c` that of what reads from it.
pub(super) const FAILED: &str = r#"case $t in 0|141|'dd 141') ;;
dd*) echo "the beginning of the archive could not be passed on ($t)" >&2 ;;
*) echo "tar could not read the staging folder (status $t)" >&2 ;; esac
[ "$c" = 0 ] && exit 94
exit "$c"
"#;

/// Whether an import script came to its end.
pub(super) fn imported(output: &CommandOutput) -> bool {
    output.ok() && output.text().lines().any(|l| l == "==imported")
}

pub(super) const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The beginning of an archive that is an image layout, up to its blobs, which `tar` goes on with.
pub(super) fn archive_head(index: &str) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, text) in [("oci-layout", OCI_LAYOUT), ("index.json", index)] {
        let mut header = tar::Header::new_ustar();
        // Neither can fail: both names are short, and the size fits.
        let _ = header.set_path(name);
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(text.as_bytes());
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive
}

/// How long an import of so many bytes may say nothing: unpacking is silent, and a slow disk manages 2 MiB/s, for all that are
/// imported at the same time.
pub(super) fn patience(bytes: u64) -> Duration {
    Duration::from_secs(300 + bytes / (2 * 1024 * 1024))
}

/// Layers that no snapshot is there of.
pub(super) fn to_unpack<'a>(
    facts: &'a NodeFacts,
    image: &'a RuntimeImage,
) -> impl Iterator<Item = &'a Descriptor> {
    let chains = &image.image.chain_ids;
    let new = |i: usize| chains.get(i).is_none_or(|c| !facts.snapshots.contains(c));
    image.layers().iter().enumerate().filter(move |(i, _)| new(*i)).map(|(_, layer)| layer)
}

/// Measured: 295 MB of gzip'd layers of real images unpack to 895 MB.
pub(super) fn unpacked_size(layer: &Descriptor) -> u64 {
    let packed = ["gzip", "zstd"].iter().any(|c| layer.media_type().ends_with(c));
    if packed { layer.size().saturating_mul(3) } else { layer.size() }
}

/// Takes complete blobs out of staging. As the session's own user, who owns them.
pub fn discard<'a>(staging: &str, blobs: impl IntoIterator<Item = &'a Digest>) -> RemoteCommand {
    let script =
        format!("cd {} || exit 1\nwhile IFS= read -r f; do rm -f -- \"$f\" || exit 1; done", quote(staging));
    let stdin: String = blobs.into_iter().map(|d| format!("{}\n", d.layout_path())).collect();
    RemoteCommand { stdin: stdin.into_bytes(), ..RemoteCommand::user(script) }
}

/// Takes blobs out of staging, complete ones and all parts of them.
pub fn discard_parts<'a>(staging: &str, blobs: impl IntoIterator<Item = &'a Digest>) -> RemoteCommand {
    let script = format!(
        "cd {} || exit 1\n\
         while IFS= read -r f; do h=${{f##*/}}; rm -f -- \"$f\" \"partial/$h\" \"partial/$h\".* || exit 1; done",
        quote(staging)
    );
    RemoteCommand { script, ..discard(staging, blobs) }
}

/// Reads the answer to [`discard`] and [`discard_parts`].
///
/// # Errors
/// When a file could not be removed.
pub fn parse_discard(output: &CommandOutput) -> Result<(), RuntimeError> {
    if output.ok() {
        return Ok(());
    }
    Err(RuntimeError::Failed {
        what: "emptying the staging folder".to_owned(),
        complaint: output.complaint(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_paths_are_checked() {
        for good in ["/var/lib/omk/staging", "/tmp/x", "/home/a b/staging"] {
            assert!(check_staging(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/tmp", "staging", "a/b", "/var/../etc", "/var/./x", "/tmp/a\nb"] {
            assert!(check_staging(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_archive_begins_with_the_layout_and_goes_on_with_what_tar_adds() {
        let index = format!("{{\"manifests\":[\"{}\"]}}", "x".repeat(600));
        let mut bytes = archive_head(&index);
        let mut rest = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_cksum();
        rest.append_data(&mut header, "blobs/sha256/aa", &b"abc"[..]).unwrap();
        bytes.extend(rest.into_inner().unwrap());
        let mut archive = tar::Archive::new(&bytes[..]);
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let (path, mut text) = (entry.path().unwrap().display().to_string(), String::new());
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            (path, text)
        };
        let all: Vec<(String, String)> = archive.entries().unwrap().map(read).collect();
        let expected = [("oci-layout", OCI_LAYOUT), ("index.json", &index), ("blobs/sha256/aa", "abc")];
        assert_eq!(all, expected.map(|(p, t)| (p.to_owned(), t.to_owned())));
    }

    #[test]
    fn imports_beside_each_other_share_the_lock_that_others_wait_for() {
        let (alone, beside) = (in_turn(Some("t1"), 1), in_turn(Some("t1"), 2));
        assert!(alone.contains("while flock -n 8 2>"), "{alone}");
        // It does not wait: who has the lock for himself came later.
        assert!(beside.contains("flock -s -n 8") && !beside.contains("while"), "{beside}");
        assert!(await_import("/s/t").script.contains("while flock -n 8 2>"));
        // What it would be compared with could be written after it was read.
        for script in [alone, beside] {
            assert!(script.rfind("flock").unwrap() < script.find("<.omk-staging").unwrap(), "{script}");
        }
        assert!(!in_turn(None, 1).contains(".omk-staging"), "without locks nobody has a turn");
    }

    #[test]
    fn discarding_takes_paths_from_standard_input() {
        let d = Digest::sha256(b"x");
        let command = discard("/tmp/a b", [&d]);
        assert!(command.script.starts_with("cd '/tmp/a b' || exit 1\n"));
        assert_eq!(command.stdin, format!("blobs/sha256/{}\n", d.hex()).into_bytes());
        let parts = discard_parts("/tmp/a b", [&d]);
        assert!(parts.script.starts_with("cd '/tmp/a b' || exit 1\nwhile ") && parts.stdin == command.stdin);
    }
}
