//! SFTP version 3 on one folder, with the OpenSSH extensions that omk uses.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use russh_sftp::protocol::{
    Attrs, Data, FileAttributes, Handle, Name, OpenFlags, Packet, Status, StatusCode, Version,
};
use russh_sftp::server::StatusReply;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

/// Files that one client may have open.
const MAX_OPEN: usize = 256;

pub(super) struct Files {
    root: PathBuf,
    open: HashMap<String, File>,
    next: u64,
}

impl Files {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, open: HashMap::new(), next: 0 }
    }

    /// A path below the root. Of an existing part of it symbolic links are followed and must not lead out.
    fn path(&self, text: &str) -> Result<PathBuf, StatusReply> {
        let denied = || StatusCode::PermissionDenied.with_message("outside of the served folder");
        let path = self.root.join(text);
        if path.components().any(|c| matches!(c, Component::ParentDir)) {
            return Err(denied());
        }
        let root = self.root.canonicalize().map_err(reply)?;
        let existing = path.ancestors().find(|p| p.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
        // A link that leads nowhere cannot be resolved, and so not be judged.
        let real = existing.canonicalize().map_err(|_| denied())?;
        if real.starts_with(&root) { Ok(path) } else { Err(denied()) }
    }

    fn file(&mut self, handle: &str) -> Result<&mut File, StatusReply> {
        self.open.get_mut(handle).ok_or_else(|| StatusCode::Failure.with_message("no such handle"))
    }
}

fn reply(error: std::io::Error) -> StatusReply {
    let code = match error.kind() {
        ErrorKind::NotFound => StatusCode::NoSuchFile,
        ErrorKind::PermissionDenied => StatusCode::PermissionDenied,
        ErrorKind::UnexpectedEof => StatusCode::Eof,
        _ => StatusCode::Failure,
    };
    code.with_message(error.to_string())
}

fn ok(id: u32) -> Status {
    let (error_message, language_tag) = ("Ok".to_owned(), "en-US".to_owned());
    Status { id, status_code: StatusCode::Ok, error_message, language_tag }
}

/// The strings of an extension's data (SFTP's encoding: length, bytes).
fn strings(mut data: &[u8]) -> Option<Vec<String>> {
    let mut all = Vec::new();
    while !data.is_empty() {
        let (length, rest) = data.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        all.push(String::from_utf8(text.to_vec()).ok()?);
        data = rest;
    }
    Some(all)
}

impl russh_sftp::server::Handler for Files {
    type Error = StatusReply;

    fn unimplemented(&self) -> StatusReply {
        StatusCode::OpUnsupported.into()
    }

    async fn init(&mut self, _: u32, _: HashMap<String, String>) -> Result<Version, StatusReply> {
        let mut version = Version::new();
        for name in ["fsync@openssh.com", "posix-rename@openssh.com"] {
            version.extensions.insert(name.to_owned(), "1".to_owned());
        }
        Ok(version)
    }

    async fn open(
        &mut self,
        id: u32,
        filename: String,
        flags: OpenFlags,
        _: FileAttributes,
    ) -> Result<Handle, StatusReply> {
        let path = self.path(&filename)?;
        if self.open.len() >= MAX_OPEN {
            return Err(StatusCode::Failure.with_message("too many open files"));
        }
        let file = OpenOptions::from(std::fs::OpenOptions::from(flags)).open(path).await.map_err(reply)?;
        self.next += 1;
        let handle = self.next.to_string();
        self.open.insert(handle.clone(), file);
        Ok(Handle { id, handle })
    }

    async fn close(&mut self, id: u32, handle: String) -> Result<Status, StatusReply> {
        self.file(&handle)?.flush().await.map_err(reply)?;
        self.open.remove(&handle);
        Ok(ok(id))
    }

    async fn read(&mut self, id: u32, handle: String, offset: u64, len: u32) -> Result<Data, StatusReply> {
        let file = self.file(&handle)?;
        file.seek(std::io::SeekFrom::Start(offset)).await.map_err(reply)?;
        let mut data = Vec::new();
        file.take(u64::from(len.min(255 << 10))).read_to_end(&mut data).await.map_err(reply)?;
        if data.is_empty() {
            return Err(StatusCode::Eof.into());
        }
        Ok(Data { id, data })
    }

    async fn write(
        &mut self,
        id: u32,
        handle: String,
        offset: u64,
        data: Vec<u8>,
    ) -> Result<Status, StatusReply> {
        let file = self.file(&handle)?;
        file.seek(std::io::SeekFrom::Start(offset)).await.map_err(reply)?;
        file.write_all(&data).await.map_err(reply)?;
        // Tokio writes behind; a client that has the answer must find the bytes.
        file.flush().await.map_err(reply)?;
        Ok(ok(id))
    }

    async fn lstat(&mut self, id: u32, path: String) -> Result<Attrs, StatusReply> {
        self.stat(id, path).await
    }

    async fn stat(&mut self, id: u32, path: String) -> Result<Attrs, StatusReply> {
        let path = self.path(&path)?;
        let metadata = tokio::fs::metadata(path).await.map_err(reply)?;
        Ok(Attrs { id, attrs: FileAttributes::from(&metadata) })
    }

    async fn fstat(&mut self, id: u32, handle: String) -> Result<Attrs, StatusReply> {
        let metadata = self.file(&handle)?.metadata().await.map_err(reply)?;
        Ok(Attrs { id, attrs: FileAttributes::from(&metadata) })
    }

    async fn fsetstat(
        &mut self,
        id: u32,
        handle: String,
        attrs: FileAttributes,
    ) -> Result<Status, StatusReply> {
        if let Some(size) = attrs.size {
            self.file(&handle)?.set_len(size).await.map_err(reply)?;
        }
        Ok(ok(id))
    }

    async fn remove(&mut self, id: u32, filename: String) -> Result<Status, StatusReply> {
        let path = self.path(&filename)?;
        tokio::fs::remove_file(path).await.map_err(reply)?;
        Ok(ok(id))
    }

    async fn mkdir(&mut self, id: u32, path: String, _: FileAttributes) -> Result<Status, StatusReply> {
        let path = self.path(&path)?;
        tokio::fs::create_dir(path).await.map_err(reply)?;
        Ok(ok(id))
    }

    async fn realpath(&mut self, id: u32, path: String) -> Result<Name, StatusReply> {
        let path = self.path(&path)?;
        Ok(Name { id, files: vec![russh_sftp::protocol::File::dummy(path.display().to_string())] })
    }

    /// As OpenSSH: does not replace; `posix-rename@openssh.com` does.
    async fn rename(&mut self, id: u32, oldpath: String, newpath: String) -> Result<Status, StatusReply> {
        let (old, new) = (self.path(&oldpath)?, self.path(&newpath)?);
        tokio::fs::hard_link(&old, new).await.map_err(reply)?;
        tokio::fs::remove_file(old).await.map_err(reply)?;
        Ok(ok(id))
    }

    async fn extended(&mut self, id: u32, request: String, data: Vec<u8>) -> Result<Packet, StatusReply> {
        let arguments = strings(&data).ok_or(StatusCode::BadMessage)?;
        match (request.as_str(), arguments.as_slice()) {
            ("fsync@openssh.com", [handle]) => self.file(handle)?.sync_all().await.map_err(reply)?,
            ("posix-rename@openssh.com", [old, new]) => {
                let (old, new) = (self.path(old)?, self.path(new)?);
                tokio::fs::rename(old, new).await.map_err(reply)?;
            }
            _ => return Err(StatusCode::OpUnsupported.into()),
        }
        Ok(ok(id).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_outside_of_the_folder_are_refused() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(outer.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("..", root.join("up")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("dangling")).unwrap();
        let files = Files::new(root.clone());
        let inside = root.join("new/file").display().to_string();
        assert_eq!(files.path(&inside).unwrap(), root.join("new/file"));
        assert_eq!(files.path("plain").unwrap(), root.join("plain"));
        for bad in ["/etc/passwd", "../secret", "up/secret", "dangling", "a/../../secret"] {
            assert!(files.path(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn extension_data_is_bounded_by_itself() {
        assert_eq!(strings(&[0, 0, 0, 1, b'a', 0, 0, 0, 0]), Some(vec!["a".into(), String::new()]));
        assert_eq!(strings(&[0, 0, 0, 2, b'a']), None);
        assert_eq!(strings(&[255, 255, 255, 255, 1]), None);
        assert_eq!(strings(&[0, 0, 0]), None);
    }
}
