//! Options of every command that talks to registries.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;

use super::CliError;
use crate::registry::{Credentials, Login, RegistryOptions, Secret};

/// The longest password that is read; access tokens have some kilobytes at most.
const MAX_PASSWORD: u64 = 64 * 1024;
/// Holds the password where standard input is needed for something else.
const PASSWORD_ENV: &str = "OMK_REGISTRY_PASSWORD";

/// How registries are reached and who is logged in.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Registry options")]
pub struct RegistryArgs {
    /// Speak plain HTTP to this registry; may be given more than once
    #[arg(long, value_name = "HOST[:PORT]", env = "OMK_PLAIN_HTTP", value_delimiter = ',', value_parser = host)]
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
}

/// `HOST` or `HOST:PORT`, as it stands in image names.
fn host(value: &str) -> Result<String, String> {
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
        let mut credentials = Credentials::anonymous();
        if let (Some(user), Some(registry)) = (&self.username, &self.registry_host) {
            let login = Login { user: user.clone(), password: self.password()? };
            credentials = credentials.with_login(registry, login);
        }
        match &self.auth_file {
            Some(path) if !path.is_file() => {
                let message = format!("there is no auth file {}; check --auth-file", path.display());
                return Err(CliError::usage(message));
            }
            Some(path) => credentials = credentials.with_file(path),
            None => {
                for path in default_auth_files(|name| std::env::var_os(name).filter(|v| !v.is_empty())) {
                    credentials = credentials.with_file(path);
                }
            }
        }
        let (plain_http, ca_files) = (self.plain_http.clone(), self.registry_ca.clone());
        Ok(RegistryOptions { plain_http, ca_files, credentials, ..RegistryOptions::default() })
    }

    fn password(&self) -> Result<Secret, CliError> {
        read_password(self.password_stdin)
    }
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
