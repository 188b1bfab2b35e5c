//! Nodes and registries for a test: a guard around `tests/lab/lab.sh`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Labs that can be up at once on one machine, whoever runs the tests.
const SLOTS: u16 = 60;
const FIRST_PORT: u16 = 5100;

/// A running lab; dropping it takes the lab down.
pub(crate) struct Lab {
    dir: PathBuf,
    env: Vec<(String, String)>,
    ports: [u16; 3],
    down: bool,
    /// Locked for as long as the lab lives. The lock goes with the process, so when a test was killed the next one
    /// to take this slot finds what is left and takes it down.
    _slot: File,
}

/// Addresses (`host:port`) of the lab's registries: three doors to one store.
pub(crate) struct Registries {
    pub(crate) plain: String,
    /// Wants `lab` / `lab-secret`.
    pub(crate) auth: String,
    /// Its certificate is signed by `ca`.
    pub(crate) tls: String,
    pub(crate) ca: PathBuf,
}

impl Lab {
    /// False where there can be no lab: the test is to return, its reason is printed. Panics instead when
    /// `OMK_REQUIRE_LAB=1`.
    pub(crate) fn required() -> bool {
        let Some(reason) = why_not() else { return true };
        assert!(
            std::env::var_os("OMK_REQUIRE_LAB").is_none_or(|v| v != "1"),
            "the lab is required, but {reason}"
        );
        eprintln!("SKIPPED: no lab, {reason}");
        false
    }

    /// Starts `nodes` nodes.
    pub(crate) fn up(nodes: usize) -> Self {
        Self::up_with(nodes, &[])
    }

    /// Starts `nodes` nodes with more environment for `lab.sh`, such as `("OMK_LAB_DISK", "300m")`.
    pub(crate) fn up_with(nodes: usize, env: &[(&str, &str)]) -> Self {
        let (number, slot) = free_slot();
        let dir = PathBuf::from(format!("/tmp/omk-lab-{number}"));
        let ports = [0, 1, 2].map(|i| FIRST_PORT + 3 * number + i);
        let own = [
            ("OMK_LAB_DIR", dir.display().to_string()),
            ("OMK_LAB_TAG", format!("omkt{number}")),
            ("OMK_LAB_BRIDGE", format!("omktbr{number}")),
            ("OMK_LAB_NET", format!("10.99.{number}")),
            ("OMK_LAB_PORT_PLAIN", ports[0].to_string()),
            ("OMK_LAB_PORT_AUTH", ports[1].to_string()),
            ("OMK_LAB_PORT_TLS", ports[2].to_string()),
        ];
        let env = own
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v))
            .chain(env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
            .collect();
        let lab = Self { dir, env, ports, down: false, _slot: slot };
        if lab.dir.exists() {
            lab.script(&["down"]);
        }
        lab.script(&["up", &nodes.to_string()]);
        lab
    }

    /// Runs a command inside a node (1 is the first), as root, not over SSH.
    pub(crate) fn exec(&self, node: usize, command: &[&str]) -> Output {
        let node = node.to_string();
        let args: Vec<&str> = ["exec", &node].iter().chain(command).copied().collect();
        self.command(&args).output().expect("run lab.sh")
    }

    /// An `ssh` command line to a node; add the remote command.
    pub(crate) fn ssh(&self, user: &str, node: usize) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.dir.join("ssh_config")).args(["-o", "ConnectTimeout=5", "-l", user]);
        ssh.arg(format!("node{node}")).stdin(Stdio::null());
        ssh
    }

    /// The inventory of all nodes for `root`, `omk`, `omkpw` or `nosudo`.
    pub(crate) fn inventory(&self, user: &str) -> PathBuf {
        self.dir.join(format!("inventory-{user}.yaml"))
    }

    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    /// The lab's directory. Gone after `down`.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the lab's network links and control groups start with.
    pub(crate) fn tag(&self) -> &str {
        &self.env[1].1
    }

    pub(crate) fn registry_up(&self) -> Registries {
        self.script(&["registry", "up"]);
        let [plain, auth, tls] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        Registries { plain, auth, tls, ca: self.dir.join("registry/ca.crt") }
    }

    /// Switches the registries off; what was pushed is gone.
    pub(crate) fn registry_down(&self) {
        self.script(&["registry", "down"]);
    }

    /// Makes images and pushes them to the plain registry, which must be up. None named: all but `lab/big:1`.
    pub(crate) fn push_images(&self, only: &[&str]) {
        let mut push = Command::new(lab_file("images.py"));
        push.args(["push", &format!("127.0.0.1:{}", self.ports[0])]);
        if !only.is_empty() {
            push.arg("--only").args(only);
        }
        succeed(&mut push);
    }

    /// Switches a node off: its processes are gone, its address does not answer.
    pub(crate) fn stop_node(&self, node: usize) {
        self.script(&["stop", &node.to_string()]);
    }

    /// Switches a node on again, with its disk as it was.
    pub(crate) fn start_node(&self, node: usize) {
        self.script(&["start", &node.to_string()]);
    }

    /// Delays what goes to and from every node, `ms` one way, and limits it to `mbit` Mbit/s; 0 and 0: neither.
    pub(crate) fn add_latency(&self, ms: u32, mbit: u32) {
        self.script(&["add-latency", &ms.to_string(), &mbit.to_string()]);
    }

    /// What dropping does, for a test that looks at what is left.
    pub(crate) fn take_down(&mut self) {
        self.down = true;
        self.script(&["down"]);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(lab_file("lab.sh"));
        command.args(args).envs(self.env.iter().map(|(k, v)| (k, v))).stdin(Stdio::null());
        command
    }

    fn script(&self, args: &[&str]) {
        // Into a file, not a pipe: the daemons that lab.sh starts outlive it, and would keep a pipe open.
        let log = tempfile::NamedTempFile::new().expect("temporary file");
        let handle = || log.reopen().expect("reopen log");
        let status = self.command(args).stdout(handle()).stderr(handle()).status().expect("run lab.sh");
        let said = fs::read_to_string(log.path()).unwrap_or_default();
        assert!(status.success(), "lab.sh {args:?}: {status}\n{said}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.down {
            return;
        }
        let done = self.command(&["down"]).output().expect("run lab.sh");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        if std::thread::panicking() {
            eprintln!("lab.sh down: {} {said}", done.status);
        } else {
            assert!(done.status.success(), "lab.sh down: {said}");
        }
    }
}

/// Runs a command that must succeed; returns what it wrote to its output.
pub(crate) fn succeed(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{command:?}: {}\n{out}{err}", done.status);
    out.into_owned()
}

fn lab_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab").join(name)
}

fn why_not() -> Option<String> {
    if fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).ok() != Some(0) {
        return Some("not root".to_owned());
    }
    let search = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let absent = |tool: &&str| !search.split(':').any(|dir| Path::new(dir).join(tool).exists());
    let tools =
        ["containerd", "ctr", "runc", "sshd", "docker-registry", "skopeo", "ip", "busybox", "htpasswd"];
    let missing: Vec<&str> = tools.into_iter().filter(absent).collect();
    (!missing.is_empty()).then(|| format!("missing {} (tests/setup.sh installs it)", missing.join(", ")))
}

fn free_slot() -> (u16, File) {
    for number in 1..=SLOTS {
        let slot = File::create(format!("/tmp/omk-lab-slot-{number}.lock")).expect("lock file");
        if slot.try_lock().is_ok() {
            return (number, slot);
        }
    }
    panic!("{SLOTS} labs are up already");
}
