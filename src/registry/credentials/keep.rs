//! Keeping a login where Docker, Podman and omk find it again.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Login, canonical, file, helper, read};
use crate::registry::RegistryError;

/// Where a login is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the auth file itself, readable for its owner only.
    File(PathBuf),
    /// By a credential helper of this name, as the auth file says.
    Helper(String),
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Helper(name) => write!(f, "docker-credential-{name}"),
        }
    }
}

fn failure(registry: &str, path: &Path) -> impl Fn(String) -> RegistryError {
    let (registry, path) = (registry.to_owned(), path.display().to_string());
    move |reason| RegistryError::Credentials {
        registry: registry.clone(),
        reason: format!("{path}: {reason}"),
    }
}

/// Keeps a login in an auth file, or in the helper that this file names for the registry. Whatever else is in the
/// file stays; it is replaced whole or not at all and is readable for its owner only.
///
/// # Errors
/// [`RegistryError::Credentials`] when file or helper cannot be read or written.
pub async fn keep(path: &Path, registry: &str, login: &Login) -> Result<Kept, RegistryError> {
    let registry = canonical(registry);
    let fail = failure(&registry, path);
    let bytes = read(path).await.map_err(|e| fail(e.to_string()))?;
    let (mut all, name) = opened(bytes.as_deref(), &registry).map_err(&fail)?;
    let entry = match &name {
        Some(name) => {
            helper::store(name, &registry, login).await.map_err(&fail)?;
            // Docker leaves an empty entry: a list of where somebody is logged in.
            json!({})
        }
        None if login.is_identity() => json!({"identitytoken": login.password.expose()}),
        None => json!({"auth": login.pair()}),
    };
    let auths = auths(&mut all).map_err(|r| fail(r.to_owned()))?;
    auths.retain(|key, _| canonical(key) != registry);
    auths.insert(helper::server(&registry).to_owned(), entry);
    let (target, text) = (path.to_owned(), pretty(&all));
    written(target, text).await.map_err(&fail)?;
    Ok(name.map_or_else(|| Kept::File(path.to_owned()), Kept::Helper))
}

/// Forgets the login for a registry; nothing where there was none.
///
/// # Errors
/// [`RegistryError::Credentials`] when file or helper cannot be read or written.
pub async fn forget(path: &Path, registry: &str) -> Result<Option<Kept>, RegistryError> {
    let registry = canonical(registry);
    let fail = failure(&registry, path);
    let Some(bytes) = read(path).await.map_err(|e| fail(e.to_string()))? else { return Ok(None) };
    let (mut all, name) = opened(Some(&bytes), &registry).map_err(&fail)?;
    let erased = match &name {
        Some(name) => helper::erase(name, &registry).await.map_err(&fail)?,
        None => false,
    };
    let auths = auths(&mut all).map_err(|r| fail(r.to_owned()))?;
    let before = auths.len();
    auths.retain(|key, _| canonical(key) != registry);
    if auths.len() != before {
        let (target, text) = (path.to_owned(), pretty(&all));
        written(target, text).await.map_err(&fail)?;
    } else if !erased {
        return Ok(None);
    }
    Ok(Some(name.map_or_else(|| Kept::File(path.to_owned()), Kept::Helper)))
}

/// The file as it is, and the helper for the registry.
fn opened(bytes: Option<&[u8]>, registry: &str) -> Result<(Map<String, Value>, Option<String>), String> {
    let Some(bytes) = bytes.filter(|b| !b.trim_ascii().is_empty()) else { return Ok((Map::new(), None)) };
    let name = file::helper_of(bytes, registry)?;
    let all = serde_json::from_slice(bytes).map_err(|_| "it is no JSON object".to_owned())?;
    Ok((all, name))
}

fn auths(all: &mut Map<String, Value>) -> Result<&mut Map<String, Value>, &'static str> {
    let slot = all.entry("auths").or_insert_with(|| json!({}));
    slot.as_object_mut().ok_or("its field auths is no object")
}

fn pretty(all: &Map<String, Value>) -> String {
    let text = serde_json::to_string_pretty(all).unwrap_or_default();
    text + "\n"
}

async fn written(path: PathBuf, text: String) -> Result<(), String> {
    let work = move || -> std::io::Result<()> {
        use std::io::Write as _;
        // Behind a link lies the file that others read too.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let folder = crate::store::parent(&path);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut staged = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o600))
            .tempfile_in(folder)?;
        staged.write_all(text.as_bytes())?;
        staged.as_file().sync_all()?;
        staged.persist(&path).map_err(|e| e.error)?;
        std::fs::File::open(folder)?.sync_all()
    };
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| "writing broke off".to_owned())?;
    done.map_err(|e| format!("cannot be written: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Credentials, Secret};

    fn login() -> Login {
        Login { user: "me".to_owned(), password: Secret::new("p:w") }
    }

    #[tokio::test]
    async fn what_is_kept_is_found_and_forgotten_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.json");
        assert_eq!(keep(&path, "docker.io", &login()).await.unwrap(), Kept::File(path.clone()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert!(file["auths"]["https://index.docker.io/v1/"]["auth"].is_string(), "{file}");
        file["psFormat"] = "x".into();
        std::fs::write(&path, file.to_string()).unwrap();
        keep(&path, "a.io:5000", &Login::identity(Secret::new("t"))).await.unwrap();
        let held = Credentials::anonymous().with_file(&path);
        assert_eq!(held.find("docker.io", "x").await.unwrap(), Some(login()));
        assert!(held.find("a.io:5000", "x").await.unwrap().unwrap().is_identity());

        assert!(forget(&path, "index.docker.io").await.unwrap().is_some());
        assert_eq!(forget(&path, "docker.io").await.unwrap(), None);
        let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((file["psFormat"].as_str(), file["auths"].as_object().unwrap().len()), (Some("x"), 1));
        let names: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left beside it");
    }

    #[tokio::test]
    async fn a_broken_file_is_not_overwritten() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for bad in ["{\"auths\": [1]}", "nope", "[]"] {
            std::fs::write(&file, bad).unwrap();
            assert!(keep(file.path(), "a.io", &login()).await.is_err(), "{bad}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), bad);
        }
    }
}
