//! A lock that lives as long as the connection.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use russh::ChannelMsg;
use tokio_util::sync::CancellationToken;

use super::{Connection, Wire};
use crate::node::NodeError;
use crate::node::command::Wrap;
use crate::node::hold::{self, Answer, Holder};

impl Connection {
    /// Whether nobody else is at work in the staging folder.
    pub(crate) fn holds(&self) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().is_some_and(|(end, _)| !end.is_cancelled())
    }

    fn keep(&self, end: CancellationToken) {
        let guard = end.clone().drop_guard();
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((end, guard));
    }

    /// See [`crate::node::NodeSession::hold`].
    pub(super) async fn hold(&self, root: &str, holder: &Holder) -> Result<bool, NodeError> {
        if self.holds() {
            return Ok(true);
        }
        let what = format!("locking the staging folder on {}", self.address);
        let (line, _) = Wrap::User.line(&hold::script(root, holder, true))?;
        let handle = match &self.wire {
            Wire::Own { handle, .. } => handle,
            Wire::System(master) => {
                let permit = self.turn(&what).await?;
                let Some(end) = master.hold(self, &line, &what, permit).await? else { return Ok(false) };
                self.keep(end);
                return Ok(true);
            }
        };
        let (channel, permit) = self.channel(handle, &what).await?;
        let (mut read, write) = channel.split();
        write.exec(true, line).await.map_err(|_| NodeError::Lost(what.clone()))?;
        let (mut said, mut complaint) = (Vec::new(), Vec::new());
        let asking = async {
            loop {
                match read.wait().await {
                    Some(ChannelMsg::Data { data }) => {
                        said.extend_from_slice(&data);
                        if let Some(answer) = Answer::read(&said)? {
                            return Ok(answer);
                        }
                    }
                    Some(ChannelMsg::ExtendedData { data, .. }) if complaint.len() < 4096 => {
                        complaint.extend_from_slice(&data);
                    }
                    None | Some(ChannelMsg::Close) => {
                        let complaint = hold::clean(&String::from_utf8_lossy(&complaint));
                        return Err(NodeError::Other(format!("{what} failed: {complaint}")));
                    }
                    _ => {}
                }
            }
        };
        let answer = tokio::select! {
            answer = tokio::time::timeout(self.options.patience, asking) => answer.map_err(|_| {
                NodeError::Stalled { what: what.clone(), seconds: self.options.patience.as_secs() }
            })??,
            () = self.cancel.cancelled() => return Err(NodeError::Cancelled),
        };
        if !answer.accept()? {
            return Ok(false);
        }
        let end = CancellationToken::new();
        self.keep(end.clone());
        // Holds nothing of the connection but its channel: it must not keep it alive.
        tokio::spawn(async move {
            let _permit = permit;
            let mut beat = tokio::time::interval(Duration::from_secs(hold::BEAT));
            let living = async {
                loop {
                    tokio::select! {
                        _ = beat.tick() => if write.data_bytes(Bytes::from_static(b".")).await.is_err() { return },
                        message = read.wait() => if matches!(message, None | Some(ChannelMsg::Close)) { return },
                    }
                }
            };
            // The command that held the lock may end before the connection does: killed, or by a node that heard nothing.
            tokio::select! { () = living => end.cancel(), () = end.cancelled() => {} }
            let _ = tokio::time::timeout(Duration::from_secs(1), write.close()).await;
        });
        Ok(true)
    }
}
