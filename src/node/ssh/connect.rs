//! From nothing to a connection that is logged in, through whatever is in between.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use russh::client::{self, Handle, Msg};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelOpenFailure};
use tokio::net::TcpStream;

use super::auth::Login;
use super::patient::Patient;
use super::route::{Family, Hop, Route, Via, address};
use super::{SshOptions, stream};
use crate::event::Events;
use crate::node::known_hosts::{Peer, Trust, Trusted};
use crate::node::{KnownHosts, NodeError};

/// Where to.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) user: &'a str,
    pub(super) identity: Option<&'a Path>,
    pub(super) route: &'a Route,
    pub(super) jump: bool,
}

impl<'a> Target<'a> {
    fn hop(hop: &'a Hop) -> Self {
        Self {
            host: &hop.host,
            port: hop.port,
            user: &hop.user,
            identity: None,
            route: &hop.route,
            jump: true,
        }
    }
}

/// A connection, and those that it goes through.
pub(super) struct Link {
    pub(super) handle: Handle<Client>,
    /// Of the hosts on the way, the first one first.
    pub(super) through: Vec<Handle<Client>>,
    /// How the host was recognised and the user logged in, in words.
    pub(super) how: String,
}

/// Connects, checks the host key, logs in; for each host on the way before.
pub(super) fn dial<'a>(
    target: Target<'a>,
    options: &'a SshOptions,
    events: &'a Events,
) -> BoxFuture<'a, Result<Link, NodeError>> {
    async move {
        let place = address(target.host, target.port);
        let known_hosts = options.known_hosts_of(target.route)?;
        let (mut through, mut before) = (Vec::new(), String::new());
        if let Via::Jump(hop) = &target.route.via {
            let link = dial(Target::hop(hop), options, events).await.map_err(|e| on_the_way(e, &place))?;
            before = format!("through {} ({}); ", address(&hop.host, hop.port), link.how);
            through = link.through;
            through.push(link.handle);
        }
        // A server counts those that have not logged in yet (MaxStartups) and drops what is too many.
        let gate = options.gate(&place);
        let _turn = gate.acquire().await;
        let opening = open(&target, &place, through.last(), known_hosts, options, events);
        let (handle, host_key) = opening.await?;
        let login = Login {
            address: &place,
            user: target.user,
            identity: target.identity,
            route: target.route,
            options,
            jump: target.jump,
        };
        let (handle, how) = login.run(handle).await?;
        let host_key = host_key.lock().map(|k| k.clone()).unwrap_or_default();
        Ok(Link { handle, through, how: format!("{before}{}, by {how}, host key {host_key}", target.user) })
    }
    .boxed()
}

type HostKey = Arc<std::sync::Mutex<String>>;

async fn open(
    target: &Target<'_>,
    place: &str,
    jump: Option<&Handle<Client>>,
    known_hosts: Arc<KnownHosts>,
    options: &SshOptions,
    events: &Events,
) -> Result<(Handle<Client>, HostKey), NodeError> {
    let unreachable = |reason: String| NodeError::Connect { address: place.to_owned(), reason };
    let limit = target.route.connect_timeout.unwrap_or(options.connect_timeout);
    let host_key = HostKey::default();
    let client = Client {
        known_hosts: Arc::clone(&known_hosts),
        host: target.host.to_owned(),
        port: target.port,
        alias: target.route.host_key_alias.clone(),
        trust: match options.accept_new || target.route.accept_new {
            true => Trust::AcceptNew { hashed: target.route.hash_known_hosts },
            false => Trust::Recorded,
        },
        told: Arc::clone(&host_key),
        events: Arc::clone(events),
    };
    let config = Arc::new(config(&client.peer(), &known_hosts, target.route, options));
    // Twice as long as a server may be silent that is asked for signs of life: a kernel has room again only for a megabyte or so at a
    // time, for which a slow line takes a while.
    let silence = config.keepalive_interval.unwrap_or(options.keepalive).max(Duration::from_millis(100));
    let times = u32::try_from(config.keepalive_max).unwrap_or(u32::MAX).saturating_add(1);
    let silence = silence.saturating_mul(times.saturating_mul(2));
    let mut complaint = None;
    let connecting = async {
        match (&target.route.via, jump) {
            (Via::Command(command), _) => {
                let (stream, said) =
                    stream::start(command).map_err(|e| unreachable(format!("ProxyCommand: {e}")))?;
                complaint = Some(said);
                let stream = Patient::new(stream, silence);
                client::connect_stream(config, stream, client).await.map_err(|e| failed(e, place))
            }
            (_, Some(jump)) => {
                let channel =
                    jump.channel_open_direct_tcpip(target.host, u32::from(target.port), "127.0.0.1", 0);
                let channel = channel.await.map_err(|e| forward(&e, place))?;
                let stream = Patient::new(channel.into_stream(), silence);
                client::connect_stream(config, stream, client).await.map_err(|e| failed(e, place))
            }
            (_, None) => {
                let tcp = tcp(target).await.map_err(|e| match e.kind() {
                    std::io::ErrorKind::ConnectionReset => NodeError::Lost("connecting".to_owned()),
                    _ => unreachable(e.to_string()),
                })?;
                tcp.set_nodelay(true).map_err(|e| unreachable(e.to_string()))?;
                let stream = Patient::new(tcp, silence);
                client::connect_stream(config, stream, client).await.map_err(|e| failed(e, place))
            }
        }
    };
    let result = tokio::time::timeout(limit, connecting).await;
    let result =
        result.unwrap_or_else(|_| Err(unreachable(format!("no answer within {} s", limit.as_secs()))));
    match (result, complaint) {
        (Ok(handle), _) => Ok((handle, host_key)),
        // A command that ends without a connection has said why, and will say so again. That it ended may be seen before
        // what it said was read.
        (Err(e @ (NodeError::Lost(_) | NodeError::Connect { .. })), Some(said)) => {
            said.whole().await;
            Err(said.line().map_or(e, |line| unreachable(format!("ProxyCommand: {line}"))))
        }
        (Err(e), _) => Err(e),
    }
}

async fn tcp(target: &Target<'_>) -> std::io::Result<TcpStream> {
    let fits = |a: &SocketAddr| match target.route.family {
        Family::Any => true,
        Family::V4 => a.is_ipv4(),
        Family::V6 => a.is_ipv6(),
    };
    let found: Vec<SocketAddr> =
        tokio::net::lookup_host((target.host, target.port)).await?.filter(fits).collect();
    if found.is_empty() {
        return Err(std::io::Error::other("it has no address of the kind that AddressFamily asks for"));
    }
    TcpStream::connect(found.as_slice()).await
}

/// Says of a host that it is one on the way, and to whom: a message about an address that the inventory does not have is a riddle.
fn on_the_way(error: NodeError, place: &str) -> NodeError {
    // The host before this one has said it.
    let marked = |address: &str| address.starts_with(JUMP);
    let mark = |address: String| match marked(&address) {
        true => address,
        false => format!("{JUMP} {address} (before {place})"),
    };
    match error {
        NodeError::Auth { address, user, tried, hint } => {
            NodeError::Auth { address: mark(address), user, tried, hint }
        }
        NodeError::Connect { address, reason } => NodeError::Connect { address: mark(address), reason },
        other => other,
    }
}

const JUMP: &str = "the jump host";

/// The host on the way would not go on.
fn forward(error: &russh::Error, place: &str) -> NodeError {
    match error {
        russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => NodeError::Other(
            format!("the jump host before {place} forwards nothing: AllowTcpForwarding in its sshd_config"),
        ),
        russh::Error::ChannelOpenFailure(reason) => NodeError::Connect {
            address: place.to_owned(),
            reason: format!("the jump host before it does not reach it ({reason:?})"),
        },
        e => NodeError::Lost(format!("going on to {place} ({e})")),
    }
}

fn failed(error: ClientError, place: &str) -> NodeError {
    match error {
        ClientError::HostKey(e) => e,
        ClientError::Ssh(e) if is_drop(&e) => NodeError::Lost(format!("exchanging keys ({e})")),
        ClientError::Ssh(e) => NodeError::Connect { address: place.to_owned(), reason: e.to_string() },
    }
}

/// Whether the peer hung up, rather than said something that cannot be accepted.
fn is_drop(error: &russh::Error) -> bool {
    matches!(
        error,
        russh::Error::Disconnect | russh::Error::HUP | russh::Error::SendError | russh::Error::IO(_)
    )
}

fn config(peer: &Peer<'_>, known_hosts: &KnownHosts, route: &Route, options: &SshOptions) -> client::Config {
    use russh::cipher;

    let mut preferred = russh::Preferred::DEFAULT;
    // AES-GCM is the fastest by far where the processor has AES, which is nearly everywhere; russh's own order
    // begins with chacha20 and lacks aes128-gcm.
    preferred.cipher = vec![
        cipher::AES_128_GCM,
        cipher::AES_256_GCM,
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ]
    .into();
    // Layers are compressed already.
    preferred.compression = vec![russh::compression::NONE].into();
    preferred.key = known_hosts.algorithms_of(peer).into();
    preferred.host_key_certificates = known_hosts.certificate_algorithms(peer).into();
    client::Config {
        preferred,
        keepalive_interval: Some(route.keepalive.unwrap_or(options.keepalive)),
        keepalive_max: route.keepalive_max.unwrap_or(4),
        nodelay: true,
        ..client::Config::default()
    }
}

/// What the connection calls back.
pub(crate) struct Client {
    known_hosts: Arc<KnownHosts>,
    host: String,
    port: u16,
    alias: Option<String>,
    trust: Trust,
    told: HostKey,
    events: Events,
}

impl Client {
    fn peer(&self) -> Peer<'_> {
        Peer { host: &self.host, port: self.port, alias: self.alias.as_deref() }
    }
}

#[derive(Debug)]
pub(crate) enum ClientError {
    HostKey(NodeError),
    Ssh(russh::Error),
}

impl From<russh::Error> for ClientError {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

/// A server may ask for channels too; russh accepts those by default. Nothing here ever asked for one.
impl client::Handler for Client {
    type Error = ClientError;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, ClientError> {
        let Trusted { by, recorded } =
            self.known_hosts.judge(&self.peer(), key, self.trust).map_err(ClientError::HostKey)?;
        if let Some(event) = recorded {
            self.events.emit(event);
        }
        if let Ok(mut told) = self.told.lock() {
            *told = by;
        }
        Ok(true)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), ClientError> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), ClientError> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), ClientError> {
        Ok(())
    }
}
