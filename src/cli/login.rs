//! `omk login` and `omk logout`: a login is tried first, and kept where Docker, Podman and omk look.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::output::{self, OutputFormat, say, warn};
use super::registry::{default_auth_files, host, read_password};
use super::{CliError, Context, Outcome, exit};
use crate::registry::{Credentials, Login, Registry, RegistryOptions, forget, keep};

/// Arguments of `omk login`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pass show registry | omk login registry.lan:5000 -u deploy --password-stdin
  omk login docker.io -u me --password-stdin < token.txt
  OMK_REGISTRY_PASSWORD=... omk login registry.lan -u deploy --registry-ca ca.pem

The login is tried at the registry before it is kept: exit code 1 if it is not taken, and nothing is kept then. It goes
into the auth file, readable for its owner only, or into the credential helper that the file names (credHelpers,
credsStore).")]
pub struct LoginArgs {
    /// The registry, as it stands in image names
    #[arg(value_name = "HOST[:PORT]", value_parser = host)]
    registry: String,
    /// The user
    #[arg(short, long, value_name = "NAME")]
    username: String,
    /// Read the password or access token from standard input, else from the environment variable OMK_REGISTRY_PASSWORD
    #[arg(long)]
    password_stdin: bool,
    /// Speak plain HTTP to the registry: whoever is between can read the password
    #[arg(long)]
    plain_http: bool,
    /// Trust the certificates in this PEM file beside the system's
    #[arg(long, value_name = "FILE", env = "OMK_REGISTRY_CA", value_delimiter = ',')]
    registry_ca: Vec<PathBuf>,
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

pub(super) async fn login(args: LoginArgs, context: Context) -> Outcome {
    let path = args.at.file()?;
    let login = Login { user: args.username.clone(), password: read_password(args.password_stdin)? };
    let plain_http = if args.plain_http { vec![args.registry.clone()] } else { Vec::new() };
    let credentials = Credentials::anonymous().with_login(&args.registry, login.clone());
    let ca_files = args.registry_ca.clone();
    let options = RegistryOptions { plain_http, ca_files, credentials, ..RegistryOptions::default() };
    let registry = Registry::new(options)?;
    let asked = registry.check_login(&args.registry, &context.events, &context.cancel).await?;
    if !asked {
        warn(&format!(
            "warning: {} lets everybody in and did not look at the login; it is kept all the same",
            args.registry
        ));
    }
    let kept = keep(&path, &args.registry, &login).await?;
    match args.at.output {
        OutputFormat::Json => output::json(&Report {
            registry: &args.registry,
            username: Some(&args.username),
            kept: kept.to_string(),
        })?,
        OutputFormat::Table => {
            say(&format!("{}: logged in as {}; kept in {kept}", args.registry, args.username));
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
