//! Where a chart comes from.

use std::path::PathBuf;

use clap::Args;

use crate::chart::fetch::{ChartSource, FetchOptions, Fetcher, default_cache};
use crate::cli::CliError;
use crate::cli::registry::{default_auth_files, read_password};
use crate::registry::{Credentials, Login, RegistryOptions, Secret};

/// Where the chart of `omk chart template` comes from, as Helm names it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options for charts that are fetched")]
pub struct FetchArgs {
    /// Repository that has the chart: where its index.yaml is
    #[arg(long, value_name = "URL")]
    repo: Option<String>,
    /// Version of the chart, or a constraint such as ^1.2; the latest if it is not given
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    version: String,
    /// Take development versions too, as --version '>0.0.0-0' does
    #[arg(long)]
    devel: bool,
    /// Fetch the dependencies that charts/ lacks, as Chart.lock or Chart.yaml says
    #[arg(long)]
    dependency_update: bool,
    /// Fetch nothing: take what was fetched before, and say what is missing
    #[arg(long, env = "OMK_OFFLINE")]
    offline: bool,
    /// Log in at the repository or registry with this name
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Password for --username; other users of the machine can read it, --password-stdin is better
    #[arg(long, value_name = "PASSWORD", requires = "username")]
    password: Option<String>,
    /// Read the password for --username from standard input
    #[arg(long, requires = "username", conflicts_with = "password")]
    password_stdin: bool,
    /// Trust the certificates in this PEM file beside the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Speak plain HTTP to the registry
    #[arg(long)]
    plain_http: bool,
    /// File with logins at registries, as `helm registry login` writes it
    #[arg(long, value_name = "FILE")]
    registry_config: Option<PathBuf>,
}

impl FetchArgs {
    /// Whether the password comes from standard input.
    pub fn reads_stdin(&self) -> bool {
        self.password_stdin
    }

    /// Whether dependencies are to be fetched.
    pub fn dependencies(&self) -> bool {
        self.dependency_update
    }

    /// What `chart` stands for.
    ///
    /// # Errors
    /// What stands for nothing.
    pub fn source(&self, chart: &str) -> Result<ChartSource, CliError> {
        let version = if self.version.is_empty() && self.devel { ">0.0.0-0" } else { &self.version };
        let source = ChartSource::parse(chart, self.repo.as_deref(), version)?;
        if let ChartSource::Path(path) = &source
            && !path.exists()
        {
            let message = format!("path {chart:?} not found");
            let hint = "a chart is a folder, a .tgz, oci://HOST/PATH:VERSION, https://….tgz, or with --repo URL a \
                        name in that repository; names of `helm repo add` are not known to omk";
            return Err(CliError::failed(message).with_hint(hint));
        }
        Ok(source)
    }

    /// What fetches it.
    ///
    /// # Errors
    /// A user without a password, a CA file that cannot be read, nowhere to keep charts.
    pub fn fetcher(&self, source: &ChartSource) -> Result<Fetcher, CliError> {
        let mut credentials = Credentials::anonymous();
        let mut login = None;
        if let Some(user) = &self.username {
            let password = match &self.password {
                Some(password) => Secret::new(password.clone()),
                None => read_password(self.password_stdin)?,
            };
            let given = Login { user: user.clone(), password };
            credentials = credentials.with_login(&source.host(), given.clone());
            login = Some(given);
        }
        for path in self.registry_config.iter().cloned().chain(auth_files()) {
            credentials = credentials.with_file(path);
        }
        let plain_http = if self.plain_http { vec![source.host()] } else { Vec::new() };
        let ca_files = self.ca_file.iter().cloned().collect();
        let registry = RegistryOptions { plain_http, ca_files, credentials, ..RegistryOptions::default() };
        Ok(Fetcher::new(fetch_options(registry, login, self.offline)?)?)
    }
}

/// Docker's logins, then those of `helm registry login`, which are of the same form.
fn auth_files() -> Vec<PathBuf> {
    let env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let helm = env("HELM_REGISTRY_CONFIG").map(PathBuf::from).or_else(|| {
        let config = env("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = config.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".config")))?;
        Some(config.join("helm/registry/config.json"))
    });
    default_auth_files(env).into_iter().chain(helm).collect()
}

/// How charts are fetched by any command.
///
/// # Errors
/// When there is nowhere to keep charts.
pub(in crate::cli) fn fetch_options(
    registry: RegistryOptions,
    login: Option<Login>,
    offline: bool,
) -> Result<FetchOptions, CliError> {
    let env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let cache = default_cache(env).ok_or_else(|| {
        CliError::usage("there is nowhere to keep fetched charts: set OMK_HOME or HOME to a folder")
    })?;
    Ok(FetchOptions { registry, login, cache, offline })
}
