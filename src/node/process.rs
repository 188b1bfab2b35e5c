//! A program of this machine that runs a command: fed, read and watched to its end.

use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::NodeError;
use super::command::{Clock, Feed, Run};

/// What is told to end may take so long before it is killed, and what is killed so long to be gone.
const GRACE: Duration = Duration::from_secs(2);

/// Feeds and reads a child that was started with three pipes and in a process group of its own; ends the group when it
/// does not come to its end.
pub(super) async fn run(
    child: &mut Child,
    run: &mut Run<'_>,
    stdin: &[u8],
    feeds: mpsc::UnboundedReceiver<Feed>,
    clock: &Clock,
    cancel: &CancellationToken,
) -> Result<(), NodeError> {
    let ended = watch(child, run, stdin, feeds, clock, cancel).await;
    if ended.is_err() {
        end(child).await;
    }
    ended
}

async fn watch(
    child: &mut Child,
    run: &mut Run<'_>,
    stdin: &[u8],
    feeds: mpsc::UnboundedReceiver<Feed>,
    clock: &Clock,
    cancel: &CancellationToken,
) -> Result<(), NodeError> {
    let piped = || NodeError::Other("a command was started without pipes".to_owned());
    let mut stdout = child.stdout.take().ok_or_else(piped)?;
    let mut stderr = child.stderr.take().ok_or_else(piped)?;
    let feeding = feed_all(child.stdin.take().ok_or_else(piped)?, stdin, feeds, clock);
    tokio::pin!(feeding);
    let (mut out, mut err) = (vec![0; 32 << 10], vec![0; 32 << 10]);
    let (mut out_open, mut err_open, mut fed) = (true, true, false);
    let broken = |e: std::io::Error| NodeError::Other(format!("cannot read what a command prints: {e}"));
    while out_open || err_open || run.status.is_none() {
        tokio::select! {
            count = stdout.read(&mut out), if out_open => {
                let count = count.map_err(broken)?;
                out_open = count > 0;
                run.stdout(&out[..count])?;
            }
            count = stderr.read(&mut err), if err_open => {
                let count = count.map_err(broken)?;
                err_open = count > 0;
                run.stderr(&err[..count])?;
            }
            status = child.wait(), if run.status.is_none() => run.status = Some(code(status.map_err(broken)?)),
            () = &mut feeding, if !fed => {
                fed = true;
                continue;
            }
            () = clock.expired(run.patience(clock.patience)) => {
                // Something that the command left behind holds the pipes open.
                return if run.status.is_some() { Ok(()) } else { Err(run.stalled(clock.patience)) };
            }
            () = cancel.cancelled() => return Err(NodeError::Cancelled),
        }
        clock.touch();
    }
    Ok(())
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(127))
}

/// Ends a command and all that it started, which has [`GRACE`] to end by itself. What runs as root through sudo is out
/// of reach; sudo passes the first signal on.
pub(super) async fn end(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let Some(group) = group else { return };
    for signal in [Signal::TERM, Signal::KILL] {
        // A group whose first process is gone keeps its number as long as anybody is in it.
        let _ = kill_process_group(group, signal);
        let gone = async {
            let _ = child.wait().await;
            while test_kill_process_group(group) != Err(Errno::SRCH) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(GRACE, gone).await.is_ok() {
            return;
        }
    }
}

async fn feed_all(
    mut write: ChildStdin,
    stdin: &[u8],
    mut feeds: mpsc::UnboundedReceiver<Feed>,
    clock: &Clock,
) {
    while let Some(feed) = feeds.recv().await {
        let sent = match feed {
            Feed::Password(line) => write.write_all(&line).await,
            Feed::Eof => return,
            Feed::Input => {
                for chunk in stdin.chunks(64 << 10) {
                    // A command need not read its input.
                    if write.write_all(chunk).await.is_err() {
                        return;
                    }
                    clock.touch();
                }
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}
