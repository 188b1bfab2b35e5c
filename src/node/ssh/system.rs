//! The system's own `ssh` in place of omk's: for Kerberos, keys on tokens, proxy commands that only it understands.
//!
//! One `ssh -M` logs in and stays; every command and every SFTP channel is another `ssh` that goes through its control
//! socket, so there is one login (one touch of a token) and no second connection: without the socket those `ssh` fail.
//! The first one's remote command reads its input, which is a pipe of this process. When omk dies, by whatever
//! signal, that pipe ends, the command with it, and then the connection. Nobody is asked anything (`BatchMode`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::stream::{self, CommandStream, Complaint};
use super::{Connection, SshOptions, pause, system_said};
use crate::event::{Event, Events};
use crate::node::command::{Clock, Run, Wrap};
use crate::node::hold::{self, Answer};
use crate::node::inventory::{Address, Node};
use crate::node::{CommandOutput, NodeError, process};

/// What the node says once it has logged in.
const READY: &str = "omk-ready";
/// How long `ssh` may take to log in: sshd itself gives up after two minutes, and a proxy command or a token may need
/// somebody's hand.
const LOGIN: Duration = Duration::from_secs(120);
/// What `ssh -G` may print, in bytes.
const MAX_CONFIGURATION: u64 = 1 << 20;
/// The status of `ssh` itself when it fails.
const SSH_FAILED: i32 = 255;
/// How often a channel is asked for that the server refuses because there are too many.
const REFUSED: u32 = 20;

/// How the system's `ssh` is run.
#[derive(Debug, Clone)]
pub struct SystemSsh {
    /// The program: a name in `PATH` or a file.
    pub program: PathBuf,
    /// Its configuration, in place of the usual files; `none` for no file.
    pub config: Option<PathBuf>,
    /// Which host keys are trusted, in place of those that its configuration names.
    pub known_hosts: Option<PathBuf>,
}

impl Default for SystemSsh {
    fn default() -> Self {
        Self { program: "ssh".into(), config: None, known_hosts: None }
    }
}

/// A logged-in `ssh`.
pub(super) struct Master {
    program: PathBuf,
    host: String,
    /// Holds the control socket; nobody else may enter.
    folder: TempDir,
    /// Set when it has ended, by itself or not.
    gone: CancellationToken,
    /// Set, or dropped with this: it ends.
    end: DropGuarded,
}

/// A token that is set when it is dropped, and may be set before.
struct DropGuarded(CancellationToken);

impl Drop for DropGuarded {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What `ssh -G` says about a host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    user: String,
    address: String,
    keepalive: bool,
    /// Where a new key is recorded.
    known_hosts: String,
}

impl Settings {
    fn read(text: &str) -> Self {
        let value = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_default().trim().to_owned()
        };
        let port = value("port").parse().unwrap_or(22);
        Self {
            user: value("user"),
            address: super::route::address(&value("hostname"), port),
            keepalive: value("serveraliveinterval").parse().is_ok_and(|s: u64| s > 0),
            known_hosts: value("userknownhostsfile").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// What a new connection is.
pub(super) struct Reached {
    pub(super) master: Master,
    pub(super) user: String,
    pub(super) address: String,
    pub(super) how: String,
}

/// Logs in.
pub(super) async fn connect(
    node: &Node,
    system: &SystemSsh,
    options: &SshOptions,
    events: &Events,
) -> Result<Reached, NodeError> {
    let Address::Ssh { host, identity, .. } = &node.address else {
        return Err(NodeError::Other(format!("{} is this machine, not reached over SSH", node.name)));
    };
    let host = node.route.alias.as_ref().unwrap_or(host);
    let mut arguments = arguments(node, identity.as_deref(), system, options.accept_new);
    let settings = settings(system, &arguments, host).await?;
    if !settings.keepalive {
        arguments.push(option("ServerAliveInterval", &options.keepalive.as_secs().max(1).to_string()));
        arguments.push(option("ServerAliveCountMax", "4"));
    }
    let gate = options.gate(&settings.address);
    let _turn = gate.acquire().await;
    let folder =
        tempfile::Builder::new().prefix("omk-ssh-").tempdir().map_err(|e| cannot("make a folder", &e))?;
    let mut ssh = command(&system.program);
    ssh.arg("-M").arg("-S").arg(socket(&folder)).args(&arguments);
    // The login shell may be any; it may also print whatever it likes first.
    let ready = format!("exec sh -c 'echo {READY} >&2; echo {READY}; exec cat >/dev/null'");
    ssh.arg("-T").arg("--").arg(host).arg(ready);
    let mut child = ssh.spawn().map_err(|e| not_started(&system.program, &e))?;
    let piped = || NodeError::Other("ssh was started without pipes".to_owned());
    let input = child.stdin.take().ok_or_else(piped)?;
    let mut output = child.stdout.take().ok_or_else(piped)?;
    let complaint = Complaint::of(child.stderr.take().ok_or_else(piped)?);
    let logged_in = async {
        let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = output.read(&mut buffer).await {
            said.extend_from_slice(&buffer[..count]);
            if said.split(|b| *b == b'\n').any(|line| line == READY.as_bytes()) {
                return true;
            }
            // A message of the day may be long; without end it is none.
            let over = said.len().saturating_sub(64 << 10);
            said.drain(..over);
        }
        false
    };
    match tokio::time::timeout(LOGIN, logged_in).await {
        Ok(true) => {
            for (host, key) in system_said::recorded(&complaint.before(READY).await) {
                events.emit(Event::HostKeyRecorded { host, key, file: settings.known_hosts.clone() });
            }
        }
        Ok(false) => {
            let _ = tokio::time::timeout(Duration::from_secs(2), child.wait()).await;
            return Err(system_said::login(
                &complaint.whole().await,
                host,
                &settings.address,
                &settings.user,
            ));
        }
        Err(_) => {
            process::end(&mut child).await;
            let seconds = LOGIN.as_secs();
            let last = complaint.line().map(|l| format!("; it said: {l}")).unwrap_or_default();
            return Err(NodeError::Connect {
                address: settings.address,
                reason: format!("ssh has not logged in within {seconds} s{last}"),
            });
        }
    }
    let (gone, end) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(stay(child, input, gone.clone(), end.clone()));
    let how = format!("{}, by the system's ssh", settings.user);
    let (program, host) = (system.program.clone(), host.clone());
    let master = Master { program, host, folder, gone, end: DropGuarded(end) };
    Ok(Reached { master, user: settings.user, address: settings.address, how })
}

/// Waits for the end of the connection, or makes it.
async fn stay(mut child: Child, input: ChildStdin, gone: CancellationToken, end: CancellationToken) {
    tokio::select! {
        _ = child.wait() => {}
        () = end.cancelled() => process::end(&mut child).await,
    }
    drop(input);
    gone.cancel();
}

fn cannot(what: &str, error: &std::io::Error) -> NodeError {
    NodeError::Other(format!("cannot {what} for the control socket of ssh: {error}"))
}

fn not_started(program: &Path, error: &std::io::Error) -> NodeError {
    let program = program.display();
    NodeError::Other(format!(
        "cannot start {program}: {error}; install OpenSSH's client, or leave out --ssh system"
    ))
}

fn socket(folder: &TempDir) -> PathBuf {
    folder.path().join("s")
}

fn option(keyword: &str, value: &str) -> OsString {
    format!("-o{keyword}={value}").into()
}

/// With pipes, and a process group of its own: Ctrl-C reaches omk alone, which still has to say goodbye through it.
fn command(program: &Path) -> Command {
    let mut ssh = Command::new(program);
    ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    ssh.process_group(0).kill_on_drop(true);
    ssh
}

/// Of `ssh`, the first value of a keyword counts: what omk relies on, what the inventory says, then the files.
fn arguments(node: &Node, identity: Option<&Path>, system: &SystemSsh, accept_new: bool) -> Vec<OsString> {
    let fixed = [
        ("BatchMode", "yes"),
        ("ControlPersist", "no"),
        ("RemoteCommand", "none"),
        ("RequestTTY", "no"),
        ("PermitLocalCommand", "no"),
        ("ClearAllForwardings", "yes"),
        ("ForwardAgent", "no"),
        ("ForwardX11", "no"),
    ];
    let mut all: Vec<OsString> = Vec::new();
    if let Some(file) = &system.config {
        all.extend(["-F".into(), file.into()]);
    }
    all.extend(fixed.map(|(keyword, value)| option(keyword, value)));
    if let Some(file) = &system.known_hosts {
        // Quoted for its own parser, which splits at spaces.
        all.push(option("UserKnownHostsFile", &format!("\"{}\"", file.display())));
        all.push(option("GlobalKnownHostsFile", "/dev/null"));
    }
    if accept_new {
        all.push(option("StrictHostKeyChecking", "accept-new"));
    }
    all.extend(node.route.given.iter().map(|(keyword, value)| option(keyword, value)));
    if let Some(file) = identity {
        all.extend(["-i".into(), file.into()]);
    }
    all
}

/// Asks `ssh` what it makes of its configuration.
async fn settings(system: &SystemSsh, arguments: &[OsString], host: &str) -> Result<Settings, NodeError> {
    let mut ssh = command(&system.program);
    ssh.arg("-G").args(arguments).arg("--").arg(host).stdin(Stdio::null());
    let mut child = ssh.spawn().map_err(|e| not_started(&system.program, &e))?;
    let piped = || NodeError::Other("ssh was started without pipes".to_owned());
    let output = child.stdout.take().ok_or_else(piped)?;
    let complaint = Complaint::of(child.stderr.take().ok_or_else(piped)?);
    let mut text = Vec::new();
    let reading = async {
        let _ = output.take(MAX_CONFIGURATION).read_to_end(&mut text).await;
        child.wait().await
    };
    match tokio::time::timeout(Duration::from_secs(30), reading).await {
        Ok(Ok(status)) if status.success() => Ok(Settings::read(&String::from_utf8_lossy(&text))),
        _ => {
            let why = hold::clean(&complaint.whole().await);
            Err(NodeError::Other(format!("ssh cannot use its configuration for {host}: {why}")))
        }
    }
}

impl Master {
    /// An `ssh` that goes through the connection, or fails.
    fn through(&self) -> Command {
        let mut ssh = command(&self.program);
        ssh.args(["-F", "none", "-S"]).arg(socket(&self.folder));
        for (keyword, value) in [
            ("BatchMode", "yes"),
            ("ControlMaster", "no"),
            ("LogLevel", "ERROR"),
            // Where the socket is gone, ssh would connect by itself.
            ("ProxyCommand", "false"),
        ] {
            ssh.arg(option(keyword, value));
        }
        ssh.arg("-T");
        ssh
    }

    /// An `ssh` that runs `line`. Its status says little: 255 is a command's, or a signal, or the connection's end; and it
    /// waits for whatever the command left behind. So a shell says when the command has ended, and how.
    fn run_line(&self, line: &str, mark: &str) -> Command {
        let mut ssh = self.through();
        let line = line.strip_prefix("exec ").unwrap_or(line);
        let line = format!("exec sh -c '\"$@\"; r=$?; echo \"{mark} $r\" >&2; exit $r' omk {line}");
        ssh.arg("--").arg(&self.host).arg(line);
        ssh
    }

    pub(super) async fn close(&self) {
        self.end.0.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(2), self.gone.cancelled()).await;
    }

    /// Runs a script to its end.
    pub(super) async fn exec(
        &self,
        connection: &Connection,
        (wrap, script): (Wrap<'_>, &str),
        stdin: &[u8],
        patience: Option<Duration>,
        what: String,
    ) -> Result<CommandOutput, NodeError> {
        let options = &connection.options;
        let (mut tries, mut asked) = (0, 0);
        loop {
            if self.gone.is_cancelled() {
                return Err(NodeError::Lost(what));
            }
            let (line, gate) = wrap.line(script)?;
            let mark = format!("omk-ended-{:016x}", fastrand::u64(..));
            let mut child =
                self.run_line(&line, &mark).spawn().map_err(|e| not_started(&self.program, &e))?;
            let clock = Clock::start(patience.unwrap_or(options.patience));
            let (mut run, feeds) = Run::start(gate, options.output_limit, what.clone());
            run.ends_with(mark);
            let running = connection.command();
            process::run(&mut child, &mut run, stdin, feeds, &clock, &connection.cancel).await?;
            drop(running);
            if !run.unmarked() {
                return run.finish();
            }
            if system_said::too_many(&run.complained()) && tries < REFUSED {
                (tries, asked) = (tries + connection.in_vain(), asked + 1);
                tokio::time::sleep(pause(asked)).await;
                continue;
            }
            if run.status == Some(SSH_FAILED) {
                return Err(NodeError::Lost(what));
            }
            let said = hold::clean(&run.complained());
            let address = &connection.address;
            return Err(NodeError::Other(format!(
                "{what} was not done, the login shell on {address} says: {said}"
            )));
        }
    }

    /// A channel that speaks SFTP, and what `ssh` complains about it.
    pub(super) fn sftp(&self) -> Result<(CommandStream, Complaint), NodeError> {
        let mut ssh = self.through();
        ssh.arg("-s").arg("--").arg(&self.host).arg("sftp");
        stream::spawn(ssh).map_err(|e| not_started(&self.program, &e))
    }

    /// Runs the command that holds the lock, until the token is cancelled or the connection ends.
    pub(super) async fn hold(
        &self,
        connection: &Connection,
        line: &str,
        what: &str,
        permit: OwnedSemaphorePermit,
    ) -> Result<Option<CancellationToken>, NodeError> {
        use tokio::io::AsyncWriteExt as _;

        let mut child =
            self.run_line(line, "omk-ended").spawn().map_err(|e| not_started(&self.program, &e))?;
        let piped = || NodeError::Other("ssh was started without pipes".to_owned());
        let mut stdout = child.stdout.take().ok_or_else(piped)?;
        let complaint = Complaint::of(child.stderr.take().ok_or_else(piped)?);
        let mut stdin = child.stdin.take().ok_or_else(piped)?;
        let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
        let asking = async {
            loop {
                let count = stdout.read(&mut buffer).await.unwrap_or(0);
                said.extend_from_slice(&buffer[..count]);
                match Answer::read(&said)? {
                    Some(answer) => return Ok(answer),
                    None if count > 0 => {}
                    None => {
                        let why = complaint.whole().await;
                        return Err(match why.contains("omk-ended") {
                            true => NodeError::Other(format!("{what} failed: {}", hold::clean(&why))),
                            false => NodeError::Lost(what.to_owned()),
                        });
                    }
                }
            }
        };
        let patience = connection.options.patience;
        let answer = tokio::select! {
            answer = tokio::time::timeout(patience, asking) => answer.map_err(|_| {
                NodeError::Stalled { what: what.to_owned(), seconds: patience.as_secs() }
            })??,
            () = connection.cancel.cancelled() => return Err(NodeError::Cancelled),
        };
        if !answer.accept()? {
            return Ok(None);
        }
        let end = CancellationToken::new();
        let ended = end.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let mut beat = tokio::time::interval(Duration::from_secs(hold::BEAT));
            let living = async {
                loop {
                    tokio::select! {
                        _ = beat.tick() => if stdin.write_all(b".").await.is_err() { return },
                        // Nothing more is said; only its end is told.
                        count = stdout.read(&mut buffer) => if !matches!(count, Ok(1..)) { return },
                    }
                }
            };
            tokio::select! { () = living => ended.cancel(), () = ended.cancelled() => {} }
            drop(stdin);
            let _ = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
            drop(child);
        });
        Ok(Some(end))
    }
}
