//! The proof on real containerd: what drifts on a node is named, and mended.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::lab::Lab;

struct Site {
    lab: Lab,
    registry: String,
    folder: tempfile::TempDir,
}

impl Site {
    fn up(images: &[&str]) -> Self {
        let lab = Lab::up(1);
        let registry = lab.registry_up().plain;
        lab.push_images(images);
        let site = Self { lab, registry, folder: tempfile::tempdir().unwrap() };
        let names: Vec<String> = images.iter().map(|i| site.name(i)).collect();
        let mut build = site.omk(&["bundle", "build", "--plain-http", &site.registry, "-o", "a.tar"]);
        for name in &names {
            build.args(["--image", name]);
        }
        assert!(build.output().unwrap().status.success());
        site
    }

    fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.registry)
    }

    fn omk(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
        command.current_dir(self.folder.path()).args(args).stdin(Stdio::null());
        command
    }

    /// With the nodes of the lab and JSON; the report, after a check of the exit code.
    fn report(&self, code: i32, args: &[&str]) -> Value {
        let mut command = self.omk(args);
        command.args(["-o", "json", "--nodes"]).arg(self.lab.inventory("omk"));
        let out: Output = command.arg("--known-hosts").arg(self.lab.known_hosts()).output().unwrap();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {}\n{}", text(&out.stdout), text(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    fn node(&self, script: &str) -> String {
        let script = format!("ctr() {{ command ctr -n k8s.io \"$@\"; }}\n{script}");
        let out = self.lab.exec(1, &["sh", "-euc", &script]);
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Everything that a proof must leave as it is.
    fn state(&self) -> String {
        self.node(
            "ctr images ls; ctr content ls -q; ctr snapshots ls; \
             find /var/lib/omk /var/lib/containerd/io.containerd.content.v1.content -type f | sort | xargs sha256sum",
        )
    }

    /// The largest layer of an image for this machine's platform.
    fn layer(&self, image: &str) -> String {
        let out = self.omk(&["bundle", "inspect", "a.tar", "-o", "json"]).output().unwrap();
        let all: Value = serde_json::from_slice(&out.stdout).unwrap();
        let wanted = self.name(image);
        let digest = all["images"]
            .as_array()
            .unwrap()
            .iter()
            .find(|i| i["names"].as_array().unwrap().iter().any(|n| n.as_str() == Some(&wanted)));
        let manifest = digest.unwrap()["digest"].as_str().unwrap().to_owned();
        let text = self.node(&format!("ctr content get {manifest}"));
        let manifest: Value = serde_json::from_str(&text).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter();
        let largest = layers.max_by_key(|l| l["size"].as_u64()).unwrap();
        largest["digest"].as_str().unwrap().to_owned()
    }
}

/// `IMAGE CHECK` of what is refuted, sorted; images without their registry.
fn refuted(report: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for image in report["nodes"][0]["images"].as_array().unwrap() {
        let name = image["names"][0].as_str().unwrap().split_once('/').unwrap().1;
        for check in image["checks"].as_array().unwrap().iter().filter(|c| c["result"] == "failed") {
            found.push(format!("{name} {}", check["check"].as_str().unwrap()));
        }
    }
    found.sort();
    found
}

/// How one check of one image ended.
fn verdict(report: &Value, check: &str) -> Vec<String> {
    let images = report["nodes"][0]["images"].as_array().unwrap().iter();
    let checks = images.flat_map(|i| i["checks"].as_array().unwrap());
    checks.filter(|c| c["check"] == check).map(|c| c["result"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lab_what_drifts_is_named_and_mended() {
    if !Lab::required() {
        return;
    }
    let site = Site::up(&["lab/web:1.0", "lab/tool:2", "lab/zstd:1"]);
    let first = site.report(0, &["preheat", "a.tar", "--pin", "--report", "a.html"]);
    assert_eq!(verdict(&first, "digest"), ["passed"; 3]);
    assert_eq!(verdict(&first, "cri"), ["weak"; 3], "no crictl in the lab: CRI's labels stand in");
    assert_eq!(verdict(&first, "pinned"), ["weak"; 3], "Debian's containerd 1.6 does not heed the label");
    let page = std::fs::read_to_string(site.folder.path().join("a.html")).unwrap();
    assert!(page.contains("1 of 1 nodes") && page.contains("containerd 1.6"), "{page}");

    let before = site.state();
    let same = site.report(0, &["node", "verify", "a.tar", "--pin", "--deep"]);
    assert_eq!(verdict(&same, "content"), ["passed"; 3]);
    assert_eq!(site.state(), before, "a proof changes nothing");

    // kubelet's garbage collection takes one image, somebody moves the tag of another one and its pin goes, and a bit flips in
    // the third.
    let (web, tool, flipped) = (site.name("lab/web:1.0"), site.name("lab/tool:2"), site.layer("lab/zstd:1"));
    let blob = format!("/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/{}", &flipped[7..]);
    site.node(&format!(
        "other=$(ctr images ls -q | grep '/lab/zstd:1$')
         ctr images tag --force \"$other\" {tool}
         gone=$(ctr images ls | awk -v n={web} '$1 == n {{print $3}}')
         for n in $(ctr images ls | awk -v d=\"$gone\" '$3 == d {{print $1}}'); do ctr images rm --sync $n >/dev/null; done
         ctr images label $(ctr images ls -q | grep '/lab/tool@') io.cri-containerd.pinned= >/dev/null
         chmod 644 {blob}; printf '\\377\\377\\377' | dd of={blob} bs=1 seek=100 conv=notrunc 2>/dev/null"
    ));
    let shallow = site.report(5, &["node", "verify", "a.tar"]);
    let moved_and_gone = refuted(&shallow);
    assert!(moved_and_gone.contains(&"lab/tool:2 digest".into()), "{moved_and_gone:?}");
    assert!(moved_and_gone.contains(&"lab/web:1.0 digest".into()), "{moved_and_gone:?}");
    assert!(
        !moved_and_gone.iter().any(|f| f.starts_with("lab/zstd")),
        "metadata does not show a flipped bit"
    );
    let deep = site.report(5, &["node", "verify", "a.tar", "--pin", "--deep"]);
    let found = refuted(&deep);
    assert!(found.contains(&"lab/zstd:1 content".into()), "{found:?}");
    assert!(deep.to_string().contains(&format!("{flipped} hashes to sha256:")), "the damaged blob is named");

    let mended = site.report(0, &["node", "verify", "a.tar", "--pin", "--deep", "--repair"]);
    assert_eq!(refuted(&mended["before"]), found);
    assert_eq!(refuted(&mended), [""; 0]);
    assert_eq!(verdict(&mended, "content"), ["passed"; 3]);
    let size = std::fs::metadata(site.folder.path().join("a.tar")).unwrap().len();
    let sent = mended["nodes"][0]["bytes_sent"].as_u64().unwrap();
    assert!(sent > 0 && sent < size, "{sent} of {size}: only what lacked");
    let hash = site.node(&format!("sha256sum {blob}"));
    assert!(hash.starts_with(&flipped[7..]), "{hash}");
    // What the moved tag stood for is kept, so that the repair can be undone.
    let left = site.node(
        "find /var/lib/containerd/io.containerd.content.v1.content/blobs -name '.omk-*'; \
         ctr images ls -q | grep omk.invalid | grep -v '^omk.invalid/bak/' || true",
    );
    assert_eq!(left, "");
    site.report(0, &["node", "verify", "a.tar", "--pin", "--deep"]);
    let ran = site.node(&format!("ctr run --rm {web} try echo it runs"));
    assert_eq!(ran.trim(), "it runs");

    // A stand-in for crictl, of which Debian has no package: it prints what this test writes, in the fields of CRI's `Image`.
    crictl(&site, |_| true);
    let asked = site.report(0, &["node", "verify", "a.tar"]);
    assert_eq!(verdict(&asked, "cri"), ["passed"; 3]);
    crictl(&site, |name| !name.contains("/lab/tool@"));
    let asked = site.report(5, &["node", "verify", "a.tar"]);
    assert_eq!(refuted(&asked), ["lab/tool:2 cri"]);

    let lock: String =
        format!("version: 1\nplatforms: []\nimages:\n  {web}: {}\n", digest(&first, "lab/web:1.0"));
    std::fs::write(site.folder.path().join("a.lock"), lock).unwrap();
    let locked = site.report(0, &["node", "verify", "--lock", "a.lock"]);
    assert_eq!(verdict(&locked, "blobs"), ["weak"]);
}

fn digest(report: &Value, image: &str) -> String {
    let images = report["nodes"][0]["images"].as_array().unwrap().iter();
    let mut named = images.filter(|i| i["names"].to_string().contains(image));
    named.next().unwrap()["digest"].as_str().unwrap().to_owned()
}

/// Gives the node a `crictl` that finds the bundle's images under those of their names that `listed` lets through.
fn crictl(site: &Site, listed: impl Fn(&str) -> bool) {
    let known = site.node("ctr images ls");
    let rows: Vec<(&str, &str)> = known
        .lines()
        .skip(1)
        .filter_map(|l| {
            let fields: Vec<&str> = l.split_whitespace().collect();
            Some((*fields.first()?, *fields.get(2)?))
        })
        .collect();
    let mut images = Vec::new();
    // CRI names every image by its config.
    for (config, target) in rows.iter().filter(|(n, _)| n.starts_with("sha256:")) {
        let of = |digest: bool| -> Vec<&str> {
            let names = rows.iter().filter(|(n, d)| d == target && !n.starts_with("sha256:"));
            names.map(|(n, _)| *n).filter(|n| n.contains('@') == digest && listed(n)).collect()
        };
        images.push(
            serde_json::json!({"id": config, "repoTags": of(false), "repoDigests": of(true), "pinned": true}),
        );
    }
    let script = format!("#!/bin/sh\ncat <<'END'\n{}\nEND\n", serde_json::json!({ "images": images }));
    site.node(&format!(
        "cat >/usr/local/bin/crictl <<'CRICTL'\n{script}CRICTL\nchmod 755 /usr/local/bin/crictl"
    ));
}
