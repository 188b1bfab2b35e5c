//! An SSH server in this process: `exec` runs on this machine, SFTP reaches one folder. For `omk demo` and for tests;
//! it listens on the loopback interface only and lets one key in, but what that key runs is not confined.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use russh::keys::{Algorithm, PrivateKey, PublicKey};
use russh::server::{self, Auth, ChannelOpenHandle, Handle, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, MethodKind, MethodSet};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

mod files;

/// What the server is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The one key that is let in, whatever the user is called.
    pub authorized_key: PublicKey,
    /// What SFTP reaches, and where commands start. Absolute; paths mean the same over SFTP and in commands.
    pub folder: PathBuf,
    /// Added to the environment of commands.
    pub env: Vec<(String, String)>,
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    host_key: PublicKey,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    refuse_auth: AtomicBool,
    drop_connects: AtomicU64,
    /// Bytes until the connection is dropped; negative: never.
    drop_after: AtomicI64,
    received: AtomicU64,
}

impl Server {
    /// Listens on a free port of 127.0.0.1 with a new host key.
    ///
    /// # Errors
    /// When no port or no key can be had.
    pub async fn start(options: Options) -> std::io::Result<Self> {
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
            .map_err(std::io::Error::other)?;
        let host_key = key.public_key().clone();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let config = Arc::new(server::Config {
            keys: vec![key],
            methods: MethodSet::from(&[MethodKind::PublicKey][..]),
            auth_rejection_time: Duration::from_millis(20),
            nodelay: true,
            preferred: preferred(),
            ..server::Config::default()
        });
        let shared = Arc::new(Shared {
            options,
            refuse_auth: AtomicBool::new(false),
            drop_connects: AtomicU64::new(0),
            drop_after: AtomicI64::new(-1),
            received: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, config, Arc::clone(&shared), stop.clone()));
        Ok(Self { addr, host_key, shared, stop })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The line that a `known_hosts` file needs for it.
    pub fn known_hosts_line(&self) -> String {
        let key = self.host_key.to_openssh().unwrap_or_default();
        format!("[{}]:{} {key}\n", self.addr.ip(), self.addr.port())
    }

    /// Bytes received on all connections so far, as they were on the wire.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Fault: the connection that receives the `bytes`-th byte from now on is dropped, once.
    pub fn drop_after(&self, bytes: u32) {
        self.shared.drop_after.store(i64::from(bytes), Ordering::Relaxed);
    }

    /// Fault: the next `count` connections are dropped before the server says who it is, as OpenSSH does at its
    /// `MaxStartups`.
    pub fn drop_connects(&self, count: u64) {
        self.shared.drop_connects.store(count, Ordering::Relaxed);
    }

    /// Fault: nobody is let in any more.
    pub fn refuse_auth(&self, refuse: bool) {
        self.shared.refuse_auth.store(refuse, Ordering::Relaxed);
    }

    /// Ends it and every connection.
    pub fn shutdown(&self) {
        self.stop.cancel();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn preferred() -> russh::Preferred {
    use russh::cipher::{AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305};

    let cipher = vec![AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305].into();
    russh::Preferred { cipher, ..russh::Preferred::DEFAULT }
}

async fn accept(
    listener: TcpListener,
    config: Arc<server::Config>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    loop {
        let tcp = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => tcp,
                Err(_) => continue,
            },
            () = stop.cancelled() => return,
        };
        let take = |n: u64| n.checked_sub(1);
        if shared.drop_connects.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            continue;
        }
        let (config, shared, stop) = (Arc::clone(&config), Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            let wire = Wire { tcp, shared: Arc::clone(&shared), dropped: false };
            let peer = Peer { shared, channels: HashMap::new(), commands: CancellationToken::new() };
            let serve = async {
                if let Ok(session) = server::run_stream(config, wire, peer).await {
                    // A client that is gone is no error of the server.
                    let _ = session.await;
                }
            };
            tokio::select! {
                () = serve => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// A connection whose bytes are counted, and that may break at a given one.
struct Wire {
    tcp: TcpStream,
    shared: Arc<Shared>,
    dropped: bool,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        if self.dropped {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        let count = buf.filled().len() - before;
        self.shared.received.fetch_add(count as u64, Ordering::Relaxed);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let spend = |left: i64| (left >= 0).then(|| left - count);
        let left = self.shared.drop_after.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
        if left.is_ok_and(|left| left < count) {
            self.shared.drop_after.store(-1, Ordering::Relaxed);
            self.dropped = true;
            buf.set_filled(before);
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.dropped {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// The client of one connection.
struct Peer {
    shared: Arc<Shared>,
    channels: HashMap<ChannelId, Channel<Msg>>,
    commands: CancellationToken,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.commands.cancel();
    }
}

impl server::Handler for Peer {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        let known = key.public_key.key_data() == self.shared.options.authorized_key.key_data();
        if known && !self.shared.refuse_auth.load(Ordering::Relaxed) {
            return Ok(Auth::Accept);
        }
        Ok(Auth::reject())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        line: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(channel) = self.channels.remove(&id) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let line = String::from_utf8_lossy(line).into_owned();
        let (shared, handle, stop) = (Arc::clone(&self.shared), session.handle(), self.commands.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = execute(&shared.options, channel, &handle, line) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        match self.channels.remove(&id) {
            Some(channel) if name == "sftp" => {
                session.channel_success(id)?;
                let files = files::Files::new(self.shared.options.folder.clone());
                russh_sftp::server::run(channel.into_stream(), files).await;
                Ok(())
            }
            _ => session.channel_failure(id),
        }
    }
}

/// Runs a command as a login shell would, its three streams being the channel's. As sshd: the exit status is told when
/// the command ends, the channel closes when nobody holds its output open any more.
async fn execute(options: &Options, channel: Channel<Msg>, handle: &Handle, line: String) {
    let id = channel.id();
    let child = tokio::process::Command::new("sh")
        .arg("-c")
        .arg(line)
        .current_dir(&options.folder)
        .envs(options.env.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    // Telling a client anything fails only when it is gone, which is nothing to tell anybody.
    let Ok(mut child) = child else {
        let _ = handle.exit_status_request(id, 127).await;
        let _ = handle.close(id).await;
        return;
    };
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut read, write) = channel.split();
    let (mut out, mut err) = (write.make_writer(), write.make_writer_ext(Some(1)));
    let feed = async {
        let Some(mut stdin) = stdin else { return };
        let mut reader = read.make_reader();
        // Breaks when the command does not want it, which is the command's right; what still comes is dropped, so
        // that it does not stop the connection.
        if tokio::io::copy(&mut reader, &mut stdin).await.is_err() {
            drop(stdin);
            let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
        }
    };
    let print = async {
        tokio::join!(relay(stdout, &mut out), relay(stderr, &mut err), async {
            let status = child.wait().await.map_or(255, exit_status);
            let _ = handle.exit_status_request(id, status).await;
        })
    };
    tokio::pin!(feed, print);
    let mut fed = false;
    loop {
        tokio::select! {
            _ = &mut print => break,
            () = &mut feed, if !fed => fed = true,
        }
    }
    let _ = handle.eof(id).await;
    let _ = handle.close(id).await;
}

async fn relay(from: Option<impl AsyncRead + Unpin>, to: &mut (impl AsyncWrite + Unpin)) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 32 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.flush().await;
}

#[cfg(unix)]
fn exit_status(status: std::process::ExitStatus) -> u32 {
    use std::os::unix::process::ExitStatusExt as _;

    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u32::try_from(code).unwrap_or(255)
}

#[cfg(not(unix))]
fn exit_status(status: std::process::ExitStatus) -> u32 {
    status.code().and_then(|c| u32::try_from(c).ok()).unwrap_or(255)
}
