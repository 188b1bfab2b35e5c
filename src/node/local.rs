//! This machine as a node: a single-node cluster, or a node that SSH does not reach and omk was carried to.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::command::{Clock, Run, Wrap, summary};
use super::hold::{self, Answer};
use super::{
    CommandOutput, Holder, NodeError, NodeSession, RemoteCommand, Secret, check_remote_path, process, quote,
};
use crate::store::{BlobStore, FolderStore, StoreError};

/// Commands and files of this machine.
#[derive(Debug, Clone)]
pub struct LocalSession {
    sudo_password: Option<Secret>,
    patience: Duration,
    output_limit: usize,
    cancel: CancellationToken,
    uid: u32,
    gid: u32,
    /// The command that holds the staging folder; ends with its input.
    held: Arc<Mutex<Option<Child>>>,
}

impl LocalSession {
    /// `cancel` ends everything that runs in the session.
    ///
    /// # Errors
    /// When this process cannot be asked for its user.
    pub fn open(cancel: &CancellationToken) -> Result<Self, NodeError> {
        use std::os::unix::fs::MetadataExt as _;

        let own = std::fs::metadata("/proc/self")
            .map_err(|e| NodeError::Other(format!("cannot tell who runs this process: {e}")))?;
        Ok(Self {
            sudo_password: None,
            patience: Duration::from_secs(300),
            output_limit: 64 << 20,
            cancel: cancel.clone(),
            uid: own.uid(),
            gid: own.gid(),
            held: Arc::default(),
        })
    }

    /// For `sudo`, where this process is not root's and sudo asks.
    #[must_use]
    pub fn with_sudo_password(mut self, password: Option<Secret>) -> Self {
        self.sudo_password = password;
        self
    }

    async fn exec(
        &self,
        wrap: Wrap<'_>,
        script: &str,
        stdin: &[u8],
        patience: Option<Duration>,
    ) -> Result<CommandOutput, NodeError> {
        let what = format!("running `{}` on this machine", summary(script));
        let (line, gate) = wrap.line(script)?;
        let started = shell(line).stderr(Stdio::piped()).spawn();
        let mut child = started.map_err(|e| NodeError::Other(format!("cannot start sh: {e}")))?;
        let clock = Clock::start(patience.unwrap_or(self.patience));
        let (mut run, feeds) = Run::start(gate, self.output_limit, what);
        process::run(&mut child, &mut run, stdin, feeds, &clock, &self.cancel).await?;
        run.finish()
    }
}

/// Input and output are pipes; where errors go is the caller's choice.
fn shell(line: String) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(line).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
    // Its own group, so that all of it can be ended, and so that Ctrl-C reaches omk alone.
    command.process_group(0).kill_on_drop(true);
    command
}

#[async_trait]
impl NodeSession for LocalSession {
    async fn run(&self, command: &RemoteCommand) -> Result<CommandOutput, NodeError> {
        let wrap = match &self.sudo_password {
            _ if !command.root || self.uid == 0 => Wrap::User,
            None => Wrap::Sudo,
            Some(password) => Wrap::SudoWith(password),
        };
        self.exec(wrap, &command.script, &command.stdin, command.patience).await
    }

    async fn staging(&self, path: &str) -> Result<Box<dyn BlobStore>, NodeError> {
        check_remote_path(path).map_err(|e| NodeError::Other(format!("staging folder: {e}")))?;
        super::sftp::prepare_folder(self, path, self.uid, self.gid, "this machine").await?;
        Ok(Box::new(FolderStore::new(path)))
    }

    async fn hold(&self, staging: &str, holder: &Holder) -> Result<bool, NodeError> {
        // The command that holds the lock may have been killed.
        let living = |child: &mut Child| matches!(child.try_wait(), Ok(None));
        if self.held.lock().unwrap_or_else(PoisonError::into_inner).as_mut().is_some_and(living) {
            return Ok(true);
        }
        let (line, _) = Wrap::User.line(&hold::script(staging, holder, false))?;
        let failed = |e: &dyn std::fmt::Display| NodeError::Other(format!("cannot lock {staging}: {e}"));
        let mut child = shell(line).stderr(Stdio::null()).spawn().map_err(|e| failed(&e))?;
        let mut stdout = child.stdout.take().ok_or_else(|| failed(&"no pipe"))?;
        let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
        let asking = async {
            loop {
                let count = stdout.read(&mut buffer).await.map_err(|e| failed(&e))?;
                said.extend_from_slice(&buffer[..count]);
                match Answer::read(&said)? {
                    Some(answer) => return Ok(answer),
                    None if count == 0 => return Err(failed(&"the command said nothing")),
                    None => {}
                }
            }
        };
        let answer =
            tokio::time::timeout(self.patience, asking).await.map_err(|_| failed(&"no answer"))??;
        let held = answer.accept()?;
        if held {
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        }
        Ok(held)
    }

    /// A command does the writing: it has the same rights as those that will read the file.
    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), NodeError> {
        check_remote_path(path).map_err(NodeError::Other)?;
        let staged = quote(&format!("{path}.{:016x}.tmp", fastrand::u64(..)));
        let mut command = RemoteCommand::user(format!(
            "umask 077\ncat >{staged} && {{ sync {staged} 2>/dev/null || sync; }} && mv -f {staged} {path} \
             || {{ rm -f {staged}; exit 1; }}",
            path = quote(path)
        ));
        command.stdin = bytes.to_vec();
        let output = self.run(&command).await?;
        if output.ok() {
            return Ok(());
        }
        Err(StoreError::Remote(format!("cannot write {path}: {}", output.complaint())).into())
    }

    async fn close(&self) {
        let holding = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = holding {
            drop(child.stdin.take());
            let _ = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> LocalSession {
        LocalSession::open(&CancellationToken::new()).unwrap()
    }

    #[tokio::test]
    async fn output_status_and_input_are_passed() {
        let mut command = RemoteCommand::user("cat; echo oops >&2; exit 3");
        command.stdin = vec![b'x'; 1 << 20];
        let output = session().run(&command).await.unwrap();
        assert_eq!((output.status, output.stdout.len(), output.complaint().as_str()), (3, 1 << 20, "oops"));
        let killed = session().run(&RemoteCommand::user("kill -9 $$")).await.unwrap();
        assert_eq!(killed.status, 137);
    }

    #[tokio::test]
    async fn silence_and_cancellation_end_a_command() {
        let mut command = RemoteCommand::user("sleep 100");
        command.patience = Some(Duration::from_millis(20));
        assert!(matches!(session().run(&command).await, Err(NodeError::Stalled { .. })));
        let stop = CancellationToken::new();
        let session = LocalSession::open(&stop).unwrap();
        stop.cancel();
        let ended = session.run(&RemoteCommand::user("sleep 100")).await;
        assert!(matches!(ended, Err(NodeError::Cancelled)), "{ended:?}");
    }

    #[tokio::test]
    async fn files_and_staging_are_private() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let staging = dir.path().join("a/staging");
        session().staging(staging.to_str().unwrap()).await.unwrap();
        assert_eq!(std::fs::metadata(&staging).unwrap().permissions().mode() & 0o777, 0o700);
        let file = staging.join("f");
        session().write_file(file.to_str().unwrap(), b"text").await.unwrap();
        assert_eq!(std::fs::read(file).unwrap(), b"text");
    }
}
