//! Kubelet's credential providers: programs that know logins for some registries, for example those of clouds
//! (`kubelet.config.k8s.io` CredentialProviderConfig, `credentialprovider.kubelet.k8s.io/v1`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::Mutex;

use super::{Login, MAX_BYTES, Secret, covers, helper};
use crate::registry::RegistryError;

const PROTOCOL: &str = "credentialprovider.kubelet.k8s.io/";
/// The longest that an answer is kept, whatever it says.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// As the file has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    kind: String,
    #[serde(default)]
    providers: Vec<Provider>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    name: String,
    match_images: Vec<String>,
    #[serde(default)]
    default_cache_duration: Option<String>,
    api_version: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: String,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.name.fmt(f)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    kind: String,
    api_version: String,
    #[serde(default)]
    cache_key_type: String,
    #[serde(default)]
    cache_duration: Option<String>,
    #[serde(default)]
    auth: Option<BTreeMap<String, Pair>>,
}

#[derive(Clone, Deserialize)]
struct Pair {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

type Logins = BTreeMap<String, Pair>;
type Answers = BTreeMap<(usize, String), (Instant, Arc<Logins>)>;

/// Providers and where their programs are. Clones share what they answered.
#[derive(Clone)]
pub struct Providers {
    all: Arc<Vec<Provider>>,
    folder: PathBuf,
    answers: Arc<Mutex<Answers>>,
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Providers")
            .field("all", &self.all)
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Providers {
    /// Reads what kubelet is given with `--image-credential-provider-config`; `folder` is its
    /// `--image-credential-provider-bin-dir`. Blocks.
    ///
    /// # Errors
    /// [`RegistryError::Credentials`] when the file cannot be used.
    pub fn read(file: &Path, folder: &Path) -> Result<Self, RegistryError> {
        use std::io::Read as _;
        let fail = |reason: String| RegistryError::Credentials {
            registry: "any registry".to_owned(),
            reason: format!("{}: {reason}", file.display()),
        };
        let mut text = String::new();
        let opened = std::fs::File::open(file).map_err(|e| fail(e.to_string()))?;
        opened.take(MAX_BYTES).read_to_string(&mut text).map_err(|e| fail(e.to_string()))?;
        Ok(Self {
            all: Arc::new(parse(&text).map_err(fail)?),
            folder: folder.to_owned(),
            answers: Arc::default(),
        })
    }

    /// Asks the first provider that is for the image, unless its answer is known.
    pub(super) async fn find(&self, registry: &str, repository: &str) -> Result<Option<Login>, String> {
        for (n, provider) in self.all.iter().enumerate() {
            if !provider.match_images.iter().any(|m| covers(m, registry, repository).is_some()) {
                continue;
            }
            let logins = self.logins(n, provider, registry, repository).await?;
            let fit =
                |(key, pair): (&String, &Pair)| Some((covers(key, registry, repository)?, pair.clone()));
            let best = logins.iter().filter_map(fit).max_by_key(|(fit, _)| *fit);
            if let Some((_, pair)) = best {
                return Ok(Some(Login { user: pair.username, password: Secret::new(pair.password) }));
            }
        }
        Ok(None)
    }

    async fn logins(
        &self,
        n: usize,
        provider: &Provider,
        registry: &str,
        repository: &str,
    ) -> Result<Arc<Logins>, String> {
        let image = format!("{registry}/{repository}");
        // What an answer is good for is known when it is there: for this image, the registry, or all.
        let keys = [image.clone(), registry.to_owned(), String::new()];
        let mut answers = self.answers.lock().await;
        answers.retain(|_, (until, _)| *until > Instant::now());
        if let Some((_, logins)) = keys.iter().find_map(|k| answers.get(&(n, k.clone()))) {
            return Ok(Arc::clone(logins));
        }
        let request = serde_json::json!({
            "kind": "CredentialProviderRequest", "apiVersion": provider.api_version, "image": image,
        });
        let name = &provider.name;
        let program = self.folder.join(name);
        let args: Vec<&str> = provider.args.iter().map(String::as_str).collect();
        let env: Vec<_> = provider.env.iter().map(|v| (v.name.clone(), v.value.clone())).collect();
        let said = helper::run(program.as_os_str(), &args, &env, request.to_string().as_bytes()).await?;
        if !said.good {
            return Err(format!("the credential provider {name} failed; run it by hand to see why"));
        }
        let wrong = |what: &str| format!("the credential provider {name} printed {what}");
        let answer: Answer = serde_json::from_slice(&said.text).map_err(|_| wrong("no valid answer"))?;
        if answer.kind != "CredentialProviderResponse" || answer.api_version != provider.api_version {
            return Err(wrong(
                "something other than a CredentialProviderResponse of the version that was asked for",
            ));
        }
        let lifetime = answer.cache_duration.as_deref().or(provider.default_cache_duration.as_deref());
        let lifetime = match lifetime {
            None => Duration::ZERO,
            Some(text) => {
                crate::units::duration(text).ok_or_else(|| wrong("a cacheDuration that is none"))?
            }
        };
        let logins = Arc::new(answer.auth.unwrap_or_default());
        let key = match answer.cache_key_type.as_str() {
            "Image" => keys[0].clone(),
            "Registry" => keys[1].clone(),
            "Global" => keys[2].clone(),
            _ => return Err(wrong("a cacheKeyType that is none of Image, Registry, Global")),
        };
        if lifetime > Duration::ZERO {
            answers.insert((n, key), (Instant::now() + lifetime.min(LONGEST), Arc::clone(&logins)));
        }
        Ok(logins)
    }
}

fn parse(text: &str) -> Result<Vec<Provider>, String> {
    let config: Config = serde_yaml::from_str(text).map_err(|e| {
        let at = e.location().map(|l| format!(" (line {}, column {})", l.line(), l.column()));
        format!("not a valid CredentialProviderConfig{}", at.unwrap_or_default())
    })?;
    if config.kind != "CredentialProviderConfig" {
        return Err(format!("its kind is {:?}, not CredentialProviderConfig", config.kind));
    }
    for provider in &config.providers {
        if !helper::is_name(&provider.name) {
            return Err(format!("{:?} is no name of a program", provider.name));
        }
        if !provider.api_version.starts_with(PROTOCOL) {
            return Err(format!(
                "provider {} speaks {:?}, not {PROTOCOL}v1",
                provider.name, provider.api_version
            ));
        }
        if let Some(text) = &provider.default_cache_duration
            && crate::units::duration(text).is_none()
        {
            return Err(format!("provider {}: {text:?} is no duration such as 12h", provider.name));
        }
    }
    Ok(config.providers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A provider that counts how often it is asked.
    fn providers(folder: &Path, key_type: &str) -> Providers {
        let script = format!(
            r#"#!/bin/sh
read -r request
[ "$1" = --role ] && [ "$ZONE" = eu ] || exit 3
case $request in *'"image":"a.cloud.io/'*) ;; *) exit 4 ;; esac
echo x >> {0}/asked
echo '{{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"{key_type}",
"cacheDuration":"1h","auth":{{"*.cloud.io":{{"username":"u","password":"hunter2"}},"a.cloud.io/team":{{"username":"t","password":"p"}}}}}}'"#,
            folder.display()
        );
        // Written by another process: see the test of helpers.
        std::fs::write(folder.join("source"), script).unwrap();
        std::fs::set_permissions(folder.join("source"), std::fs::Permissions::from_mode(0o700)).unwrap();
        let (from, to) = (folder.join("source"), folder.join("cloud"));
        assert!(std::process::Command::new("cp").arg("-p").arg(from).arg(to).status().unwrap().success());
        let config = folder.join("config.yaml");
        std::fs::write(
            &config,
            "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: cloud\n  matchImages: ['*.cloud.io']\n  \
             defaultCacheDuration: 12h\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n  args: [--role]\n  env: [{name: ZONE, value: eu}]\n",
        )
        .unwrap();
        Providers::read(&config, folder).unwrap()
    }

    #[tokio::test]
    async fn providers_are_asked_as_kubelet_asks_them() {
        for (key_type, times) in [("Registry", 1), ("Image", 3), ("Global", 1)] {
            let folder = tempfile::tempdir().unwrap();
            let all = providers(folder.path(), key_type);
            for (repository, user) in [("x", "u"), ("team/y", "t"), ("z", "u"), ("x", "u")] {
                let login = all.find("a.cloud.io", repository).await.unwrap().unwrap();
                assert_eq!(login.user, user, "{repository}");
            }
            assert_eq!(all.find("other.io", "x").await.unwrap(), None);
            let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
            assert_eq!(asked.lines().count(), times, "{key_type}");
            assert!(!format!("{all:?}").contains("hunter2"));
        }
        let folder = tempfile::tempdir().unwrap();
        let error = providers(folder.path(), "Sometimes").find("a.cloud.io", "x").await.unwrap_err();
        assert!(error.contains("cacheKeyType") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn configs_that_cannot_be_meant_are_refused() {
        let one = |name: &str, version: &str| {
            format!(
                "kind: CredentialProviderConfig\nproviders: [{{name: {name}, matchImages: [], apiVersion: {version}}}]"
            )
        };
        assert!(parse(&one("x", "credentialprovider.kubelet.k8s.io/v1")).is_ok());
        assert!(parse(&one("../x", "credentialprovider.kubelet.k8s.io/v1")).unwrap_err().contains("no name"));
        assert!(parse(&one("x", "v1")).unwrap_err().contains("speaks"));
        assert!(parse("kind: Pod").unwrap_err().contains("Pod"));
        assert!(parse("kind: [").is_err());
    }
}
