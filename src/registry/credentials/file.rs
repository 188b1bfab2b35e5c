//! Docker's `config.json` and Podman's `auth.json` (containers-auth.json(5)).

use std::collections::BTreeMap;

use base64::Engine as _;
use serde::Deserialize;

use super::{Login, Secret, canonical};

#[derive(Debug, PartialEq)]
pub(super) enum Found {
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
pub(super) struct Entry {
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
pub(super) fn look_up(bytes: &[u8], registry: &str, repository: &str) -> Result<Found, String> {
    let file = parse(bytes)?;
    let helper = file.cred_helpers.iter().find(|(key, _)| canonical(key) == registry);
    if let Some((_, name)) = helper {
        // Podman turns a helper off by an empty name.
        return Ok(if name.is_empty() { Found::Nothing } else { Found::Helper(name.clone()) });
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

fn parse(bytes: &[u8]) -> Result<AuthFile, String> {
    // serde's own message quotes the value that it stumbles upon, which may be a secret.
    serde_json::from_slice(bytes)
        .map_err(|e| format!("not a valid auth file (line {}, column {})", e.line(), e.column()))
}

/// The helper that keeps the logins of a registry, if one does.
pub(super) fn helper_of(bytes: &[u8], registry: &str) -> Result<Option<String>, String> {
    let file = parse(bytes)?;
    let own = file.cred_helpers.into_iter().find(|(key, _)| canonical(key) == registry).map(|(_, name)| name);
    Ok(own.or(file.creds_store).filter(|name| !name.is_empty()))
}

/// Entries by name of the registry: all that a pull secret has.
pub(super) fn entries(bytes: &[u8], old: bool) -> Result<BTreeMap<String, Entry>, String> {
    if !old {
        return Ok(parse(bytes)?.auths);
    }
    serde_json::from_slice(bytes)
        .map_err(|e| format!("not a valid .dockercfg (line {}, column {})", e.line(), e.column()))
}

impl Entry {
    pub(super) fn login(&self) -> Result<Option<Login>, String> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Login::identity(Secret::new(&self.identitytoken))));
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
