//! Where a login comes from: given by the user, or read from the files and helpers that Docker and Podman keep.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::RegistryError;

/// The largest auth file or helper answer that is read.
const MAX_BYTES: u64 = 1024 * 1024;
const HELPER_PATIENCE: Duration = Duration::from_secs(30);

/// Text that is never shown: `Debug` prints a placeholder and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes it in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A user of one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password or access token.
    pub password: Secret,
}

impl Login {
    /// The value of an `Authorization` header.
    pub(super) fn basic(&self) -> Secret {
        let pair = format!("{}:{}", self.user, self.password.expose());
        Secret(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
    }
}

/// Logins by registry. A login is only ever used for the registry that it was given or stored for: there is none
/// that goes to whoever asks.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    logins: BTreeMap<String, Login>,
    files: Vec<PathBuf>,
}

impl Credentials {
    /// Nobody is logged in anywhere.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// A login for one registry (`HOST[:PORT]`, `docker.io` for Docker Hub); goes before what files say.
    #[must_use]
    pub fn with_login(mut self, registry: &str, login: Login) -> Self {
        self.logins.insert(canonical(registry), login);
        self
    }

    /// A file in the format of Docker's `config.json` or Podman's `auth.json`. Read when a registry asks for a
    /// login; a file that is not there is no error. The first file with an entry for the registry counts.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// The login for an image, if there is one.
    ///
    /// # Errors
    /// When a file or helper that is responsible for the registry cannot be used; never contains the secret.
    pub async fn find(&self, registry: &str, repository: &str) -> Result<Option<Login>, RegistryError> {
        let registry = canonical(registry);
        if let Some(login) = self.logins.get(&registry) {
            return Ok(Some(login.clone()));
        }
        for path in &self.files {
            let fail = |reason: String| RegistryError::Credentials { registry: registry.clone(), reason };
            let Some(bytes) = read(path).await.map_err(|e| fail(format!("{}: {e}", path.display())))? else {
                continue;
            };
            let found = look_up(&bytes, &registry, repository)
                .map_err(|reason| fail(format!("{}: {reason}", path.display())))?;
            match found {
                Found::Nothing => {}
                Found::Login(login) => return Ok(Some(login)),
                Found::Helper(name) => {
                    if let Some(login) = ask_helper(&name, &registry).await.map_err(fail)? {
                        return Ok(Some(login));
                    }
                }
            }
        }
        Ok(None)
    }
}

/// One name for a registry, however it is spelled: Docker Hub alone has four.
pub(super) fn canonical(registry: &str) -> String {
    let bare =
        registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
    let bare = bare.trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    let lower = bare.to_ascii_lowercase();
    match lower.as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_owned(),
        _ => lower,
    }
}

async fn read(path: &Path) -> Result<Option<Vec<u8>>, std::io::Error> {
    let file = match tokio::fs::File::open(path).await {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other("larger than the 1 MiB that are read"));
    }
    Ok(Some(bytes))
}

#[derive(Debug, PartialEq)]
enum Found {
    Nothing,
    Login(Login),
    Helper(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

/// What a file says about a registry. Podman's files may have entries for a part of the repository's path: the
/// longest one counts (containers-auth.json(5)).
fn look_up(bytes: &[u8], registry: &str, repository: &str) -> Result<Found, String> {
    // serde's own message quotes the value that it stumbles upon, which may be a secret.
    let file: AuthFile = serde_json::from_slice(bytes)
        .map_err(|e| format!("not a valid auth file (line {}, column {})", e.line(), e.column()))?;
    let helper = file.cred_helpers.iter().find(|(key, _)| canonical(key) == registry);
    if let Some((_, name)) = helper {
        return Ok(Found::Helper(name.clone()));
    }
    let full = format!("{registry}/{repository}");
    let covers = |key: &str| {
        full.strip_prefix(key)
            .is_some_and(|rest| rest.starts_with('/') || rest.is_empty())
            .then_some(key.len())
    };
    let entry = file
        .auths
        .iter()
        .filter_map(|(key, entry)| Some((covers(&canonical(key))?, entry)))
        .max_by_key(|(length, _)| *length);
    if let Some((_, entry)) = entry
        && let Some(login) = entry.login()?
    {
        return Ok(Found::Login(login));
    }
    Ok(file.creds_store.filter(|name| !name.is_empty()).map_or(Found::Nothing, Found::Helper))
}

impl Entry {
    fn login(&self) -> Result<Option<Login>, String> {
        if !self.identitytoken.is_empty() {
            return Err(NO_IDENTITY.to_owned());
        }
        if !self.username.is_empty() {
            let password = Secret::new(&self.password);
            return Ok(Some(Login { user: self.username.clone(), password }));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let broken = || "the field auth is not base64 of USER:PASSWORD; log in again".to_owned();
        let pair =
            base64::engine::general_purpose::STANDARD.decode(self.auth.trim()).map_err(|_| broken())?;
        let pair = String::from_utf8(pair).map_err(|_| broken())?;
        let (user, password) = pair.split_once(':').ok_or_else(broken)?;
        // Docker has written a zero byte behind the password.
        let password = Secret::new(password.trim_end_matches('\0'));
        Ok(Some(Login { user: user.to_owned(), password }))
    }
}

const NO_IDENTITY: &str =
    "it holds an identity token, which omk does not read; log in with a user name and an access token";

/// The protocol of `docker-credential-*`: the registry on standard input, JSON on standard output.
async fn ask_helper(name: &str, registry: &str) -> Result<Option<Login>, String> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        return Err(format!("{name:?} is no name of a credential helper"));
    }
    ask(&format!("docker-credential-{name}"), registry).await
}

async fn ask(program: &str, registry: &str) -> Result<Option<Login>, String> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Username", default)]
        user: String,
        #[serde(rename = "Secret", default)]
        secret: String,
    }
    let server = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    let run = async {
        let mut child = tokio::process::Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that answers without reading closes its end.
            let _ = stdin.write_all(server.as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_BYTES).read_to_end(&mut answer).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, answer))
    };
    let (status, answer) = match tokio::time::timeout(HELPER_PATIENCE, run).await {
        Err(_) => return Err(format!("{program} gave no answer within {} s", HELPER_PATIENCE.as_secs())),
        Ok(Err(error)) => return Err(format!("cannot run {program}: {error}")),
        Ok(Ok(done)) => done,
    };
    if !status.success() {
        // On failure it prints a message; only this one means that there is no login.
        let text = String::from_utf8_lossy(&answer);
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(format!("{program} failed{}", super::error::said(&text)));
    }
    let answer: Answer =
        serde_json::from_slice(&answer).map_err(|_| format!("{program} printed no valid answer"))?;
    if answer.user == "<token>" {
        return Err(NO_IDENTITY.to_owned());
    }
    Ok(Some(Login { user: answer.user, password: Secret(answer.secret) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn login(user: &str, password: &str) -> Found {
        Found::Login(Login { user: user.to_owned(), password: Secret::new(password) })
    }

    #[test]
    fn docker_and_podman_files_are_read() {
        let file = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "quay.io": {"auth": "cTpwOndpdGg6Y29sb25z"},
            "quay.io/team": {"username": "team", "password": "t"},
            "http://plain:5000": {"username": "p", "password": "w"},
            "empty.io": {}},
            "credHelpers": {"gcr.io": "gcloud"}}"#;
        let at = |registry: &str, repository: &str| look_up(file, registry, repository).unwrap();
        assert_eq!(at("docker.io", "library/nginx"), login("hub", "pw"));
        assert_eq!(at("quay.io", "a/b"), login("q", "p:with:colons"));
        assert_eq!(at("quay.io", "team/b"), login("team", "t"));
        assert_eq!(at("quay.io", "teamwork/b"), login("q", "p:with:colons"));
        assert_eq!(at("plain:5000", "a"), login("p", "w"));
        assert_eq!(at("empty.io", "a"), Found::Nothing);
        assert_eq!(at("gcr.io", "a"), Found::Helper("gcloud".to_owned()));
        assert_eq!(at("other.io", "a"), Found::Nothing);
        let store = br#"{"auths": {"a.io": {}}, "credsStore": "desktop"}"#;
        assert_eq!(look_up(store, "a.io", "x").unwrap(), Found::Helper("desktop".to_owned()));
    }

    #[test]
    fn nothing_secret_is_in_debug_or_errors() {
        let held = Credentials::anonymous()
            .with_login("a.io", Login { user: "u".to_owned(), password: Secret::new("hunter2") });
        assert!(!format!("{held:?}").contains("hunter2"));
        for bad in [
            r#"{"auths": {"a.io": {"auth": ["hunter2"]}}}"#,
            r#"{"auths": {"a.io": "hunter2"}}"#,
            r#"{"auths": {"a.io": {"auth": "hunter2!"}}}"#,
            r#"{"auths": {"a.io": {"identitytoken": "hunter2"}}}"#,
        ] {
            let error = look_up(bad.as_bytes(), "a.io", "x").unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_login_is_for_its_registry_only() {
        let user = Login { user: "u".to_owned(), password: Secret::new("p") };
        let held = Credentials::anonymous().with_login("Index.docker.io", user.clone());
        assert_eq!(held.find("docker.io", "library/x").await.unwrap(), Some(user));
        assert_eq!(held.find("quay.io", "library/x").await.unwrap(), None);
    }

    #[tokio::test]
    async fn helper_names_are_names() {
        for bad in ["", "../x", "a b", "/bin/sh"] {
            assert!(ask_helper(bad, "a.io").await.is_err(), "{bad}");
        }
        let missing = ask_helper("omk-none-such", "a.io").await.unwrap_err();
        assert!(missing.contains("docker-credential-omk-none-such"), "{missing}");
    }

    #[tokio::test]
    async fn helpers_are_asked_by_their_protocol() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let helper = folder.path().join("helper");
        // Written by another process: a file that this one had open for writing may still be open in a child that
        // another test forks, and cannot be executed then.
        let script = r#"#!/bin/sh
read -r server
[ "$1" = get ] || exit 2
case $server in
  https://index.docker.io/v1/) echo '{"ServerURL": "x", "Username": "hub", "Secret": "pw"}' ;;
  token.io) echo '{"Username": "<token>", "Secret": "hunter2"}' ;;
  none.io) echo 'credentials not found in native keychain'; exit 1 ;;
  *) echo 'the keychain is locked'; exit 1 ;;
esac"#;
        let source = folder.path().join("source");
        std::fs::write(&source, script).unwrap();
        std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o700)).unwrap();
        let copied = std::process::Command::new("cp").arg("-p").arg(&source).arg(&helper).status().unwrap();
        assert!(copied.success());
        let program = helper.display().to_string();
        let hub = Login { user: "hub".to_owned(), password: Secret::new("pw") };
        assert_eq!(ask(&program, "docker.io").await, Ok(Some(hub)));
        assert_eq!(ask(&program, "none.io").await, Ok(None));
        let token = ask(&program, "token.io").await.unwrap_err();
        assert!(token.contains("identity token") && !token.contains("hunter2"), "{token}");
        let locked = ask(&program, "other.io").await.unwrap_err();
        assert!(locked.contains("(the keychain is locked)"), "{locked}");
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused(text in "\\PC{0,200}", registry in "[a-z.:/]{0,20}") {
            let _ = look_up(text.as_bytes(), &registry, "a/b");
        }

        #[test]
        fn what_docker_writes_is_read(user in "[^:\\x00]{1,20}", password in "[^\\x00]{0,30}") {
            let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            let file = serde_json::json!({"auths": {"a.io": {"auth": auth}}}).to_string();
            prop_assert_eq!(look_up(file.as_bytes(), "a.io", "x").unwrap(), login(&user, &password));
        }
    }
}
