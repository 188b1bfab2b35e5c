//! What containerd's nodes say beyond the probe: see [`Evidence`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Containerd, Flavor, NAMESPACE};
use crate::node::{CommandOutput, RemoteCommand, quote};
use crate::oci::{Algorithm, Descriptor, Digest};
use crate::runtime::RuntimeError;
use crate::runtime::evidence::{self, Cri, Evidence, Hashes, PINNED};
use crate::runtime::sections::{self, PRELUDE, Section, Sections};
use crate::runtime::shell::patience;

/// Where upstream's and the distributions' packages put containerd's socket.
const SOCKET: &str = "/run/containerd/containerd.sock";
/// containerd up to here does not know the label that pins.
const NO_PINS: [&str; 2] = ["1.5.", "1.6."];

impl Containerd {
    /// `crictl` with the socket of this containerd: its own configuration may name another one. It waits as many seconds.
    fn crictl(&self, seconds: u32) -> (String, String) {
        let (program, socket) = match &self.flavor {
            Flavor::Plain => ("crictl", SOCKET),
            Flavor::K3s => return ("k3s".to_owned(), "k3s crictl".to_owned()),
            Flavor::Rke2 => ("/var/lib/rancher/rke2/bin/crictl", "/run/k3s/containerd/containerd.sock"),
            Flavor::MicroK8s => ("crictl", "/var/snap/microk8s/common/run/containerd.sock"),
            Flavor::CanonicalK8s { socket } => ("crictl", socket.as_str()),
        };
        let endpoint = quote(&format!("unix://{socket}"));
        (program.to_owned(), format!("{program} -t {seconds}s -r {endpoint} -i {endpoint}"))
    }

    /// The end of a probe, in which `$plugins` is what `plugins ls -d` says: all that evidence needs beyond the rest of it.
    /// Most probes are followed by no proof, and must not wait where CRI hangs; a proof asks again where this had no answer.
    pub(super) fn ask_crictl(&self) -> String {
        let (program, crictl) = self.crictl(3);
        format!(
            "cri() {{ printf '%s\\n' \"$plugins\" | awk '/^ID:/ {{ id = $2 }} id == \"cri\" && /^(ID|Error):/'; }}\n\
             s cri cri\n\
             s crictl-program command -v {program}\n\
             [ \"$r\" = 0 ] || exit 0\n\
             s crictl {crictl} images -o json\n"
        )
    }

    /// Evidence from the answer to a probe that came to its end. Nothing where that could not tell: a node without awk, a
    /// crictl that failed or was not given the time.
    pub(super) fn probed(&self, all: &Sections<'_>, images: &[&str], version: &str) -> Option<Evidence> {
        let (cri, program) = (all.get("cri").filter(|s| s.ok())?, all.get("crictl-program")?);
        let crictl = all.get("crictl").filter(|s| s.ok());
        if program.ok() && crictl.is_none() {
            return None;
        }
        let says = |word: &str| cri.lines.iter().any(|l| l.starts_with(word));
        Some(self.weigh(says("ID:") && !says("Error"), crictl, images, version))
    }

    pub(super) fn ask_evidence(&self) -> RemoteCommand {
        let ((program, crictl), ctr) = (self.crictl(30), self.ctr());
        let script = format!(
            "{PRELUDE}s images {ctr} images ls\ns plugins {ctr} plugins ls\ns version {ctr} version\n\
             s program command -v {program}\n[ \"$r\" = 0 ] || exit 0\ns crictl {crictl} images -o json\n"
        );
        RemoteCommand { patience: Some(Duration::from_secs(120)), ..RemoteCommand::root(script) }
    }

    pub(super) fn read_evidence(&self, output: &CommandOutput) -> Result<Evidence, RuntimeError> {
        let text = sections::text(output)?;
        let all = Sections::parse(&text);
        let images = all.need("images", "ctr images ls")?;
        let version =
            all.get("version").and_then(|s| super::names::server_version(&s.lines)).unwrap_or_default();
        let runs = all.get("plugins").is_some_and(|s| cri_runs(&s.lines));
        Ok(self.weigh(runs, all.get("crictl"), &images.lines, &version))
    }

    fn weigh(
        &self,
        cri_runs: bool,
        crictl: Option<&Section<'_>>,
        images: &[&str],
        version: &str,
    ) -> Evidence {
        let version = version.trim_start_matches('v');
        let cri = if self.namespace != NAMESPACE {
            Cri::Unknown(format!("kubelet looks into the namespace {NAMESPACE} alone"))
        } else if !cri_runs {
            Cri::Unknown("containerd's CRI plugin is off or failed, so kubelet cannot use it".to_owned())
        } else {
            let asked = crictl.filter(|s| s.ok()).map(|s| evidence::crictl(&s.lines.join("\n")));
            match (asked, crictl) {
                (Some(Ok(found)), _) => Cri::Asked(found),
                (Some(Err(error)), _) => Cri::Labels(error.to_string()),
                (None, Some(section)) => Cri::Labels(format!("crictl failed: {}", section.complaint())),
                (None, None) => Cri::Labels("the node has no crictl".to_owned()),
            }
        };
        let ignores_pins = NO_PINS.iter().any(|v| version.starts_with(v));
        Evidence { cri, labels: labels(images), ignores_pins }
    }

    /// Names travel on standard input: there may be more than a command line takes.
    pub(super) fn label_pins(&self, names: &[&str]) -> RemoteCommand {
        let (ctr, (key, value)) = (self.ctr(), PINNED);
        let stdin: String = names.iter().map(|n| format!("{n}\n")).collect();
        let script = format!(
            "{PRELUDE}while IFS= read -r n; do {ctr} images label \"$n\" {key}={value} >/dev/null || exit 1; done"
        );
        RemoteCommand { stdin: stdin.into_bytes(), ..RemoteCommand::root(script) }
    }

    /// Where blobs lie, as `$store`.
    fn store(&self) -> String {
        format!(
            r#"root=$({ctr} plugins ls -d id==content 2>/dev/null | sed -n 's|^ *root  *\(/.*\)/io.containerd.content.v1.content *$|\1|p' | head -n 1)
store=${{root:-{root}}}/io.containerd.content.v1.content/blobs
"#,
            ctr = self.ctr(),
            root = self.root()
        )
    }

    pub(super) fn hash_blobs(&self, blobs: &[&Descriptor]) -> RemoteCommand {
        let mut script = format!(
            r#"{PRELUDE}{}g=
for p in 'nice -n 19' 'ionice -c 3'; do command -v "${{p%% *}}" >/dev/null 2>&1 && g="$g $p"; done
list=$(cat)
h() {{ printf '%s\n' "$list" | grep "^$1/" | xargs -n 16 $g "$2" --; }}
cd "$store" || exit 1
"#,
            self.store()
        );
        let kinds: BTreeSet<Algorithm> = blobs.iter().map(|b| b.digest().algorithm()).collect();
        for kind in kinds {
            let kind = (kind.as_str(), sections::sum_program(kind));
            script += &format!("s {0} h {0} {1}\n", kind.0, kind.1);
        }
        let line = |b: &&Descriptor| format!("{}/{}\n", b.digest().algorithm().as_str(), b.digest().hex());
        // A line comes as soon as a file is done: the session watches for life.
        let largest = blobs.iter().map(|b| b.size()).max().unwrap_or_default();
        RemoteCommand {
            stdin: blobs.iter().map(line).collect::<String>().into_bytes(),
            patience: Some(patience(largest)),
            ..RemoteCommand::root(script)
        }
    }

    pub(super) fn read_hashes(
        &self,
        blobs: &[&Descriptor],
        output: &CommandOutput,
    ) -> Result<Hashes, RuntimeError> {
        let text = sections::text(output)?;
        let all = Sections::parse(&text);
        let mut hashes: Hashes = blobs.iter().map(|b| (b.digest().clone(), None)).collect();
        let kinds = [Algorithm::Sha256, Algorithm::Sha512].map(Algorithm::as_str);
        let mut read = 0;
        for (kind, section) in kinds.into_iter().filter_map(|k| Some((k, all.get(k)?))) {
            for line in &section.lines {
                let Some((sum, path)) = line.split_once(' ') else { continue };
                let path = path.trim_start_matches([' ', '*']);
                let Some(hex) = path.strip_prefix(kind).and_then(|p| p.strip_prefix('/')) else { continue };
                let (name, sum) =
                    (format!("{kind}:{hex}").parse::<Digest>(), format!("{kind}:{sum}").parse());
                if let (Ok(name), Ok(sum)) = (name, sum)
                    && let Some(slot) = hashes.get_mut(&name)
                {
                    *slot = Some(sum);
                    read += 1;
                }
            }
            // What is gone, and what the disk does not give any more, is damage and no failure.
            let damage = |l: &&str| l.contains("No such file") || l.contains("Input/output error");
            if read == 0 && !section.ok() && !section.lines.iter().any(damage) {
                let complaint = section.complaint();
                return Err(RuntimeError::Failed { what: "hashing the node's blobs".to_owned(), complaint });
            }
        }
        Ok(hashes)
    }

    /// For an import script that runs in the staging folder: puts staged blobs in the place of stored ones that turned out to
    /// be damaged. containerd writes nothing under a digest that it has already, so an import alone would leave them. What is
    /// staged is hashed first, and the file is replaced at once: who reads the old one goes on reading it.
    pub(super) fn mend<'a>(&self, blobs: impl Iterator<Item = &'a Descriptor>) -> String {
        let mut script = String::new();
        for blob in blobs {
            let (algorithm, hex) = (blob.digest().algorithm(), blob.digest().hex());
            if script.is_empty() {
                script += &self.store();
            }
            script += &format!(
                r#"if [ -f "$store/{kind}/{hex}" ]; then
n=$store/{kind}/.omk-{short}
rm -f "$n" && cp "blobs/{kind}/{hex}" "$n" && echo "{hex}  $n" | {program} -c - >/dev/null 2>&1 && chmod 444 "$n" && {{ sync "$n" 2>/dev/null || sync; }} && mv -f "$n" "$store/{kind}/{hex}" || {{
rm -f "$n"; echo "cannot replace the damaged blob {kind}:{hex}: no room, or what was staged is damaged" >&2; exit 91; }}
fi
"#,
                kind = algorithm.as_str(),
                program = sections::sum_program(algorithm),
                short = &hex[..16],
            );
        }
        script
    }
}

/// Whether the CRI plugin works: `TYPE ID PLATFORMS STATUS`, `cri` up to 1.7 and beside it `images` since 2.0.
fn cri_runs(lines: &[&str]) -> bool {
    lines.iter().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1) == Some(&"cri") && fields.last() == Some(&"ok")
    })
}

/// The last column of `ctr images ls`: `KEY=VALUE,…` or `-`.
fn labels(lines: &[&str]) -> BTreeMap<String, BTreeMap<String, String>> {
    let row = |line: &&str| {
        let (name, rest) = line.split_once(char::is_whitespace)?;
        let last = rest.split_whitespace().next_back()?;
        let pairs = last.split(',').filter_map(|p| p.split_once('='));
        Some((name.to_owned(), pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()))
    };
    lines.iter().skip(1).filter_map(row).collect()
}
