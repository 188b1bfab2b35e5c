//! A session whose commands leave the node to those who work there.

use async_trait::async_trait;

use crate::node::{CommandOutput, Holder, NodeError, NodeSession, RemoteCommand};
use crate::store::BlobStore;

/// Before a script: the least share of processor and disk, for it and all that it starts. A node that lacks the programs runs
/// it as usual. What containerd does for it is done by containerd's own process, which nobody but its owner may hold back.
const LEAST: &str = "renice -n 19 -p $$ >/dev/null 2>&1; ionice -c 3 -p $$ >/dev/null 2>&1\n";

pub(super) struct Gentle(Box<dyn NodeSession>);

impl Gentle {
    pub(super) fn session(session: Box<dyn NodeSession>) -> Box<dyn NodeSession> {
        Box::new(Self(session))
    }
}

#[async_trait]
impl NodeSession for Gentle {
    async fn run(&self, command: &RemoteCommand) -> Result<CommandOutput, NodeError> {
        let script = format!("{LEAST}{}", command.script);
        self.0.run(&RemoteCommand { script, ..command.clone() }).await
    }

    async fn staging(&self, path: &str) -> Result<Box<dyn BlobStore>, NodeError> {
        self.0.staging(path).await
    }

    async fn hold(&self, staging: &str, holder: &Holder) -> Result<bool, NodeError> {
        self.0.hold(staging, holder).await
    }

    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), NodeError> {
        self.0.write_file(path, bytes).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::node::LocalSession;

    #[tokio::test]
    async fn commands_have_the_least_priority() {
        let session = Gentle::session(Box::new(LocalSession::open(&CancellationToken::new()).unwrap()));
        let niceness = session.run(&RemoteCommand::user("sh -c nice")).await.unwrap();
        assert_eq!(niceness.text().trim(), "19", "{}", niceness.complaint());
        let failed = session.run(&RemoteCommand::user("exit 7")).await.unwrap();
        assert_eq!(failed.status, 7);
    }
}
