//! One command on its own channel.

use std::time::Duration;

use bytes::Bytes;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelWriteHalf, Sig};
use tokio::sync::mpsc;

use super::{Connection, Wire};
use crate::node::command::{Clock, Feed, Run, Wrap, summary};
use crate::node::{CommandOutput, NodeError};

impl Connection {
    pub(super) async fn exec(
        &self,
        wrap: Wrap<'_>,
        script: &str,
        stdin: &[u8],
        patience: Option<Duration>,
    ) -> Result<CommandOutput, NodeError> {
        let what = format!("running `{}` on {}", summary(script), self.address);
        let handle = match &self.wire {
            Wire::Own { handle, .. } => handle,
            Wire::System(master) => {
                let _turn = tokio::select! {
                    turn = self.turn(&what) => turn?,
                    () = self.cancel.cancelled() => return Err(NodeError::Cancelled),
                };
                return master.exec(self, (wrap, script), stdin, patience, what).await;
            }
        };
        let (line, gate) = wrap.line(script)?;
        let opening = self.channel(handle, &what);
        let (channel, _permit) = tokio::select! {
            opened = opening => opened?,
            () = self.cancel.cancelled() => return Err(NodeError::Cancelled),
        };
        let _running = self.command();
        let (mut read, write) = channel.split();
        write.exec(true, line).await.map_err(|_| NodeError::Lost(what.clone()))?;

        let clock = Clock::start(patience.unwrap_or(self.options.patience));
        let (mut run, feeds) = Run::start(gate, self.options.output_limit, what);
        let feeding = feed_all(&write, stdin, feeds, &clock);
        tokio::pin!(feeding);
        let mut fed = false;
        let ended = loop {
            tokio::select! {
                message = read.wait() => match message {
                    None | Some(ChannelMsg::Close) => break Ok(()),
                    Some(message) => {
                        clock.touch();
                        if let Err(e) = take(&mut run, message) {
                            break Err(e);
                        }
                    }
                },
                () = &mut feeding, if !fed => fed = true,
                () = clock.expired(run.patience(clock.patience)) => {
                    if run.status.is_some() {
                        break Ok(());
                    }
                    break Err(run.stalled(clock.patience));
                }
                () = self.cancel.cancelled() => break Err(NodeError::Cancelled),
            }
        };
        if ended.is_err() || run.status.is_some() {
            end(&write, ended.is_err()).await;
        }
        ended?;
        run.finish()
    }
}

fn take(run: &mut Run<'_>, message: ChannelMsg) -> Result<(), NodeError> {
    match message {
        ChannelMsg::Data { data } => run.stdout(&data)?,
        ChannelMsg::ExtendedData { data, ext: 1 } => run.stderr(&data)?,
        ChannelMsg::ExitStatus { exit_status } => {
            run.status = Some(i32::try_from(exit_status).unwrap_or(255));
        }
        ChannelMsg::ExitSignal { signal_name, .. } => run.status = Some(128 + number(&signal_name)),
        ChannelMsg::Failure => return Err(NodeError::Other("the server allows no commands".to_owned())),
        _ => {}
    }
    Ok(())
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
