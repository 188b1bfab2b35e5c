//! What a node's kubelet does to images: from a share of used disk space on, it removes those that no container uses, and
//! images that wait for their first pod are among them.

/// The share from which images are removed when nothing else is configured: `imageGCHighThresholdPercent` of kubelet's
/// `KubeletConfiguration`, in percent.
pub const IMAGE_GC_PERCENT: u8 = 85;

/// A kubelet, as far as images are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubelet {
    /// Images are removed when so much of their file system is used, in percent; 100: never.
    pub image_gc_percent: u8,
    /// The file that says so; `None`: no file does, and it is [`IMAGE_GC_PERCENT`].
    pub source: Option<String>,
}

/// Defines `kubelet` for a probe script: prints `file PATH` for each configuration there is, and what it says. In the
/// order in which kubelet reads them: flags come after files and win.
pub(super) const SCRIPT: &str = r#"kubelet() {
  for f in /var/lib/kubelet/config.yaml /etc/kubernetes/kubelet/*config.json /etc/kubernetes/kubelet.conf.d/*.conf \
    /var/lib/rancher/*/agent/etc/kubelet.conf.d/*.conf /var/lib/kubelet/kubeadm-flags.env /etc/default/kubelet \
    /etc/sysconfig/kubelet /etc/rancher/*/config.yaml /etc/rancher/*/config.yaml.d/*.yaml \
    /var/snap/microk8s/current/args/kubelet /var/snap/k8s/common/args/kubelet; do
    [ -f "$f" ] || continue
    echo "file $f"
    head -c 262144 "$f" | sed -n -e '/^[[:space:]]*#/d' \
      -e 's/.*imageGCHighThresholdPercent["]*: *\([0-9][0-9]*\).*/percent \1/p' \
      -e 's/.*image-gc-high-threshold[= ]*\([0-9][0-9]*\).*/percent \1/p'
  done
}
"#;

/// Reads what `kubelet` printed; `None` when the node has no configuration of a kubelet. What is no percentage is ignored.
pub(super) fn parse(lines: &[&str]) -> Option<Kubelet> {
    let mut file = None;
    let mut said = None;
    for line in lines {
        if let Some(path) = line.strip_prefix("file ") {
            file = Some(path.chars().filter(|c| !c.is_control()).take(200).collect::<String>());
        } else if let Some(percent) = line.strip_prefix("percent ").and_then(|p| p.trim().parse::<u8>().ok())
            && percent <= 100
            && let Some(path) = &file
        {
            said = Some(Kubelet { image_gc_percent: percent, source: Some(path.clone()) });
        }
    }
    file.map(|_| said.unwrap_or(Kubelet { image_gc_percent: IMAGE_GC_PERCENT, source: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_nonsense_does_not() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&["percent 12"]), None, "of no file");
        let default = Kubelet { image_gc_percent: 85, source: None };
        assert_eq!(parse(&["file /etc/default/kubelet"]), Some(default.clone()));
        assert_eq!(parse(&["file /a", "percent 101", "percent", "percent -1", "sed: no"]), Some(default));
        let lines = ["file /a", "percent 80", "file /b", "percent 70", "file /c"];
        let told = Kubelet { image_gc_percent: 70, source: Some("/b".into()) };
        assert_eq!(parse(&lines), Some(told));
    }

    /// What real files look like, read by a real shell.
    #[test]
    fn configurations_are_read_as_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for (path, text) in [
            (
                "var/lib/kubelet/config.yaml",
                "kind: KubeletConfiguration\n# imageGCHighThresholdPercent: 10\nimageGCHighThresholdPercent: 75\n",
            ),
            (
                "var/lib/kubelet/kubeadm-flags.env",
                "KUBELET_KUBEADM_ARGS=\"--node-ip=10.0.0.1 --image-gc-high-threshold=71 --v=2\"\n",
            ),
            ("etc/rancher/rke2/config.yaml", "kubelet-arg:\n  - \"image-gc-high-threshold=66\"\n"),
            ("etc/kubernetes/kubelet/config.json", "{\"imageGCHighThresholdPercent\": 60}\n"),
        ] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let below = |p: &str| SCRIPT.replace(" /", &format!(" {}/", root.join(p).display()));
        let script = format!("{}kubelet\n", below("").replace("//", "/"));
        let said = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        let text = String::from_utf8(said.stdout).unwrap().replace(root.to_str().unwrap(), "");
        insta::assert_snapshot!(text, @r"
        file /var/lib/kubelet/config.yaml
        percent 75
        file /etc/kubernetes/kubelet/config.json
        percent 60
        file /var/lib/kubelet/kubeadm-flags.env
        percent 71
        file /etc/rancher/rke2/config.yaml
        percent 66
        ");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(parse(&lines).unwrap().image_gc_percent, 66);
    }
}
