//! Options of every command that talks to registries.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::CliError;
use crate::config::Config;
use crate::oci::Platform;
use crate::registry::{Credentials, Login, Providers, RegistryOptions, Secret};

/// The longest password that is read; access tokens have some kilobytes at most.
const MAX_PASSWORD: u64 = 64 * 1024;
/// Holds the password where standard input is needed for something else.
const PASSWORD_ENV: &str = "OMK_REGISTRY_PASSWORD";
/// Registries that speak plain HTTP.
const PLAIN_ENV: &str = "OMK_PLAIN_HTTP";
/// The content of an auth file, as GitLab's runners hand it over.
const AUTH_ENV: &str = "DOCKER_AUTH_CONFIG";

/// How registries are reached and who is logged in.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Registry options")]
pub struct RegistryArgs {
    /// Speak plain HTTP to this registry; may be given more than once
    #[arg(long, value_name = "HOST[:PORT]", env = PLAIN_ENV, value_delimiter = ',', value_parser = host)]
    plain_http: Vec<String>,
    /// Trust the certificates in this PEM file beside the system's; may be given more than once
    #[arg(long, value_name = "FILE", env = "OMK_REGISTRY_CA", value_delimiter = ',')]
    registry_ca: Vec<PathBuf>,
    /// The registry that --username is for; the login is never sent to another one
    #[arg(long, value_name = "HOST[:PORT]", env = "OMK_REGISTRY_HOST", value_parser = host)]
    registry_host: Option<String>,
    /// Log in to --registry-host with this name; the password comes from --password-stdin or the environment
    /// variable OMK_REGISTRY_PASSWORD
    #[arg(long, value_name = "NAME", env = "OMK_REGISTRY_USERNAME", requires = "registry_host")]
    username: Option<String>,
    /// Read the password for --username from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Read logins from this file, in the format of Docker's config.json [default: REGISTRY_AUTH_FILE, else
    /// DOCKER_CONFIG/config.json, else ~/.docker/config.json]
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
    /// Mirrors and certificates as in containerd's config_path: folders named after registries, with hosts.toml; may be
    /// given more than once
    #[arg(long, value_name = "DIR", env = "OMK_HOSTS_DIR", value_delimiter = ',')]
    hosts_dir: Vec<PathBuf>,
    /// Wait at most this long, all in all for each request, where a registry limits the rate (429) [default: 10m]
    #[arg(long, value_name = "DURATION", env = "OMK_PATIENCE", value_parser = duration)]
    patience: Option<Duration>,
    /// Take layers that their publisher does not want redistributed (Windows' base layers) instead of refusing the image
    #[arg(long)]
    foreign_layers: bool,
    /// Read omk's configuration from this file [default: ~/.config/omk/config.yaml, if it is there]
    #[arg(long, value_name = "FILE", env = "OMK_CONFIG")]
    config: Option<PathBuf>,
    /// Read logins from the pull secrets among these Kubernetes manifests; may be given more than once
    #[arg(long, value_name = "FILE", env = "OMK_PULL_SECRET", value_delimiter = ',')]
    pull_secret: Vec<PathBuf>,
    /// Ask kubelet's credential providers, as this CredentialProviderConfig says
    #[arg(long, value_name = "FILE", requires = "credential_provider_bin_dir")]
    #[arg(env = "OMK_CREDENTIAL_PROVIDER_CONFIG")]
    credential_provider_config: Option<PathBuf>,
    /// Folder with the programs of --credential-provider-config
    #[arg(long, value_name = "DIR", env = "OMK_CREDENTIAL_PROVIDER_BIN_DIR")]
    credential_provider_bin_dir: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::units::duration(text).ok_or_else(|| "expected a duration, for example 90s, 5m or 1h30m".to_owned())
}

/// What `--platform` says; none for `all`.
///
/// # Errors
/// What is no platform.
pub(super) fn platforms(given: &[String]) -> Result<Vec<Platform>, CliError> {
    if given.iter().any(|p| p == "all") {
        return Ok(Vec::new());
    }
    given.iter().map(|p| p.parse().map_err(|e| CliError::usage(format!("--platform: {e}")))).collect()
}

/// `HOST` or `HOST:PORT`, as it stands in image names.
pub(super) fn host(value: &str) -> Result<String, String> {
    let probe = format!("{value}/x");
    match probe.parse::<crate::oci::ImageRef>() {
        Ok(image) if image.registry() == value || value.eq_ignore_ascii_case("index.docker.io") => {
            Ok(value.to_owned())
        }
        _ if !value.contains(['.', ':', '/']) => {
            Err(format!("a registry needs a dot or a port, for example {value}:5000"))
        }
        _ => Err("expected HOST or HOST:PORT, without a scheme or path".to_owned()),
    }
}

impl RegistryArgs {
    /// Reads the password; standard input is touched only when that was asked for.
    ///
    /// # Errors
    /// A user without a password, a file that was named and is not there.
    pub fn options(&self) -> Result<RegistryOptions, CliError> {
        let config = configuration(self.config.as_deref())?;
        let mut credentials = Credentials::anonymous();
        if let (Some(user), Some(registry)) = (&self.username, &self.registry_host) {
            let login = Login { user: user.clone(), password: self.password()? };
            credentials = credentials.with_login(registry, login);
        }
        for path in self.pull_secret.iter().chain(&config.pull_secrets) {
            if !path.is_file() {
                let message =
                    format!("there is no file {}; check --pull-secret and pullSecrets", path.display());
                return Err(CliError::usage(message));
            }
            credentials = credentials.with_pull_secrets(path);
        }
        if self.auth_file.is_none()
            && let Some(text) = std::env::var(AUTH_ENV).ok().filter(|text| !text.trim().is_empty())
        {
            credentials = credentials.with_text(AUTH_ENV, Secret::new(text));
        }
        match self.auth_file.as_ref().or(config.auth_file.as_ref()) {
            Some(path) if !path.is_file() => {
                let message =
                    format!("there is no auth file {}; check --auth-file and authFile", path.display());
                return Err(CliError::usage(message));
            }
            Some(path) => credentials = credentials.with_file(path),
            None => {
                for path in default_auth_files(|name| std::env::var_os(name).filter(|v| !v.is_empty())) {
                    credentials = credentials.with_file(path);
                }
            }
        }
        let providers = self.credential_provider_config.clone().zip(self.credential_provider_bin_dir.clone());
        if let Some((file, folder)) = providers.or(config.providers) {
            credentials = credentials.with_providers(Providers::read(&file, &folder)?);
        }
        let all = |own: &[PathBuf], more: &[PathBuf]| own.iter().chain(more).cloned().collect::<Vec<_>>();
        let mut options = RegistryOptions {
            plain_http: self.plain_http.iter().chain(&config.plain_http).cloned().collect(),
            ca_files: all(&self.registry_ca, &config.ca_files),
            credentials,
            foreign_layers: self.foreign_layers,
            ..RegistryOptions::default()
        };
        options.hosts = config.hosts.with_folders_first(&self.hosts_dir);
        if let Some(patience) = self.patience.or(config.patience) {
            options.retries.patience = patience;
        }
        Ok(options)
    }

    fn password(&self) -> Result<Secret, CliError> {
        read_password(self.password_stdin)
    }
}

/// omk's configuration: the file that is named, else the one at its place, if there is one.
///
/// # Errors
/// When it cannot be used.
pub(super) fn configuration(path: Option<&Path>) -> Result<Config, CliError> {
    if let Some(path) = path {
        return Ok(Config::read(path)?);
    }
    match Config::default_path(|name| std::env::var_os(name).filter(|v| !v.is_empty())) {
        Some(path) if path.is_file() => Ok(Config::read(&path)?),
        _ => Ok(Config::default()),
    }
}

/// The registries of `OMK_PLAIN_HTTP`, for a command whose own option means something else.
///
/// # Errors
/// When one of them is no registry.
pub(super) fn plain_by_environment() -> Result<Vec<String>, CliError> {
    plain_in(&std::env::var(PLAIN_ENV).unwrap_or_default())
}

fn plain_in(all: &str) -> Result<Vec<String>, CliError> {
    let one = |word| host(word).map_err(|why| CliError::usage(format!("{PLAIN_ENV}: {word:?}: {why}")));
    all.split(',').map(str::trim).filter(|h| !h.is_empty()).map(one).collect()
}

/// The password for `--username`, from standard input or the environment.
///
/// # Errors
/// If there is none.
pub(super) fn read_password(stdin: bool) -> Result<Secret, CliError> {
    let text = if stdin {
        let mut text = String::new();
        let read = std::io::stdin().lock().take(MAX_PASSWORD).read_to_string(&mut text);
        read.map_err(|e| CliError::usage(format!("cannot read the password from standard input: {e}")))?;
        // One newline is the one that `echo` and editors add; others could belong to it.
        let text = text.strip_suffix('\n').unwrap_or(&text);
        text.strip_suffix('\r').unwrap_or(text).to_owned()
    } else {
        std::env::var(PASSWORD_ENV).unwrap_or_default()
    };
    if text.is_empty() {
        let message = format!("--username needs a password: pass --password-stdin or set {PASSWORD_ENV}");
        return Err(CliError::usage(message));
    }
    Ok(Secret::new(text))
}

/// The one that Podman and Skopeo are told by, else Docker's.
pub(super) fn default_auth_files(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Vec<PathBuf> {
    if let Some(path) = env("REGISTRY_AUTH_FILE") {
        return vec![path.into()];
    }
    let docker = env("DOCKER_CONFIG").map(PathBuf::from);
    let docker = docker.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".docker")));
    let podman = env("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("containers/auth.json"));
    docker.map(|dir| dir.join("config.json")).into_iter().chain(podman).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Probe {
        #[command(flatten)]
        registry: RegistryArgs,
    }

    fn parse(args: &[&str]) -> Result<Probe, clap::Error> {
        Probe::try_parse_from(std::iter::once("omk").chain(args.iter().copied()))
    }

    #[test]
    fn options_are_taken_over() {
        let probe =
            parse(&["--plain-http", "a:5000", "--plain-http", "b.io", "--registry-ca", "ca.pem"]).unwrap();
        let options = probe.registry.options().unwrap();
        assert_eq!(options.plain_http, ["a:5000", "b.io"]);
        assert_eq!(options.ca_files, [PathBuf::from("ca.pem")]);
    }

    #[test]
    fn a_login_names_its_registry() {
        assert!(parse(&["--username", "me"]).is_err());
        assert!(parse(&["--password-stdin"]).is_err());
        assert!(parse(&["--username", "me", "--registry-host", "a.io"]).is_ok());
        for bad in ["http://a.io", "a.io/x", "a b", ""] {
            assert!(parse(&["--plain-http", bad]).is_err(), "{bad}");
        }
        assert!(parse(&["--plain-http", "localhost"]).is_ok());
    }

    #[test]
    fn registries_of_the_environment_are_checked_like_those_of_the_option() {
        assert_eq!(plain_in(" r.lan, b:5000,").unwrap(), ["r.lan", "b:5000"]);
        let error = plain_in("b:5000,http://r.lan").unwrap_err();
        assert_eq!(error.code(), crate::cli::exit::USAGE);
        let text = format!("{error:?}");
        assert!(text.contains("OMK_PLAIN_HTTP") && text.contains("without a scheme"), "{text}");
    }

    #[test]
    fn auth_files_are_looked_for_where_others_keep_them() {
        let with = |set: &'static [(&str, &str)]| {
            default_auth_files(move |name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
        };
        assert_eq!(with(&[("HOME", "/h")]), [PathBuf::from("/h/.docker/config.json")]);
        assert_eq!(with(&[("HOME", "/h"), ("DOCKER_CONFIG", "/d")]), [PathBuf::from("/d/config.json")]);
        assert_eq!(with(&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/r")]), [PathBuf::from("/r")]);
        assert!(with(&[]).is_empty());
    }
}
