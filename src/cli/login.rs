//! `omk login` and `omk logout`: a login is tried first, and kept where Docker, Podman and omk look.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::output::{self, OutputFormat, say, warn};
use super::registry::{configuration, default_auth_files, host, plain_by_environment, read_password};
use super::{CliError, Context, Outcome, exit};
use crate::registry::{Credentials, Login, Registry, RegistryOptions, forget, keep};

/// Arguments of `omk login`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pass show registry | omk login registry.lan:5000 -u deploy --password-stdin
  omk login docker.io -u me --password-stdin < token.txt
  omk login registry.lan:5000 -u deploy --password-stdin --plain-http < password.txt
  OMK_REGISTRY_PASSWORD=... omk login registry.lan -u deploy --registry-ca ca.pem

The login is tried at the registry before it is kept: exit code 1 if it is not taken, and nothing is kept then. It goes
into the auth file, readable for its owner only, or into the credential helper that the file names (credHelpers,
credsStore).")]
pub struct LoginArgs {
    /// The registry, as it stands in image names
    #[arg(value_name = "HOST[:PORT]", value_parser = host, required_unless_present = "plain_http")]
    registry: Option<String>,
    /// The user
    #[arg(short, long, value_name = "NAME")]
    username: String,
    /// Read the password or access token from standard input, else from the environment variable OMK_REGISTRY_PASSWORD
    #[arg(long)]
    password_stdin: bool,
    /// Speak plain HTTP to the registry: whoever is between can read the password. Alone it means HOST; what other
    /// commands are given (--plain-http HOST) is taken too
    #[arg(long, value_name = "HOST[:PORT]", num_args = 0..=1, default_missing_value = THIS, value_parser = this_or_host)]
    plain_http: Option<String>,
    /// Trust the certificates in this PEM file beside the system's
    #[arg(long, value_name = "FILE", env = "OMK_REGISTRY_CA", value_delimiter = ',')]
    registry_ca: Vec<PathBuf>,
    /// Read omk's configuration from this file [default: ~/.config/omk/config.yaml, if it is there]
    #[arg(long, value_name = "FILE", env = "OMK_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    at: Where,
}

/// Arguments of `omk logout`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk logout registry.lan:5000
  omk logout docker.io --auth-file ci/auth.json

Exit code 1 if there was no login to forget.")]
pub struct LogoutArgs {
    /// The registry, as it stands in image names
    #[arg(value_name = "HOST[:PORT]", value_parser = host)]
    registry: String,
    #[command(flatten)]
    at: Where,
}

#[derive(Debug, Args)]
struct Where {
    /// Keep the login in this file [default: REGISTRY_AUTH_FILE, else DOCKER_CONFIG/config.json, else
    /// ~/.docker/config.json]
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

impl Where {
    fn file(&self) -> Result<PathBuf, CliError> {
        let defaults = || default_auth_files(|n| std::env::var_os(n).filter(|v| !v.is_empty()));
        self.auth_file.clone().or_else(|| defaults().into_iter().next()).ok_or_else(|| {
            CliError::usage("there is nowhere to keep logins: pass --auth-file FILE or set HOME")
        })
    }
}

#[derive(Serialize)]
struct Report<'a> {
    registry: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    /// The file or helper.
    kept: String,
}

/// What `--plain-http` alone stands for: no host is called so.
const THIS: &str = "";

fn this_or_host(value: &str) -> Result<String, String> {
    if value == THIS { Ok(String::new()) } else { host(value) }
}

impl LoginArgs {
    /// The registry, and whether it speaks plain HTTP by what the command line says. `--plain-http HOST` is what every
    /// other command takes, and what their messages suggest, so HOST need not be said twice.
    fn registry(&self) -> Result<(String, bool), CliError> {
        match (&self.registry, self.plain_http.as_deref().filter(|host| *host != THIS)) {
            (Some(registry), Some(plain)) if registry != plain => Err(CliError::usage(format!(
                "the login is for {registry}, and --plain-http names {plain}: one login is for one registry; leave one out"
            ))),
            (Some(registry), _) => Ok((registry.clone(), self.plain_http.is_some())),
            (None, Some(plain)) => Ok((plain.to_owned(), true)),
            (None, None) => {
                Err(CliError::usage("say which registry the login is for: omk login HOST -u NAME"))
            }
        }
    }
}

pub(super) async fn login(args: LoginArgs, context: Context) -> Outcome {
    let path = args.at.file()?;
    let (name, plain) = args.registry()?;
    let login = Login { user: args.username.clone(), password: read_password(args.password_stdin)? };
    let config = configuration(args.config.as_deref())?;
    let mut plain_http = plain_by_environment()?;
    plain_http.extend(config.plain_http);
    plain_http.extend(plain.then(|| name.clone()));
    let credentials = Credentials::anonymous().with_login(&name, login.clone());
    let ca_files = args.registry_ca.iter().chain(&config.ca_files).cloned().collect();
    let hosts = config.hosts;
    let options = RegistryOptions { plain_http, ca_files, credentials, hosts, ..RegistryOptions::default() };
    let registry = Registry::new(options)?;
    let asked = registry.check_login(&name, &context.events, &context.cancel).await?;
    if !asked {
        warn(&format!(
            "warning: {name} lets everybody in and did not look at the login; it is kept all the same"
        ));
    }
    let kept = keep(&path, &name, &login).await?;
    match args.at.output {
        OutputFormat::Json => {
            output::json(&Report {
                registry: &name,
                username: Some(&args.username),
                kept: kept.to_string(),
            })?;
        }
        OutputFormat::Table => {
            say(&format!("{name}: logged in as {}; kept in {kept}", args.username));
        }
    }
    Ok(exit::OK)
}

pub(super) async fn logout(args: LogoutArgs) -> Outcome {
    let path = args.at.file()?;
    let Some(kept) = forget(&path, &args.registry).await? else {
        let message = format!("there is no login for {} in {}", args.registry, path.display());
        return Err(CliError::failed(message).with_hint("another file is named with --auth-file"));
    };
    match args.at.output {
        OutputFormat::Json => {
            output::json(&Report { registry: &args.registry, username: None, kept: kept.to_string() })?;
        }
        OutputFormat::Table => say(&format!("{}: logged out; forgotten in {kept}", args.registry)),
    }
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Probe {
        #[command(flatten)]
        login: LoginArgs,
    }

    fn registry(args: &[&str]) -> Result<(String, bool), String> {
        let all = ["omk", "-u", "me"].iter().chain(args);
        let probe = Probe::try_parse_from(all).map_err(|e| e.to_string())?;
        probe.login.registry().map_err(|e| format!("{e:?}"))
    }

    #[test]
    fn plain_http_is_taken_alone_and_with_the_host() {
        let plain = || Ok(("r.lan:5000".to_owned(), true));
        assert_eq!(registry(&["r.lan:5000"]), Ok(("r.lan:5000".to_owned(), false)));
        assert_eq!(registry(&["r.lan:5000", "--plain-http"]), plain());
        assert_eq!(registry(&["r.lan:5000", "--plain-http", "r.lan:5000"]), plain());
        assert_eq!(registry(&["--plain-http", "r.lan:5000"]), plain());
        assert_eq!(registry(&["--plain-http=r.lan:5000"]), plain());
        assert!(registry(&["r.lan:5000", "--plain-http", "s.lan"]).unwrap_err().contains("one registry"));
        assert!(registry(&["--plain-http"]).unwrap_err().contains("which registry"));
        assert!(registry(&["r.lan", "--plain-http", "http://r.lan"]).unwrap_err().contains("HOST:PORT"));
        assert!(registry(&[]).is_err());
    }
}
