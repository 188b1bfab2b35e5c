//! Undoing imports in containerd: names are the slots.
//!
//! A backup is another name, `omk.invalid/bak/RUN:…`, for what a name pointed at; it keeps content and snapshots from
//! garbage collection. `.invalid` never resolves (RFC 2606). Measured on 1.6: restoring the name and removing what was
//! added, the last of it synchronously, brings names, labels, content and snapshots back as they were. `sha256:<config>` names,
//! which CRI adds up to a second after an import, have to go too, or the content stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Containerd;
use crate::node::{CommandOutput, RemoteCommand};
use crate::oci::Digest;
use crate::runtime::reversible::{self, Changes, Labels, Marks, Reversible};
use crate::runtime::sections::{self, PRELUDE, Sections};
use crate::runtime::{NodeFacts, RuntimeError, RuntimeImage};

/// What backups begin with.
const BACKUPS: &str = "omk.invalid/bak/";

impl Reversible for Containerd {
    fn root(&self) -> bool {
        true
    }

    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }

    fn slots(&self, facts: &NodeFacts) -> BTreeMap<String, Option<Digest>> {
        facts.names.iter().map(|(name, image)| (name.clone(), Some(image.digest.clone()))).collect()
    }

    fn sets(&self, image: &RuntimeImage) -> Vec<String> {
        image.names.clone()
    }

    fn derives(&self, image: &RuntimeImage) -> Vec<String> {
        vec![image.image.config.digest().to_string()]
    }

    fn derived(&self, slot: &str) -> bool {
        slot.parse::<Digest>().is_ok()
    }

    fn backup(&self, run: &str, slot: &str) -> String {
        backup(run, slot)
    }

    fn backup_of<'a>(&self, slot: &'a str) -> Option<&'a str> {
        slot.strip_prefix(BACKUPS)?.split_once(':').map(|(run, _)| run)
    }

    fn change(&self, changes: &Changes) -> RemoteCommand {
        let ctr = self.ctr();
        let wait = if changes.just_now { "sleep 1\n" } else { "" };
        let script = format!(
            r#"{PRELUDE}e=0 t=$(printf '\t')
{AWAIT}await {ctr}
set --
while IFS=$t read -r verb a b; do
  case $verb in
  restore) {ctr} images tag --force "$b" "$a" >/dev/null </dev/null || e=1 ;;
  label) {ctr} images label "$a" "$b" >/dev/null </dev/null || e=1 ;;
  remove) set -- "$@" "$a" ;;
  esac
done
[ "$e" = 0 ] || exit 1
{wait}if [ $# -gt 0 ]; then
  {ctr} images rm --sync "$@" >/dev/null </dev/null
fi
echo ==changed
"#
        );
        let stdin = reversible::orders(changes, |_| true);
        RemoteCommand { stdin, patience: Some(Duration::from_secs(300)), ..RemoteCommand::root(script) }
    }

    fn marks(&self) -> Option<RemoteCommand> {
        let ctr = self.ctr();
        let script = format!("{PRELUDE}s images {ctr} images ls\ns containers {ctr} containers ls\n");
        Some(RemoteCommand { patience: Some(Duration::from_secs(120)), ..RemoteCommand::root(script) })
    }

    fn parse_marks(&self, output: &CommandOutput) -> Result<Marks, RuntimeError> {
        let text = sections::text(output)?;
        let all = Sections::parse(&text);
        let images = all.need("images", "ctr images ls")?;
        let containers = all.need("containers", "ctr containers ls")?;
        Ok(Marks { labels: labels(&images.lines), used: used(&containers.lines) })
    }
}

/// Waits for containerd that is starting again, as systemd does it after it was killed.
pub(super) const AWAIT: &str = "await() { n=0; while [ $n -lt 60 ] && ! \"$@\" version >/dev/null 2>&1 </dev/null; do n=$((n+1)); sleep 1; done; }\n";

/// Where a run keeps what a name pointed at.
pub(super) fn backup(run: &str, name: &str) -> String {
    format!("{BACKUPS}{run}:{}", &Digest::sha256(name.as_bytes()).hex()[..32])
}

/// `REF TYPE DIGEST SIZE PLATFORMS LABELS`: the last word is `-` or `KEY=VALUE,…`. A value with a space or a comma in it
/// cannot be told apart there; what is left of it is no label that is needed.
fn labels(lines: &[&str]) -> BTreeMap<String, Labels> {
    let one = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2)?.parse::<Digest>().ok()?;
        let labels: Labels = fields
            .get(5..)?
            .last()?
            .split(',')
            .filter_map(|l| l.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        (!labels.is_empty()).then(|| (fields[0].to_owned(), labels))
    };
    lines.iter().filter_map(one).collect()
}

/// `CONTAINER IMAGE RUNTIME`.
fn used(lines: &[&str]) -> BTreeSet<String> {
    let image = |line: &&str| line.split_whitespace().nth(1).map(str::to_owned);
    lines.iter().skip(1).filter_map(image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::reversible::Restore;
    use crate::runtime::{Flavor, fixtures};

    #[test]
    fn marks_are_read_from_ctr() {
        let digest = Digest::sha256(b"x");
        let text = format!(
            "==omk images\nREF TYPE DIGEST SIZE PLATFORMS LABELS \n\
             lab.example/a:1 application/vnd.oci.image.manifest.v1+json {digest} 1.2 MiB linux/amd64 io.cri-containerd.image=managed,io.cri-containerd.pinned=pinned \n\
             lab.example/b:1 application/vnd.oci.image.manifest.v1+json {digest} 7 B linux/amd64,linux/arm64 - \n\n==rc 0\n\
             ==omk containers\nCONTAINER    IMAGE    RUNTIME\nc1    lab.example/a:1    io.containerd.runc.v2    \n\n==rc 0\n"
        );
        let output = CommandOutput { status: 0, stdout: text.into_bytes(), stderr: Vec::new() };
        let marks = Containerd::new(Flavor::Plain).parse_marks(&output).unwrap();
        assert_eq!(marks.used, BTreeSet::from(["lab.example/a:1".to_owned()]));
        let a: Vec<&str> = marks.labels["lab.example/a:1"].keys().map(String::as_str).collect();
        assert_eq!(a, ["io.cri-containerd.image", "io.cri-containerd.pinned"]);
        assert!(!marks.labels.contains_key("lab.example/b:1"));
        let half = CommandOutput { stdout: b"==omk images\n==rc 0\n".to_vec(), ..output };
        assert!(Containerd::new(Flavor::Plain).parse_marks(&half).is_err());
    }

    #[test]
    fn a_backup_tells_its_run() {
        let containerd = Containerd::new(Flavor::Plain);
        let name = containerd.backup("20261129-013000-ab12", "docker.io/library/web:1");
        assert_eq!(name, "omk.invalid/bak/20261129-013000-ab12:86604095f9fd5036261163224a33130e");
        assert_eq!(containerd.backup_of(&name), Some("20261129-013000-ab12"));
        assert_eq!(containerd.backup_of("docker.io/omk.invalid/bak/x:1"), None);
    }

    #[test]
    fn orders_come_on_standard_input_and_hold_no_tricks() {
        let restore = Restore {
            slot: "a:1".into(),
            backup: "omk.invalid/bak/r:1".into(),
            labels: [("k".to_owned(), "v".to_owned())].into(),
        };
        let remove = vec!["b:1".to_owned(), "c\nrestore\tx".to_owned(), String::new()];
        let changes = Changes { restore: vec![restore], remove, just_now: false };
        let command = Containerd::new(Flavor::K3s).change(&changes);
        let said = String::from_utf8(command.stdin).unwrap();
        assert_eq!(said, "restore\ta:1\tomk.invalid/bak/r:1\nlabel\ta:1\tk=v\nremove\tb:1\n");
        assert!(command.root && command.script.contains("k3s ctr -n k8s.io images rm --sync \"$@\""));
        let image = fixtures::image(&crate::store::MemoryStore::new(), "a", &["x"]);
        let derived = Containerd::new(Flavor::Plain).derives(&image);
        assert_eq!(derived, [image.image.config.digest().to_string()]);
    }
}
