//! Commands whose input and output are a connection: `ProxyCommand`, and what the system's `ssh` carries.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

/// The end of what the command complains about, in bytes: a banner may go before what counts.
const MAX_COMPLAINT: usize = 16_000;

/// A running command as a stream. Ends it when dropped.
pub(super) struct CommandStream {
    input: ChildStdin,
    output: ChildStdout,
    child: Child,
}

/// The end of what a command wrote to its standard error.
#[derive(Clone)]
pub(crate) struct Complaint {
    said: Arc<Mutex<Vec<u8>>>,
    whole: CancellationToken,
}

impl Complaint {
    /// Reads it for as long as anything comes.
    pub(super) fn of(mut errors: ChildStderr) -> Self {
        let complaint = Self { said: Arc::default(), whole: CancellationToken::new() };
        let kept = complaint.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = errors.read(&mut buffer).await {
                let mut said = kept.said.lock().unwrap_or_else(PoisonError::into_inner);
                said.extend_from_slice(&buffer[..count]);
                let over = said.len().saturating_sub(MAX_COMPLAINT);
                said.drain(..over);
            }
            kept.whole.cancel();
        });
        complaint
    }

    /// All of it, once the command has ended or closed it; what there is after a second.
    pub(super) async fn whole(&self) -> String {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.whole.cancelled()).await;
        String::from_utf8_lossy(&self.said.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// What there is before a line that has nothing but this word, which the command is known to write; what there is after a second.
    pub(super) async fn before(&self, word: &str) -> String {
        let mut tries = 0;
        loop {
            let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let text = String::from_utf8_lossy(&said);
            let before: Vec<&str> = text.lines().take_while(|l| l.trim_end() != word).collect();
            if before.len() < text.lines().count() || tries == 50 {
                return before.join("\n");
            }
            tries += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The last line so far.
    pub(super) fn line(&self) -> Option<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said);
        let line = text.lines().rev().map(str::trim).find(|l| !l.is_empty())?;
        Some(line.chars().filter(|c| !c.is_control()).take(300).collect())
    }
}

/// Starts the command as OpenSSH does, but for the shell: always `sh`.
pub(super) fn start(command: &str) -> io::Result<(CommandStream, Complaint)> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec {command}"));
    spawn(shell)
}

pub(super) fn spawn(mut command: Command) -> io::Result<(CommandStream, Complaint)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Its own group, so that Ctrl-C reaches omk alone, which still has to say goodbye through it.
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn()?;
    let piped = || io::Error::other("started without pipes");
    let input = child.stdin.take().ok_or_else(piped)?;
    let output = child.stdout.take().ok_or_else(piped)?;
    let complaint = Complaint::of(child.stderr.take().ok_or_else(piped)?);
    Ok((CommandStream { input, output, child }, complaint))
}

impl Drop for CommandStream {
    fn drop(&mut self) {
        let group = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::TERM);
        }
    }
}

impl AsyncRead for CommandStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for CommandStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}
