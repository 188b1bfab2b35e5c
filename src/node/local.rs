//! This machine as a node: the same commands and the same staging, without SSH. For single-node clusters that omk
//! runs on itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::{CommandOutput, NodeError, NodeSession, RemoteCommand, quote};
use crate::store::{BlobStore, FolderStore, StoreError};

/// A command that says nothing for longer is given up, unless it asks for more patience.
const PATIENCE: Duration = Duration::from_secs(300);
/// A command that prints more, in bytes, is an error.
const OUTPUT_LIMIT: usize = 64 << 20;

/// Commands and files on this machine.
#[derive(Debug, Clone)]
pub struct LocalSession {
    root: bool,
    uid: u32,
    cancel: CancellationToken,
}

impl LocalSession {
    /// `cancel` ends everything that runs in the session.
    ///
    /// # Errors
    /// When this process cannot be asked for its user.
    pub fn open(cancel: &CancellationToken) -> Result<Self, NodeError> {
        let own = std::fs::metadata("/proc/self")
            .map_err(|e| NodeError::Other(format!("cannot tell who runs this process: {e}")))?;
        let uid = std::os::unix::fs::MetadataExt::uid(&own);
        Ok(Self { root: uid == 0, uid, cancel: cancel.clone() })
    }
}

#[async_trait]
impl NodeSession for LocalSession {
    async fn run(&self, command: &RemoteCommand) -> Result<CommandOutput, NodeError> {
        let sudo = command.root && !self.root;
        let mut process = if sudo { Command::new("sudo") } else { Command::new("sh") };
        if sudo {
            process.args(["-n", "--", "sh"]);
        }
        process.args(["-c", &command.script]).env("LC_ALL", "C").kill_on_drop(true);
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed =
            |e: std::io::Error| NodeError::Other(format!("cannot run a command on this machine: {e}"));
        let mut child = process.spawn().map_err(failed)?;
        let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(NodeError::Other("cannot talk to a command on this machine".to_owned()));
        };
        let feeding = async move {
            // A command that ends without reading all of it says why itself.
            let _ = stdin.write_all(&command.stdin).await;
        };
        tokio::pin!(feeding);
        let (mut fed, mut out, mut err) = (false, true, true);
        let mut output = CommandOutput::default();
        let patience = command.patience.unwrap_or(PATIENCE);
        while out || err {
            tokio::select! {
                n = stdout.read_buf(&mut output.stdout), if out => out = n.map_err(failed)? > 0,
                n = stderr.read_buf(&mut output.stderr), if err => err = n.map_err(failed)? > 0,
                () = &mut feeding, if !fed => fed = true,
                () = tokio::time::sleep(patience) => {
                    let what = "a command on this machine".to_owned();
                    return Err(NodeError::Stalled { what, seconds: patience.as_secs() });
                }
                () = self.cancel.cancelled() => return Err(NodeError::Cancelled),
            }
            if output.stdout.len() + output.stderr.len() > OUTPUT_LIMIT {
                let text =
                    format!("a command printed more than {OUTPUT_LIMIT} bytes, which none of omk does");
                return Err(NodeError::Other(text));
            }
        }
        let status = child.wait().await.map_err(failed)?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        output.status = status.code().or(signal.map(|s| 128 + s)).unwrap_or(255);
        if sudo && output.complaint().starts_with("sudo: ") && output.stdout.is_empty() {
            let text = format!("{}; run omk as root or allow NOPASSWD", output.complaint());
            return Err(NodeError::Sudo(text));
        }
        Ok(output)
    }

    async fn staging(&self, path: &str) -> Result<Box<dyn BlobStore>, NodeError> {
        super::check_remote_path(path).map_err(NodeError::Other)?;
        let (owner, path) = (self.uid, PathBuf::from(path));
        let made = tokio::task::spawn_blocking({
            let path = path.clone();
            move || make_private(&path)
        });
        if made.await.is_ok_and(|made| made.is_err()) {
            let quoted = quote(&path.to_string_lossy());
            let script = format!("mkdir -p {quoted} && chown {owner} {quoted} && chmod 700 {quoted}");
            let output = self.run(&RemoteCommand::root(script)).await?;
            if !output.ok() {
                let (status, complaint) = (output.status, output.complaint());
                return Err(NodeError::Command {
                    what: "making the staging folder".into(),
                    status,
                    complaint,
                });
            }
        }
        Ok(Box::new(FolderStore::new(path)))
    }

    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), NodeError> {
        super::check_remote_path(path).map_err(NodeError::Other)?;
        let (path, bytes) = (PathBuf::from(path), bytes.to_vec());
        let writing = tokio::task::spawn_blocking(move || {
            use std::io::Write as _;

            let folder = path.parent().unwrap_or(Path::new("/"));
            let io = |action| StoreError::io(action, &path);
            let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io("create"))?;
            file.write_all(&bytes).map_err(io("write"))?;
            file.as_file().sync_all().map_err(io("sync"))?;
            file.persist(&path).map_err(|e| io("rename")(e.error))?;
            Ok(())
        });
        writing.await.map_err(|_| StoreError::Cancelled)?
    }

    async fn close(&self) {}
}

/// Fails where the user may not write, also when the folder is there.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;

    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path.join("blobs"))
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
