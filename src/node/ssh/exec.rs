//! One command on its own channel.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelWriteHalf, Sig};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Connection;
use crate::node::{CommandOutput, NodeError, Secret, quote};

/// A longer script does not fit into one argument (Linux: 128 KiB, `MAX_ARG_STRLEN`), in bytes.
const MAX_SCRIPT: usize = 100 << 10;
/// How long `sudo` may take to run the command or to ask for a password.
const SUDO_PATIENCE: Duration = Duration::from_secs(60);
/// How long output may still come after the command has ended: something that it left behind holds the pipes open.
const LINGER: Duration = Duration::from_secs(5);

/// Before every script: messages that can be parsed, and the folders that a non-interactive login or sudo's
/// `secure_path` leaves out, where k3s, crictl and nerdctl live.
const PRELUDE: &str = "LC_ALL=C; PATH=\"$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin\"; \
     export LC_ALL PATH\n";

/// Who runs a script.
#[derive(Clone, Copy)]
pub(super) enum Wrap<'a> {
    /// The session's user.
    User,
    /// root, without being asked.
    Sudo,
    /// root, with this password if it is asked for.
    SudoWith(&'a Secret),
}

/// What sudo prints before anything may be fed to the command: `ready` comes from the shell that it started, `prompt`
/// from sudo itself. Without it a password that nobody asks for would reach the command, and a refused sudo would
/// swallow the command's input.
struct Gate<'a> {
    ready: String,
    prompt: String,
    password: Option<&'a Secret>,
    prompts: u32,
}

enum Feed {
    Password(Bytes),
    Input,
    Eof,
}

impl Connection {
    pub(super) async fn exec(
        &self,
        wrap: Wrap<'_>,
        script: &str,
        stdin: &[u8],
        patience: Option<Duration>,
    ) -> Result<CommandOutput, NodeError> {
        if script.len() > MAX_SCRIPT {
            let text =
                format!("a script of {} bytes is too long for a command: feed data on stdin", script.len());
            return Err(NodeError::Other(text));
        }
        let what = format!("running `{}` on {}", summary(script), self.address);
        let (line, gate) = wrap.line(script);
        let opening = self.channel(&what);
        let (channel, _permit) = tokio::select! {
            opened = opening => opened?,
            () = self.cancel.cancelled() => return Err(NodeError::Cancelled),
        };
        let (mut read, write) = channel.split();
        let lost = || NodeError::Lost(what.clone());
        write.exec(true, line).await.map_err(|_| lost())?;

        let clock = Clock::start(patience.unwrap_or(self.options.patience));
        let (feed, feeds) = mpsc::unbounded_channel();
        let feeding = feed_all(&write, stdin, feeds, &clock);
        tokio::pin!(feeding);
        let mut run = Run {
            gate,
            feed,
            output: CommandOutput::default(),
            status: None,
            limit: self.options.output_limit,
        };
        if run.gate.is_none() {
            run.let_in();
        }
        let mut fed = false;
        let ended = loop {
            tokio::select! {
                message = read.wait() => match message {
                    None | Some(ChannelMsg::Close) => break Ok(()),
                    Some(message) => {
                        clock.touch();
                        if let Err(e) = run.take(message, &what) {
                            break Err(e);
                        }
                    }
                },
                () = &mut feeding, if !fed => fed = true,
                () = clock.expired(run.patience(clock.patience)) => {
                    if run.status.is_some() {
                        break Ok(());
                    }
                    break Err(run.stalled(&what, clock.patience));
                }
                () = self.cancel.cancelled() => break Err(NodeError::Cancelled),
            }
        };
        if ended.is_err() || run.status.is_some() {
            end(&write, ended.is_err()).await;
        }
        ended?;
        run.finish(lost)
    }
}

/// Closes the channel; a command that still runs is asked to end. Bounded, since a dead peer takes nothing.
async fn end(write: &ChannelWriteHalf<Msg>, running: bool) {
    let closing = async {
        if running {
            let _ = write.signal(Sig::TERM).await;
        }
        let _ = write.close().await;
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), closing).await;
}

/// Feeds what the reader lets in. Never finishes when the peer takes nothing any more: the caller races it against
/// the reader.
async fn feed_all(
    write: &ChannelWriteHalf<Msg>,
    stdin: &[u8],
    mut feeds: mpsc::UnboundedReceiver<Feed>,
    clock: &Clock,
) {
    while let Some(feed) = feeds.recv().await {
        let sent = match feed {
            Feed::Password(line) => write.data_bytes(line).await,
            Feed::Eof => write.eof().await,
            Feed::Input => {
                for chunk in stdin.chunks(256 << 10) {
                    if write.data_bytes(Bytes::copy_from_slice(chunk)).await.is_err() {
                        return;
                    }
                    clock.touch();
                }
                write.eof().await
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

impl<'a> Wrap<'a> {
    /// The line for the login shell. `sh -c` in front because that shell may be anything.
    fn line(self, script: &str) -> (String, Option<Gate<'a>>) {
        let mark = format!("{:016x}", fastrand::u64(..));
        let (ready, prompt) = (format!("omk-ready-{mark}\n"), format!("omk-password-{mark}"));
        let inner = quote(&format!("echo {} >&2\n{PRELUDE}{script}", ready.trim_end()));
        let (sudo, password) = match self {
            Self::User => return (format!("exec sh -c {}", quote(&format!("{PRELUDE}{script}"))), None),
            Self::Sudo => ("-n".to_owned(), None),
            Self::SudoWith(password) => (format!("-k -S -p {prompt}"), Some(password)),
        };
        let line = format!("exec env LC_ALL=C sudo {sudo} -- sh -c {inner}");
        (line, Some(Gate { ready, prompt, password, prompts: 0 }))
    }
}

struct Run<'a> {
    /// `Some` until sudo has let the command in.
    gate: Option<Gate<'a>>,
    feed: mpsc::UnboundedSender<Feed>,
    output: CommandOutput,
    status: Option<i32>,
    limit: usize,
}

impl Run<'_> {
    fn let_in(&self) {
        let _ = self.feed.send(Feed::Input);
    }

    fn patience(&self, usual: Duration) -> Duration {
        match (self.status, &self.gate) {
            (Some(_), _) => LINGER,
            (None, Some(_)) => SUDO_PATIENCE.min(usual),
            (None, None) => usual,
        }
    }

    fn stalled(&self, what: &str, patience: Duration) -> NodeError {
        match self.gate {
            Some(_) => NodeError::Sudo(
                "it neither ran the command nor asked for a password in a way that can be answered: allow \
                 NOPASSWD for this user or log in as root"
                    .to_owned(),
            ),
            None => NodeError::Stalled { what: what.to_owned(), seconds: patience.as_secs() },
        }
    }

    fn take(&mut self, message: ChannelMsg, what: &str) -> Result<(), NodeError> {
        match message {
            ChannelMsg::Data { data } => self.output.stdout.extend_from_slice(&data),
            ChannelMsg::ExtendedData { data, ext: 1 } => {
                self.output.stderr.extend_from_slice(&data);
                self.pass_gate();
            }
            ChannelMsg::ExitStatus { exit_status } => {
                self.status = Some(i32::try_from(exit_status).unwrap_or(255));
            }
            ChannelMsg::ExitSignal { signal_name, .. } => self.status = Some(128 + number(&signal_name)),
            ChannelMsg::Failure => {
                return Err(NodeError::Other(format!("the server refused {what}: it allows no commands")));
            }
            _ => {}
        }
        if self.output.stdout.len() + self.output.stderr.len() > self.limit {
            let text = format!("{what} printed more than {} bytes, which no command of omk does", self.limit);
            return Err(NodeError::Other(text));
        }
        Ok(())
    }

    /// Looks for what sudo says and takes it out of the command's own messages.
    fn pass_gate(&mut self) {
        let Some(gate) = &mut self.gate else { return };
        let stderr = &mut self.output.stderr;
        while let Some(at) = find(stderr, gate.prompt.as_bytes()) {
            stderr.drain(at..at + gate.prompt.len());
            gate.prompts += 1;
            let _ = match gate.password {
                Some(password) if gate.prompts == 1 => {
                    self.feed.send(Feed::Password(Bytes::from(format!("{}\n", password.expose()))))
                }
                _ => self.feed.send(Feed::Eof),
            };
        }
        if let Some(at) = find(stderr, gate.ready.as_bytes()) {
            stderr.drain(..at + gate.ready.len());
            self.gate = None;
            self.let_in();
        }
    }

    fn finish(mut self, lost: impl Fn() -> NodeError) -> Result<CommandOutput, NodeError> {
        self.output.status = self.status.ok_or_else(&lost)?;
        let Some(gate) = self.gate else { return Ok(self.output) };
        let complaint = self.output.complaint();
        let complaint = complaint.strip_prefix("sudo: ").unwrap_or(&complaint);
        Err(NodeError::Sudo(match (gate.password, gate.prompts) {
            (Some(_), 2..) => "the password is wrong: correct sudo_password in the inventory".to_owned(),
            (None, _) if complaint.contains("password is required") => {
                "it asks for a password: set sudo_password in the inventory, or allow this user NOPASSWD"
                    .to_owned()
            }
            _ => format!("{complaint}: allow this user to run commands as root, or log in as root"),
        }))
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// When something last moved.
struct Clock {
    started: Instant,
    moved_ms: AtomicU64,
    patience: Duration,
}

impl Clock {
    fn start(patience: Duration) -> Self {
        Self { started: Instant::now(), moved_ms: AtomicU64::new(0), patience }
    }

    fn touch(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(now, Ordering::Relaxed);
    }

    async fn expired(&self, patience: Duration) {
        loop {
            let at = self.started + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed)) + patience;
            if Instant::now() >= at {
                return;
            }
            tokio::time::sleep_until(at).await;
        }
    }
}

/// The start of a script's first line, for messages.
fn summary(script: &str) -> String {
    let line = script.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
    let mut text: String = line.chars().filter(|c| !c.is_control()).take(60).collect();
    if text.len() < script.trim().len() {
        text.push('…');
    }
    text
}

/// POSIX numbers; names that are not listed stay what `kill -l` has no number for.
fn number(signal: &Sig) -> i32 {
    match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(_) => 127,
    }
}
