//! How records are kept on a node.

use super::{RunRecord, VERSION, check_run};
use crate::node::{CommandOutput, RemoteCommand, quote};
use crate::runtime::RuntimeError;

/// A record has a few hundred bytes a name; bytes.
const MAX_RECORD: usize = 4 << 20;
/// Files that are looked at, so that whatever else is in the folder cannot fill memory.
const MAX_RECORDS: usize = 1000;

/// Exit status of [`write`] when the folder of records is not there and may not be made: see [`prepare`].
pub const NO_FOLDER: i32 = 97;

/// Makes the folder of records as root for the user whose staging folder it is beside.
pub fn prepare(folder: &str, staging: &str) -> RemoteCommand {
    let (folder, staging) = (quote(folder), quote(staging));
    RemoteCommand::root(format!(
        "umask 077\nmkdir -p {folder} && chown \"$(stat -c %u {staging})\" {folder}\n"
    ))
}

/// The folder of records: beside staging, so that it is on the node's disk and the same for whoever uses that staging.
/// `/var/lib/omk/staging` has `/var/lib/omk/runs`, another name `NAME-runs`.
pub fn folder(staging: &str) -> String {
    let staging = staging.trim_end_matches('/');
    match staging.strip_suffix("/staging") {
        Some(parent) => format!("{parent}/runs"),
        None => format!("{staging}-runs"),
    }
}

/// Writes a record: staged, counted, synced, renamed, the folder synced. Then removes those of `over`.
pub fn write(folder: &str, record: &RunRecord, over: &[String], root: bool) -> RemoteCommand {
    let mut bytes = serde_json::to_vec(record).unwrap_or_default();
    bytes.push(b'\n');
    let (folder, run, size) = (quote(folder), &record.run, bytes.len());
    let over: Vec<String> = over.iter().filter(|r| check_run(r)).map(|r| format!("{r}.json")).collect();
    let over = if over.is_empty() { String::new() } else { format!("rm -f -- {}\n", over.join(" ")) };
    // `set -C` and the owner are asked for because root writes here: nobody else shall be able to lead it elsewhere.
    let script = format!(
        r#"umask 077
d={folder}
fail() {{ rm -f "$d/.part.$$"; echo "$1" >&2; exit 1; }}
mkdir -p "$d" 2>/dev/null || {{ echo "cannot make $d" >&2; exit {NO_FOLDER}; }}
[ ! -L "$d" ] && [ "$(stat -c %u "$d")" = "$(id -u)" ] || {{ echo "$d belongs to somebody else" >&2; exit 1; }}
cd "$d" || exit 1
rm -f .part.*
set -C
cat >".part.$$" || fail "cannot write to $d: is the disk full?"
[ "$(wc -c <".part.$$")" -eq {size} ] || fail "cannot write to $d: is the disk full?"
sync ".part.$$" 2>/dev/null || sync
mv -f ".part.$$" {run}.json || fail "cannot write to $d"
sync . 2>/dev/null || sync
{over}echo ==written
"#
    );
    RemoteCommand { stdin: bytes, root, ..RemoteCommand::user(script) }
}

/// Reads the answer to [`write`].
///
/// # Errors
/// When it was not written: nothing must be changed then.
pub fn parse_write(output: &CommandOutput) -> Result<(), RuntimeError> {
    if output.ok() && output.text().lines().any(|l| l == "==written") {
        return Ok(());
    }
    Err(RuntimeError::Failed {
        what: "writing the record of this run".to_owned(),
        complaint: output.complaint(),
    })
}

/// Prints all records.
pub fn list(folder: &str, root: bool) -> RemoteCommand {
    let script = format!(
        r#"cd {} 2>/dev/null || {{ echo ==none; exit 0; }}
n=0
for f in *.json; do
  [ -f "$f" ] && [ ! -L "$f" ] && [ $n -lt {MAX_RECORDS} ] || continue
  n=$((n+1))
  printf '\n==run %s\n' "$f"
  head -c {MAX_RECORD} "$f"
done
printf '\n==end\n'
"#,
        quote(folder)
    );
    RemoteCommand { root, ..RemoteCommand::user(script) }
}

/// Reads the answer to [`list`], in the order of the runs; with the names of files that are no records.
///
/// # Errors
/// When the answer did not come to its end, or a newer omk wrote one of them: what it means cannot be known.
pub fn parse_list(output: &CommandOutput) -> Result<(Vec<RunRecord>, Vec<String>), RuntimeError> {
    let text = output.text();
    let whole = output.ok() && text.lines().any(|l| l == "==end" || l == "==none");
    if !whole {
        let what = "reading the records of earlier runs".to_owned();
        return Err(RuntimeError::Failed { what, complaint: output.complaint() });
    }
    let (mut records, mut bad) = (Vec::new(), Vec::new());
    for part in text.split("\n==run ").skip(1) {
        let (file, rest) = part.split_once('\n').unwrap_or((part, ""));
        let body = rest.split("\n==end").next().unwrap_or_default().trim();
        let run = file.strip_suffix(".json").unwrap_or_default();
        if let Ok(Head { version }) = serde_json::from_str(body)
            && version > VERSION
        {
            return Err(RuntimeError::Garbled {
                what: format!("the record of run {run}"),
                why: format!("a newer omk wrote it (version {version}, known is {VERSION}); use that one"),
            });
        }
        match serde_json::from_str::<RunRecord>(body) {
            Ok(record) if record.run == run && check_run(run) && plain(&record) => records.push(record),
            _ => bad.push(file.chars().filter(|c| !c.is_control()).take(100).collect()),
        }
    }
    records.sort_by(|a: &RunRecord, b| (a.sequence, &a.run).cmp(&(b.sequence, &b.run)));
    Ok((records, bad))
}

/// What is there of a record of any version.
#[derive(serde::Deserialize)]
struct Head {
    version: u32,
}

/// Nothing in it can be taken for something else where it is shown or used.
fn plain(record: &RunRecord) -> bool {
    let texts = [&record.bundle, &record.node, &record.by, &record.started, &record.runtime];
    let changes = record.slots.iter().chain(&record.derived);
    let names = changes.flat_map(|c| std::iter::once(&c.name).chain(&c.backup));
    let owned =
        record.pruned.iter().chain(&record.earlier).chain(record.wants.iter().flatten()).map(|o| &o.name);
    let told =
        [&record.ended, &record.namespace, &record.error, &record.undone_in_part].into_iter().flatten();
    texts
        .into_iter()
        .chain(told)
        .chain(names)
        .chain(owned)
        .all(|t| t.len() <= 4096 && !t.chars().any(char::is_control))
}

/// Says who holds the staging folder now, if anybody; takes no lock itself.
pub fn holder(staging: &str) -> RemoteCommand {
    let script = format!(
        "cd {} 2>/dev/null && read -r run pid <.omk-staging && [ -n \"$run\" ] && [ -n \"$pid\" ] || exit 0\n\
         grep -q -- \"$run\" \"/proc/$pid/cmdline\" 2>/dev/null || exit 0\n\
         printf '==holder '; sed -n 2p .omk-staging | head -c 1000\n",
        quote(staging)
    );
    RemoteCommand::user(script)
}

/// Reads the answer to [`holder`].
pub fn parse_holder(output: &CommandOutput) -> Option<String> {
    let text = output.text();
    let who = text.lines().find_map(|l| l.strip_prefix("==holder "))?;
    Some(who.chars().filter(|c| !c.is_control()).take(300).collect())
}
