//! Answers to probes: sections between marker lines, and the small formats of `df`, `stat` and `uname` in them.

use std::collections::BTreeMap;

use super::{Disk, RuntimeError};
use crate::node::CommandOutput;
use crate::oci::{Algorithm, Digest, Platform};

/// An answer longer than this is not read: 64 MiB is some 400 000 blobs.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Defines `s NAME COMMAND…` for a probe script: runs the command and prints what it says between two markers. The
/// paths are those that `sudo` and non-interactive shells forget.
pub(super) const PRELUDE: &str = r#"set -u
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C; export PATH LC_ALL
s() { printf '\n==omk %s\n' "$1"; shift; "$@" 2>&1; r=$?; printf '\n==rc %s\n' "$r"; }
staged() ( cd "$1" 2>/dev/null && find . -type f -exec stat -c '%s %n' {} + )
processors() { unset OMP_NUM_THREADS OMP_THREAD_LIMIT; nproc 2>/dev/null || getconf _NPROCESSORS_ONLN; }
space() ( p=$1; printf 'path %s\n' "$1"; while [ ! -e "$p" ]; do p=${p%/*}; [ -n "$p" ] || p=/; done; df -Pk "$p" )
"#;

/// What one command of a probe said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Section<'a> {
    pub(super) lines: Vec<&'a str>,
    pub(super) status: i32,
}

impl Section<'_> {
    pub(super) fn ok(&self) -> bool {
        self.status == 0
    }

    /// The last thing it said, for messages.
    pub(super) fn complaint(&self) -> String {
        let line = self.lines.iter().rev().map(|l| l.trim()).find(|l| !l.is_empty()).unwrap_or("no message");
        line.chars().filter(|c| !c.is_control()).take(400).collect()
    }
}

/// All sections by name. A section that did not end (the script was killed) is left out.
#[derive(Debug, Default)]
pub(super) struct Sections<'a>(BTreeMap<&'a str, Section<'a>>);

impl<'a> Sections<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        let mut all = BTreeMap::new();
        let mut open: Option<(&str, Section<'a>)> = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("==omk ") {
                open = Some((name, Section::default()));
            } else if let Some(status) = line.strip_prefix("==rc ") {
                if let (Some((name, mut section)), Ok(status)) = (open.take(), status.trim().parse()) {
                    section.status = status;
                    all.insert(name, section);
                }
            } else if let Some((_, section)) = &mut open
                && !line.is_empty()
            {
                section.lines.push(line);
            }
        }
        Self(all)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Section<'a>> {
        self.0.get(name)
    }

    /// A section that must be there and must have gone well.
    pub(super) fn need(&self, name: &str, what: &str) -> Result<&Section<'a>, RuntimeError> {
        let section = self.get(name).ok_or_else(|| RuntimeError::Garbled {
            what: what.to_owned(),
            why: format!("the part {name:?} is missing"),
        })?;
        if !section.ok() {
            return Err(RuntimeError::Failed { what: what.to_owned(), complaint: section.complaint() });
        }
        Ok(section)
    }

    /// Sections whose name is `word` and something more, in the order of their names.
    pub(super) fn each(&self, word: &'a str) -> impl Iterator<Item = (&'a str, &Section<'a>)> {
        self.0.iter().filter_map(move |(name, s)| {
            name.strip_prefix(word).and_then(|r| r.strip_prefix(' ')).map(|rest| (rest, s))
        })
    }
}

/// The answer as text, within bounds.
pub(super) fn text(output: &CommandOutput) -> Result<String, RuntimeError> {
    if output.stdout.len() > MAX_ANSWER {
        let why = format!("it has more than {MAX_ANSWER} bytes");
        return Err(RuntimeError::Garbled { what: "the probe".to_owned(), why });
    }
    let text = output.text();
    if !text.contains("==omk ") {
        return Err(RuntimeError::Failed { what: "the probe".to_owned(), complaint: output.complaint() });
    }
    Ok(text)
}

/// `uname -sm`.
pub(super) fn platform(line: &str) -> Result<Platform, RuntimeError> {
    let garbled = || RuntimeError::Garbled {
        what: "uname -sm".to_owned(),
        why: format!("{:?} is no Linux machine that is known", line.chars().take(80).collect::<String>()),
    };
    let (system, machine) = line.trim().split_once(' ').ok_or_else(garbled)?;
    if system != "Linux" {
        return Err(garbled());
    }
    Ok(match machine {
        "x86_64" => Platform::new("linux", "amd64", None),
        "aarch64" => Platform::new("linux", "arm64", None),
        "armv8l" | "armv7l" | "armv7" => Platform::new("linux", "arm", Some("v7")),
        "armv6l" => Platform::new("linux", "arm", Some("v6")),
        "i386" | "i586" | "i686" => Platform::new("linux", "386", None),
        "loongarch64" => Platform::new("linux", "loong64", None),
        "ppc64le" | "s390x" | "riscv64" | "mips64" => Platform::new("linux", machine, None),
        _ => return Err(garbled()),
    })
}

/// `df -Pk`: the last line that has its shape.
pub(super) fn disk(lines: &[&str]) -> Option<Disk> {
    lines.iter().rev().find_map(|line| {
        // Device names may have spaces (CIFS); the five fields at the end never do, a mount point rarely.
        let fields: Vec<&str> = line.split_whitespace().collect();
        let percent = fields.iter().rposition(|f| f.ends_with('%'))?;
        let bytes = |before: usize| -> Option<u64> {
            Some(fields.get(percent.checked_sub(before)?)?.parse::<u64>().ok()?.saturating_mul(1024))
        };
        let (size, used, free) = (bytes(3)?, bytes(2)?, bytes(1)?);
        let device = fields[..percent.checked_sub(3)?].join(" ");
        let mount = fields[percent + 1..].join(" ");
        let path = lines.iter().find_map(|l| l.strip_prefix("path ")).unwrap_or(&mount);
        let path = path.chars().filter(|c| !c.is_control()).collect();
        (!device.is_empty()).then_some(Disk { device, path, mount, size, used, free })
    })
}

/// What is in a staging folder. Bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Staged {
    pub(super) blobs: BTreeMap<Digest, u64>,
    /// All that is no complete blob.
    pub(super) partial: u64,
    /// By the hexadecimal part of the digest: the largest part that is there.
    pub(super) partials: BTreeMap<String, u64>,
    /// The mark of an adoption.
    pub(super) adopting: bool,
}

/// What `processors` says; 1 where it says nothing that can be understood.
pub(super) fn processors(lines: &[&str]) -> usize {
    let said = lines.iter().find_map(|l| l.trim().parse::<usize>().ok());
    said.filter(|n| *n >= 1).unwrap_or(1)
}

/// In staging while content is adopted from another namespace of containerd.
pub(super) const ADOPTING: &str = "./adopting";

/// `SIZE ./PATH` lines.
pub(super) fn staged(lines: &[&str]) -> Staged {
    let mut all = Staged::default();
    for line in lines {
        let Some((size, path)) = line.split_once(' ') else { continue };
        let Ok(size) = size.parse::<u64>() else { continue };
        match layout_digest(path) {
            Some(digest) => drop(all.blobs.insert(digest, size)),
            None if path == ADOPTING => all.adopting = true,
            // Notes about the folder and about how far a part is.
            None if path.ends_with("/.omk-staging") || path.ends_with(".journal") => {}
            None => {
                all.partial = all.partial.saturating_add(size);
                if let Some(hex) = partial_hex(path) {
                    let largest = all.partials.entry(hex.to_owned()).or_default();
                    *largest = size.max(*largest);
                }
            }
        }
    }
    all
}

/// The hexadecimal part of the digest of a part of a blob: `./partial/HEX` or `./partial/HEX.RUN`.
fn partial_hex(path: &str) -> Option<&str> {
    let name = path.strip_prefix("./partial/")?;
    let hex = name.split_once('.').map_or(name, |(hex, _)| hex);
    let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (matches!(hex.len(), 64 | 128) && hex.bytes().all(digit)).then_some(hex)
}

/// The blob whose place in an image layout this is: `blobs/sha256/HEX`, with or without `./` before it.
pub(super) fn layout_digest(path: &str) -> Option<Digest> {
    let rest = path.strip_prefix("./").unwrap_or(path).strip_prefix("blobs/")?;
    let (algorithm, hex) = rest.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// An image folder is written to and read from by path: absolute and free of tricks.
pub(super) fn check_folder(path: &str) -> Result<(), RuntimeError> {
    super::check_staging(path).map_err(|_| RuntimeError::Folder(path.chars().take(200).collect()))
}

/// The program that checks digests of this kind on the node.
pub(super) fn sum_program(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Sha256 => "sha256sum",
        Algorithm::Sha512 => "sha512sum",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sections_have_lines_and_a_status() {
        let text = "motd\n\n==omk machine\nLinux x86_64\n\n==rc 0\n\n==omk version\nctr: no\n\n==rc 1\n==omk cut\nhalf";
        let all = Sections::parse(text);
        assert_eq!(all.get("machine"), Some(&Section { lines: vec!["Linux x86_64"], status: 0 }));
        assert_eq!(all.get("version").map(Section::complaint), Some("ctr: no".to_owned()));
        assert!(all.get("cut").is_none(), "a part that did not end is not believed");
        assert!(all.need("version", "asking").unwrap_err().to_string().contains("ctr: no"));
        assert!(all.need("cut", "asking").unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn disks_are_read_from_df() {
        let lines = [
            "Filesystem     1024-blocks     Used Available Capacity Mounted on",
            "/dev/vda         264212084 19064448  76221440      21% /var/lib/containerd",
        ];
        let vda = disk(&lines).unwrap();
        let expected = Disk {
            device: "/dev/vda".into(),
            path: "/var/lib/containerd".into(),
            mount: "/var/lib/containerd".into(),
            size: 264_212_084 * 1024,
            used: 19_064_448 * 1024,
            free: 76_221_440 * 1024,
        };
        assert_eq!(vda, expected);
        assert_eq!(disk(&["//srv/a share 100 50 50 50% /mnt/a b"]).unwrap().mount, "/mnt/a b");
        assert_eq!(disk(&["path /srv/x", "/dev/a 100 50 50 50% /"]).unwrap().path, "/srv/x");
        assert_eq!(disk(&["path /srv/x", "df: no such file"]), None);
        let other =
            |device: &str, mount: &str| Disk { device: device.into(), mount: mount.into(), ..vda.clone() };
        assert!(vda.same(&other("/dev/vda", "/")));
        assert!(other("tmpfs", "/run").same(&other("tmpfs", "/run")));
        assert!(!other("tmpfs", "/run").same(&other("tmpfs", "/tmp")));
    }

    #[test]
    fn machines_are_platforms() {
        for (line, expected) in [
            ("Linux x86_64", "linux/amd64"),
            ("Linux aarch64", "linux/arm64"),
            ("Linux armv7l", "linux/arm/v7"),
            ("Linux armv6l", "linux/arm/v6"),
            ("Linux s390x", "linux/s390x"),
        ] {
            assert_eq!(platform(line).unwrap().to_string(), expected);
        }
        for bad in ["Darwin arm64", "Linux", "", "Linux vax"] {
            assert!(platform(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_node_that_does_not_tell_its_processors_has_one() {
        assert_eq!(processors(&["2"]), 2);
        assert_eq!(processors(&["a motd", " 64 "]), 64);
        for odd in [&["0"][..], &["-4"], &["sh: getconf: not found"], &["99999999999999999999999"], &[]] {
            assert_eq!(processors(odd), 1, "{odd:?}");
        }
    }

    #[test]
    fn staging_is_told_from_leftovers() {
        let d = Digest::sha256(b"x");
        let hex = "ab".repeat(32);
        let lines = [
            format!("7 ./{}", d.layout_path()),
            "9 ./blobs/sha256/.part".into(),
            format!("20 ./partial/{hex}.r1"),
            format!("30 ./partial/{hex}.r2"),
            format!("1 ./partial/{hex}.r2.journal"),
            "40 ./partial/../x".into(),
            "50 ./.omk-staging".into(),
            "0 ./adopting".into(),
            "nonsense".into(),
            "x y".into(),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let found = staged(&lines);
        assert_eq!((found.blobs, found.partial), (BTreeMap::from([(d, 7)]), 9 + 20 + 30 + 40));
        assert_eq!(found.partials, BTreeMap::from([(hex, 30)]));
        assert!(found.adopting && !staged(&["7 ./x/adopting"]).adopting);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(==omk |==rc |[ -~]{0,12}|\\PC{0,6}|\n){0,40}") {
            let all = Sections::parse(&text);
            let lines: Vec<&str> = text.lines().collect();
            let _ = (all.get("a"), all.each("a").count(), disk(&lines), staged(&lines), platform(&text));
        }
    }
}
