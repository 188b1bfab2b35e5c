//! Nodes over SSH: one connection per node, several channels in it.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use russh::client::{Handle, Msg};
use russh::{Channel, ChannelMsg};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::command::Wrap;
use super::inventory::{Address, Node};
use super::sftp::Flow;
use super::{CommandOutput, KnownHosts, NodeError, NodeSession, RemoteCommand, Secret};
use crate::event::{Event, Events};
use crate::oci::Digest;
use crate::store::BlobStore;

mod ask;
mod auth;
mod connect;
mod exec;
mod hold;
mod keys;
mod patient;
mod prompt;
pub mod route;
mod stream;
mod system;
mod system_said;

pub use ask::{Ask, Secrets};
use connect::{Client, Link, Target};
pub use route::Route;
pub use system::SystemSsh;

/// Connections to one host that log in at the same time: what OpenSSH's `MaxStartups` allows where it was set very low.
const STARTUPS: usize = 3;

/// Channels that are open at once on one connection; OpenSSH's `MaxSessions` is 10 unless it was lowered.
const CHANNELS: usize = 8;

/// How nodes are reached; one value for all nodes of a run.
#[derive(Debug, Clone)]
pub struct SshOptions {
    /// Which host keys are trusted.
    pub known_hosts: Arc<KnownHosts>,
    /// The system's own `ssh` instead of omk's SSH. Of the other options it takes no heed of `known_hosts`, `secrets`, `home`,
    /// `agent` and `connect_timeout`: those are its own business.
    pub system: Option<SystemSsh>,
    /// Whether files that `ssh_config` names for single hosts are left aside.
    pub only_these_known_hosts: bool,
    /// Whether the key of a host of which nothing is recorded is recorded and trusted from then on.
    pub accept_new: bool,
    /// Passwords and passphrases, and who can be asked for them.
    pub secrets: Arc<Secrets>,
    /// Where `.ssh/id_*` is looked for when a node names no identity and the agent has none that fits.
    pub home: Option<PathBuf>,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// For each of: TCP connect with key exchange, one authentication attempt, opening a channel.
    pub connect_timeout: Duration,
    /// How often a connection is tried that the server drops before it says who it is (OpenSSH's `MaxStartups`).
    pub attempts: u32,
    /// How long a command may neither print nor read anything, unless it says otherwise; also how long a write into
    /// staging may stay without an answer.
    pub patience: Duration,
    /// Silence after which the peer is asked for a sign of life; after four without an answer the connection is lost.
    pub keepalive: Duration,
    /// A command that prints more than this, in bytes, is an error.
    pub output_limit: usize,
    /// Writes of up to 255 KiB each that one file may have unanswered. OpenSSH grants a channel a window of 2 MiB: what
    /// is beyond it waits in this process, and the notes in the journal behind it, so more costs memory and makes a
    /// killed run send more again. With many files on the way at once, to all nodes, each has fewer and smaller ones.
    pub writes_in_flight: usize,
    run: u64,
    shared: Arc<Shared>,
}

/// What all connections of a run have in common.
#[derive(Debug, Default)]
struct Shared {
    gates: Mutex<HashMap<String, Arc<Semaphore>>>,
    known_hosts: Mutex<HashMap<Vec<PathBuf>, Arc<KnownHosts>>>,
    flow: Arc<Flow>,
}

impl SshOptions {
    /// With the defaults, and no home folder and no agent.
    pub fn new(known_hosts: Arc<KnownHosts>) -> Self {
        Self {
            known_hosts,
            system: None,
            only_these_known_hosts: false,
            accept_new: false,
            secrets: Arc::default(),
            home: None,
            agent: None,
            connect_timeout: Duration::from_secs(20),
            attempts: 6,
            patience: Duration::from_secs(300),
            keepalive: Duration::from_secs(15),
            output_limit: 64 << 20,
            writes_in_flight: 12,
            run: fastrand::u64(..),
            shared: Arc::default(),
        }
    }

    /// As [`SshOptions::new`], with the home folder and the agent of this process's environment.
    pub fn from_env(known_hosts: Arc<KnownHosts>) -> Self {
        let agent = std::env::var_os("SSH_AUTH_SOCK").filter(|s| !s.is_empty()).map(PathBuf::from);
        Self { home: std::env::home_dir(), agent, ..Self::new(known_hosts) }
    }

    /// What all blobs that are on their way to any node share.
    pub(crate) fn flow(&self) -> &Arc<Flow> {
        &self.shared.flow
    }

    fn gate(&self, address: &str) -> Arc<Semaphore> {
        let mut gates = self.shared.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(address.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(STARTUPS))))
    }

    /// The host keys that are trusted on a route, read once for all nodes that name the same files.
    fn known_hosts_of(&self, route: &Route) -> Result<Arc<KnownHosts>, NodeError> {
        let named = route.known_hosts.as_ref().filter(|_| !self.only_these_known_hosts);
        if named.is_none() && route.revoked.is_none() {
            return Ok(Arc::clone(&self.known_hosts));
        }
        let mut key = named.cloned().unwrap_or_default();
        key.push("revoked".into());
        key.extend(route.revoked.clone());
        let mut all = self.shared.known_hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&key) {
            return Ok(Arc::clone(known));
        }
        let mut known = match named {
            Some(files) => KnownHosts::load_all(files.iter().cloned())?,
            None => KnownHosts::clone(&self.known_hosts),
        };
        if let Some(file) = &route.revoked {
            known.load_revoked(file).map_err(NodeError::HostKey)?;
        }
        let known = Arc::new(known);
        all.insert(key, Arc::clone(&known));
        Ok(known)
    }

    /// Names what this run stages on this node: the same for a new connection of the same run, another for every
    /// other run. Two sessions of one run to the same inventory entry must not stage at the same time.
    fn lineage(&self, node: &Node) -> String {
        Digest::sha256(format!("{:016x} {}", self.run, node.name).as_bytes()).short().to_owned()
    }
}

/// An open SSH connection to a node.
#[derive(Clone)]
pub struct SshSession(pub(super) Arc<Connection>);

/// What carries the commands.
enum Wire {
    Own {
        handle: Handle<Client>,
        /// The hosts on the way, the first one first.
        through: Vec<Handle<Client>>,
    },
    System(system::Master),
}

/// A channel as bytes.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// An SFTP channel whose server has not been heard yet.
pub(crate) struct SftpChannel {
    pub(crate) stream: Box<dyn Duplex>,
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) said: Option<stream::Complaint>,
}

/// What a server that does not greet means by it.
pub(crate) enum Refusal {
    /// There are too many channels.
    Busy,
    /// It will not.
    Never(NodeError),
}

pub(crate) struct Connection {
    wire: Wire,
    how: String,
    /// `host:port`, for messages.
    pub(crate) address: String,
    user: String,
    sudo_password: Option<Secret>,
    pub(crate) options: SshOptions,
    pub(crate) lineage: String,
    pub(crate) cancel: CancellationToken,
    channels: Arc<Semaphore>,
    /// Commands that run. Their channels come free again, as those of the lock and of transfers do not.
    commands: AtomicUsize,
    pub(crate) sftp: super::sftp::Pool,
    ids: OnceCell<(u32, u32)>,
    /// Set while the staging folder is this run's own. The token is cancelled when the lock is lost, or let go of.
    held: Mutex<Option<(CancellationToken, DropGuard)>>,
}

/// How long is waited before a server that refused a channel so many times is asked again: it writes a line to its log each time.
pub(crate) fn pause(asked: u32) -> Duration {
    Duration::from_millis(match asked {
        0..=10 => 50 * u64::from(asked.max(1)),
        more => 500 * u64::from((more - 9).min(4)),
    })
}

/// A command that runs.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for SshSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshSession({}@{})", self.0.user, self.0.address)
    }
}

impl SshSession {
    /// Connects, checks the host key and authenticates. `cancel` ends the attempt and later everything that runs in
    /// the session.
    ///
    /// # Errors
    /// [`NodeError::Connect`], [`NodeError::HostKey`], [`NodeError::Auth`], [`NodeError::Cancelled`].
    pub async fn connect(
        node: &Node,
        options: &SshOptions,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Self, NodeError> {
        let Address::Ssh { host, port, user, identity } = &node.address else {
            return Err(NodeError::Other(format!("{} is this machine, not reached over SSH", node.name)));
        };
        let target = Target {
            host,
            port: *port,
            user,
            identity: identity.as_deref(),
            route: &node.route,
            jump: false,
        };
        let dial = || async {
            if let Some(system) = &options.system {
                let system::Reached { master, user, address, how } =
                    system::connect(node, system, options, events).await?;
                return Ok((Wire::System(master), user, address, how));
            }
            let Link { handle, through, how } = connect::dial(target, options, events).await?;
            Ok((Wire::Own { handle, through }, user.clone(), node.address.to_string(), how))
        };
        let mut attempt = 0;
        let (wire, user, address, how) = loop {
            attempt += 1;
            let failed = tokio::select! {
                result = dial() => match result {
                    Ok(link) => break link,
                    Err(e) => e,
                },
                () = cancel.cancelled() => return Err(NodeError::Cancelled),
            };
            let dropped = matches!(failed, NodeError::Lost(_)) && attempt < options.attempts;
            if !dropped {
                return Err(match failed {
                    NodeError::Lost(reason) => {
                        let reason = format!(
                            "the server dropped {attempt} connections, last while {reason} (is it an SSH server, and does it let in as                              many at once: MaxStartups?)"
                        );
                        NodeError::Connect { address: node.address.to_string(), reason }
                    }
                    other => other,
                });
            }
            // Many clients were dropped together; they must not come back together.
            let base = 200u64 << attempt.min(5);
            let delay_ms = fastrand::u64(base / 2..=base);
            events.emit(Event::Retry {
                what: format!("connect to {}", node.address),
                reason: failed.to_string(),
                delay_ms,
            });
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(delay_ms)) => {}
                () = cancel.cancelled() => return Err(NodeError::Cancelled),
            }
        };
        Ok(Self(Arc::new(Connection {
            wire,
            how,
            address,
            user,
            sudo_password: node.sudo_password.clone(),
            options: options.clone(),
            lineage: options.lineage(node),
            cancel: cancel.clone(),
            channels: Arc::new(Semaphore::new(CHANNELS)),
            commands: AtomicUsize::new(0),
            sftp: super::sftp::Pool::new(),
            ids: OnceCell::new(),
            held: Mutex::default(),
        })))
    }

    /// How the host was recognised and the user logged in, for people.
    pub fn how(&self) -> &str {
        &self.0.how
    }
}

impl Connection {
    /// A channel; waits while too many are open, here or by the server's lower `MaxSessions`.
    async fn channel(
        &self,
        handle: &Handle<Client>,
        what: &str,
    ) -> Result<(Channel<Msg>, OwnedSemaphorePermit), NodeError> {
        let lost = |_| NodeError::Lost(format!("{what} on {}", self.address));
        let permit = self.turn(what).await?;
        let (mut tries, mut asked) = (0u32, 0u32);
        loop {
            let opening = tokio::time::timeout(self.options.connect_timeout, handle.channel_open_session());
            match opening.await {
                Ok(Ok(channel)) => return Ok((channel, permit)),
                Ok(Err(russh::Error::ChannelOpenFailure(reason))) if tries >= 20 => {
                    let text =
                        format!("{} refuses another channel ({reason:?}): raise MaxSessions", self.address);
                    return Err(NodeError::Other(text));
                }
                Ok(Err(russh::Error::ChannelOpenFailure(_))) => {
                    (tries, asked) = (tries + self.in_vain(), asked + 1);
                    tokio::time::sleep(pause(asked)).await;
                }
                Ok(Err(e)) => return Err(lost(e.to_string())),
                Err(_) => {
                    let seconds = self.options.connect_timeout.as_secs();
                    return Err(NodeError::Stalled {
                        what: format!("opening a channel to {}", self.address),
                        seconds,
                    });
                }
            }
        }
    }

    /// Counts a command among those that run, until this is dropped.
    fn command(&self) -> Running<'_> {
        self.commands.fetch_add(1, Ordering::Relaxed);
        Running(&self.commands)
    }

    /// What a channel that the server refused counts: nothing while a command runs, at whose end there is one.
    pub(crate) fn in_vain(&self) -> u32 {
        u32::from(self.commands.load(Ordering::Relaxed) == 0)
    }

    /// Waits while too many channels are open.
    async fn turn(&self, what: &str) -> Result<OwnedSemaphorePermit, NodeError> {
        let turn = Arc::clone(&self.channels).acquire_owned().await;
        turn.map_err(|_| NodeError::Lost(format!("{what} on {}", self.address)))
    }

    /// What it means that the SFTP server of a channel does not greet.
    pub(crate) async fn sftp_refusal(&self, said: Option<stream::Complaint>) -> Refusal {
        let Some(said) = said else {
            return Refusal::Never(NodeError::Lost(format!("opening SFTP on {}", self.address)));
        };
        let said = said.whole().await;
        match said {
            said if system_said::too_many(&said) => Refusal::Busy,
            said if said.contains("subsystem request failed") => Refusal::Never(self.no_sftp()),
            _ => Refusal::Never(NodeError::Lost(format!("opening SFTP on {}", self.address))),
        }
    }

    fn no_sftp(&self) -> NodeError {
        let text = format!("{} offers no SFTP: enable `Subsystem sftp` in its sshd_config", self.address);
        NodeError::Other(text)
    }

    /// A channel that speaks SFTP.
    pub(crate) async fn sftp_stream(&self) -> Result<SftpChannel, NodeError> {
        let handle = match &self.wire {
            Wire::Own { handle, .. } => handle,
            Wire::System(master) => {
                let permit = self.turn("opening SFTP").await?;
                let (stream, said) = master.sftp()?;
                return Ok(SftpChannel { stream: Box::new(stream), permit, said: Some(said) });
            }
        };
        let (mut channel, permit) = self.channel(handle, "opening SFTP").await?;
        let asked = async {
            channel.request_subsystem(true, "sftp").await.ok()?;
            loop {
                match channel.wait().await? {
                    ChannelMsg::Success => return Some(true),
                    ChannelMsg::Failure => return Some(false),
                    _ => {}
                }
            }
        };
        match tokio::time::timeout(self.options.connect_timeout, asked).await {
            Ok(Some(true)) => Ok(SftpChannel { stream: Box::new(channel.into_stream()), permit, said: None }),
            Ok(None) => Err(NodeError::Lost(format!("opening SFTP on {}", self.address))),
            Ok(Some(false)) | Err(_) => Err(self.no_sftp()),
        }
    }

    /// User and group id of the session's user.
    pub(crate) async fn ids(&self) -> Result<(u32, u32), NodeError> {
        let ask = || async {
            let output = self.exec(Wrap::User, "id -u; id -g", &[], None).await?;
            super::command::ids(&output)
        };
        self.ids.get_or_try_init(ask).await.copied()
    }

    pub(crate) async fn run(&self, command: &RemoteCommand) -> Result<CommandOutput, NodeError> {
        let wrap = match &self.sudo_password {
            _ if !command.root || self.user == "root" => Wrap::User,
            _ if self.ids().await?.0 == 0 => Wrap::User,
            None => Wrap::Sudo,
            Some(password) => Wrap::SudoWith(password),
        };
        self.exec(wrap, &command.script, &command.stdin, command.patience).await
    }
}

#[async_trait]
impl NodeSession for SshSession {
    async fn run(&self, command: &RemoteCommand) -> Result<CommandOutput, NodeError> {
        self.0.run(command).await
    }

    async fn staging(&self, path: &str) -> Result<Box<dyn BlobStore>, NodeError> {
        let store = super::sftp::SftpStore::open(Arc::clone(&self.0), path).await?;
        Ok(Box::new(store))
    }

    async fn hold(&self, staging: &str, holder: &super::Holder) -> Result<bool, NodeError> {
        self.0.hold(staging, holder).await
    }

    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), NodeError> {
        super::sftp::write_file(&self.0, path, bytes).await
    }

    async fn close(&self) {
        drop(self.0.held.lock().unwrap_or_else(PoisonError::into_inner).take());
        let (handle, through) = match &self.0.wire {
            Wire::Own { handle, through } => (handle, through),
            Wire::System(master) => return master.close().await,
        };
        let goodbye = handle.disconnect(russh::Disconnect::ByApplication, "", "");
        let _ = tokio::time::timeout(Duration::from_secs(2), goodbye).await;
        for jump in through.iter().rev() {
            let goodbye = jump.disconnect(russh::Disconnect::ByApplication, "", "");
            let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
        }
    }
}
