//! Which runtime a node has.

use std::str::FromStr;

use super::{
    Containerd, ContainersStorage, Docker, Flavor, ImageFolder, K3S_IMAGES, Runtime, RuntimeError,
    StorageUser, sections,
};
use crate::node::{CommandOutput, RemoteCommand, quote};

/// What the inventory or the command line says about a node's runtime.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RuntimeChoice {
    /// Look on the node.
    #[default]
    Auto,
    /// containerd in one of its packagings.
    Containerd(Flavor),
    /// The storage of CRI-O or Podman.
    Storage(StorageUser),
    /// Docker.
    Docker,
    /// Archives in a folder; `None`: [`K3S_IMAGES`].
    ImageFolder(Option<String>),
}

impl RuntimeChoice {
    /// Every word that an inventory and the command line may say.
    pub const NAMES: &[&str] = &[
        "auto",
        "containerd",
        "k3s",
        "rke2",
        "microk8s",
        "canonical-k8s",
        "cri-o",
        "crio",
        "docker",
        "podman",
        "image-folder",
    ];
}

impl FromStr for RuntimeChoice {
    type Err = RuntimeError;

    fn from_str(word: &str) -> Result<Self, RuntimeError> {
        Ok(match word {
            "auto" => Self::Auto,
            "containerd" => Self::Containerd(Flavor::Plain),
            "k3s" => Self::Containerd(Flavor::K3s),
            "rke2" => Self::Containerd(Flavor::Rke2),
            "microk8s" => Self::Containerd(Flavor::MicroK8s),
            "canonical-k8s" => Self::Containerd(Flavor::CanonicalK8s { socket: DEFAULT_SOCKET.to_owned() }),
            "cri-o" | "crio" => Self::Storage(StorageUser::Crio),
            "podman" => Self::Storage(StorageUser::Podman),
            "docker" => Self::Docker,
            "image-folder" => Self::ImageFolder(None),
            other => return Err(RuntimeError::Unknown(other.chars().take(80).collect())),
        })
    }
}

const DEFAULT_SOCKET: &str = "/run/containerd/containerd.sock";
const CANONICAL_SOCKET: &str = "/var/snap/k8s/common/run/containerd.sock";

/// A runtime that can be used, and where to stage when nobody said.
#[derive(Debug)]
pub struct Detected {
    /// The runtime.
    pub runtime: Box<dyn Runtime>,
    /// A staging folder that suits it better than [`super::DEFAULT_STAGING`].
    pub staging: Option<String>,
}

/// The command that decides, where the choice alone does not.
///
/// What kubelet asks comes first: k3s and its kin, which bring their own containerd, then CRI-O and `cri-dockerd` by their
/// sockets. Docker runs beside a containerd of its own; where that one's CRI is switched off, as Docker's package has it, and no
/// kubelet is there, the images are meant for Docker. Podman is on many machines beside what matters, and comes last.
pub fn detect(choice: &RuntimeChoice) -> Option<RemoteCommand> {
    match choice {
        RuntimeChoice::Auto => Some(RemoteCommand::root(format!(
            r#"PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin; export PATH
have() {{ command -v "$1" >/dev/null 2>&1; }}
if [ -S /run/k3s/containerd/containerd.sock ] && [ -x /var/lib/rancher/rke2/bin/ctr ]; then echo ==runtime rke2
elif [ -S /run/k3s/containerd/containerd.sock ] && have k3s; then echo ==runtime k3s
elif [ -S /var/snap/microk8s/common/run/containerd.sock ] && have microk8s; then echo ==runtime microk8s
elif [ -x /snap/k8s/current/bin/ctr ] && [ -S {CANONICAL_SOCKET} ]; then echo ==runtime canonical-k8s {CANONICAL_SOCKET}
elif [ -x /snap/k8s/current/bin/ctr ] && [ -S {DEFAULT_SOCKET} ]; then echo ==runtime canonical-k8s {DEFAULT_SOCKET}
elif [ -S /run/crio/crio.sock ]; then echo ==runtime cri-o
elif [ -S /run/cri-dockerd.sock ] && have docker; then echo ==runtime docker
elif [ -S /run/docker.sock ] && have docker && [ ! -d /var/lib/kubelet ] &&
  grep -q '^[[:space:]]*disabled_plugins.*cri' /etc/containerd/config.toml 2>/dev/null; then echo ==runtime docker
elif [ -S {DEFAULT_SOCKET} ] || have ctr || have containerd; then echo ==runtime containerd
elif [ -S /run/docker.sock ] && have docker; then echo ==runtime docker
elif have crio; then echo ==runtime cri-o
elif [ -d {K3S_IMAGES} ]; then echo ==runtime image-folder
elif have podman; then echo ==runtime podman
else echo ==runtime none
fi"#
        ))),
        RuntimeChoice::Containerd(_) | RuntimeChoice::Storage(_) | RuntimeChoice::Docker => None,
        RuntimeChoice::ImageFolder(folder) => {
            let folder = quote(folder.as_deref().unwrap_or(K3S_IMAGES));
            Some(RemoteCommand::user(format!(
                r#"p={folder}
while [ ! -e "$p" ]; do p=${{p%/*}}; [ -n "$p" ] || p=/; done
if [ -d "$p" ] && [ -w "$p" ] && [ -x "$p" ]; then echo ==folder writable; else echo ==folder denied; fi
printf '==home %s\n' "${{HOME:-}}""#
            )))
        }
    }
}

/// Reads the answer to [`detect`]. `namespace`: containerd's, when it is not kubelet's `k8s.io`.
///
/// # Errors
/// When there is none or nothing was found.
pub fn parse_detect(
    choice: &RuntimeChoice,
    namespace: Option<&str>,
    output: Option<&CommandOutput>,
) -> Result<Detected, RuntimeError> {
    let text = output.map(CommandOutput::text).unwrap_or_default();
    let said = |word: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(word).map(|rest| rest.trim().to_owned()))
            .filter(|s| !s.is_empty())
    };
    let silent = |what: &str| RuntimeError::Failed {
        what: what.to_owned(),
        complaint: output.map_or_else(|| "nothing was asked".to_owned(), CommandOutput::complaint),
    };
    let containerd = |flavor: &Flavor| -> Box<dyn Runtime> {
        let runtime = Containerd::new(flavor.clone());
        Box::new(namespace.into_iter().fold(runtime, Containerd::in_namespace))
    };
    let storage = |user| -> Box<dyn Runtime> { Box::new(ContainersStorage::new(user)) };
    match choice {
        RuntimeChoice::Containerd(flavor) => Ok(Detected { runtime: containerd(flavor), staging: None }),
        RuntimeChoice::Storage(user) => Ok(Detected { runtime: storage(*user), staging: None }),
        RuntimeChoice::Docker => Ok(Detected { runtime: Box::new(Docker), staging: None }),
        RuntimeChoice::ImageFolder(folder) => {
            let folder = folder.clone().unwrap_or_else(|| K3S_IMAGES.to_owned());
            sections::check_folder(&folder)?;
            let root = said("==folder").ok_or_else(|| silent("looking at the image folder"))? != "writable";
            let home = said("==home").filter(|h| h.starts_with('/') && !root);
            let staging = home.map(|h| format!("{}/.omk/staging", h.trim_end_matches('/')));
            Ok(Detected { runtime: Box::new(ImageFolder::new(folder, root)), staging })
        }
        RuntimeChoice::Auto => {
            let found = said("==runtime").ok_or_else(|| silent("looking for a container runtime"))?;
            let runtime = match found.split_once(' ').map_or((found.as_str(), ""), |(w, a)| (w, a)) {
                ("none", _) => return Err(RuntimeError::NoRuntime),
                ("image-folder", _) => {
                    let runtime = Box::new(ImageFolder::new(K3S_IMAGES, true));
                    return Ok(Detected { runtime, staging: None });
                }
                ("canonical-k8s", socket) if [DEFAULT_SOCKET, CANONICAL_SOCKET].contains(&socket) => {
                    containerd(&Flavor::CanonicalK8s { socket: socket.to_owned() })
                }
                (word, _) => match word.parse()? {
                    RuntimeChoice::Containerd(flavor) => containerd(&flavor),
                    RuntimeChoice::Storage(user) => storage(user),
                    RuntimeChoice::Docker => Box::new(Docker),
                    _ => return Err(RuntimeError::Unknown(word.to_owned())),
                },
            };
            Ok(Detected { runtime, staging: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &str) -> CommandOutput {
        CommandOutput { status: 0, stdout: text.into(), stderr: Vec::new() }
    }

    #[test]
    fn what_the_node_says_is_what_is_used() {
        for (answer, label) in [
            ("==runtime containerd\n", "containerd"),
            ("motd\n==runtime k3s\n", "k3s' containerd"),
            ("==runtime rke2\n", "RKE2's containerd"),
            ("==runtime microk8s\n", "MicroK8s' containerd"),
            ("==runtime canonical-k8s /run/containerd/containerd.sock\n", "Canonical Kubernetes' containerd"),
            ("==runtime cri-o\n", "CRI-O"),
            ("==runtime docker\n", "Docker"),
            ("==runtime podman\n", "Podman"),
            ("==runtime image-folder\n", "image folder /var/lib/rancher/k3s/agent/images"),
        ] {
            let found = parse_detect(&RuntimeChoice::Auto, None, Some(&says(answer))).unwrap();
            assert_eq!(found.runtime.label(), label);
        }
        for bad in ["", "==runtime", "==runtime none", "==runtime $(reboot)", "==runtime auto"] {
            assert!(parse_detect(&RuntimeChoice::Auto, None, Some(&says(bad))).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_that_the_user_may_write_needs_no_root() {
        let choice = RuntimeChoice::ImageFolder(Some("/srv/images".into()));
        let mine = parse_detect(&choice, None, Some(&says("==folder writable\n==home /home/me\n"))).unwrap();
        assert_eq!(mine.staging.as_deref(), Some("/home/me/.omk/staging"));
        assert!(!mine.runtime.probe("/a/b", &[]).root);
        let not_mine =
            parse_detect(&choice, None, Some(&says("==folder denied\n==home /home/me\n"))).unwrap();
        assert!(not_mine.runtime.probe("/a/b", &[]).root && not_mine.staging.is_none());
        assert!(parse_detect(&choice, None, Some(&says("sh: not found"))).is_err());
        let bad = RuntimeChoice::ImageFolder(Some("images".into()));
        assert!(parse_detect(&bad, None, Some(&says("==folder writable"))).is_err());
    }
}
