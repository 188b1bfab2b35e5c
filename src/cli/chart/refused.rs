//! Flags of `helm template` that omk takes without doing anything for them, and those that it refuses with a reason.

use clap::Args;

use crate::cli::CliError;

/// Flags that scripts written for Helm may pass. None of them is shown by `--help`; the README lists them.
#[derive(Debug, Clone, Default, Args)]
pub struct HelmArgs {
    // About installing, which rendering is not: taken, without effect, as `helm template` takes them.
    #[arg(long, hide = true)]
    create_namespace: bool,
    #[arg(long, hide = true)]
    description: Option<String>,
    #[arg(long, hide = true)]
    disable_openapi_validation: bool,
    #[arg(long, hide = true)]
    force: bool,
    #[arg(long, hide = true)]
    force_conflicts: bool,
    #[arg(long, hide = true)]
    force_replace: bool,
    #[arg(short, long, hide = true)]
    labels: Vec<String>,
    #[arg(long, hide = true)]
    replace: bool,
    #[arg(long, hide = true)]
    rollback_on_failure: bool,
    #[arg(long, hide = true)]
    atomic: bool,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    server_side: Option<String>,
    #[arg(long, hide = true)]
    take_ownership: bool,
    #[arg(long, hide = true)]
    timeout: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "watcher", require_equals = true)]
    wait: Option<String>,
    #[arg(long, hide = true)]
    wait_for_jobs: bool,
    #[arg(long, hide = true)]
    hide_notes: bool,
    #[arg(long, hide = true)]
    render_subchart_notes: bool,
    #[arg(long, hide = true)]
    skip_crds: bool,
    #[arg(long, hide = true)]
    debug: bool,
    #[command(flatten)]
    everywhere: EverywhereArgs,
    // Refused.
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "unset", require_equals = true)]
    dry_run: Option<String>,
    #[arg(long, hide = true)]
    validate: bool,
    #[arg(long, hide = true)]
    post_renderer: Option<String>,
    #[arg(long, hide = true, allow_hyphen_values = true)]
    post_renderer_args: Vec<String>,
    #[arg(long, hide = true)]
    enable_dns: bool,
    #[arg(long, hide = true)]
    verify: bool,
    #[arg(long, hide = true)]
    keyring: Option<String>,
    #[arg(long, hide = true)]
    insecure_skip_tls_verify: bool,
    #[arg(long, hide = true)]
    pass_credentials: bool,
    #[arg(long, hide = true)]
    cert_file: Option<String>,
    #[arg(long, hide = true)]
    key_file: Option<String>,
}

/// Flags that every command of Helm takes: about a cluster, which rendering does not ask, about colours, and about Helm's own
/// folders, which omk does not use. Taken, without effect, as `helm template` takes most of them.
#[derive(Debug, Clone, Default, Args)]
struct EverywhereArgs {
    #[arg(long, hide = true)]
    burst_limit: Option<String>,
    #[arg(long, hide = true, alias = "colour")]
    color: Option<String>,
    #[arg(long, hide = true)]
    content_cache: Option<String>,
    #[arg(long, hide = true)]
    kube_apiserver: Option<String>,
    #[arg(long, hide = true)]
    kube_as_group: Vec<String>,
    #[arg(long, hide = true)]
    kube_as_user: Option<String>,
    #[arg(long, hide = true)]
    kube_ca_file: Option<String>,
    #[arg(long, hide = true)]
    kube_context: Option<String>,
    #[arg(long, hide = true)]
    kube_insecure_skip_tls_verify: bool,
    #[arg(long, hide = true)]
    kube_tls_server_name: Option<String>,
    #[arg(long, hide = true)]
    kube_token: Option<String>,
    #[arg(long, hide = true)]
    kubeconfig: Option<String>,
    #[arg(long, hide = true)]
    qps: Option<String>,
    #[arg(long, hide = true)]
    repository_cache: Option<String>,
    #[arg(long, hide = true)]
    repository_config: Option<String>,
}

impl HelmArgs {
    /// # Errors
    ///
    /// For the first flag that is refused, with the reason and the way out.
    pub fn check(&self) -> Result<(), CliError> {
        let server = self.dry_run.as_deref() == Some("server");
        let refused = [
            (
                self.validate,
                "--validate",
                "it asks a cluster, and omk never talks to one; pipe the output to `kubectl apply --dry-run=server -f -`",
            ),
            (
                server,
                "--dry-run=server",
                "it asks a cluster, and omk never talks to one; pipe the output to `kubectl apply --dry-run=server -f -`",
            ),
            (
                self.post_renderer.is_some(),
                "--post-renderer",
                "omk runs no foreign programs; pipe the output to it",
            ),
            (
                !self.post_renderer_args.is_empty(),
                "--post-renderer-args",
                "omk runs no foreign programs; pipe the output to it",
            ),
            (
                self.enable_dns,
                "--enable-dns",
                "templates get no network; getHostByName gives an empty text, as helm does without this flag",
            ),
            (
                self.verify,
                "--verify",
                "omk checks digests, not OpenPGP signatures; run `helm verify` on the archive first",
            ),
            (
                self.insecure_skip_tls_verify,
                "--insecure-skip-tls-verify",
                "certificates are always checked; trust the server's authority with --ca-file",
            ),
            (
                self.pass_credentials,
                "--pass-credentials",
                "a login is never sent to another host than the repository's",
            ),
            (
                self.cert_file.is_some() || self.key_file.is_some(),
                "--cert-file and --key-file",
                "client certificates are not supported; log in with --username",
            ),
        ];
        match refused.iter().find(|(given, ..)| *given) {
            Some((_, flag, reason)) => Err(CliError::usage(format!("{flag} is refused: {reason}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _};

    /// The list is what `helm template --help` shows, its own flags and those of every command.
    #[test]
    fn every_flag_of_helm_template_is_known() {
        let mut command = crate::cli::Cli::command();
        command.build();
        let template = command.find_subcommand("chart").and_then(|c| c.find_subcommand("template"));
        let known: Vec<&str> = template
            .into_iter()
            .flat_map(Command::get_arguments)
            .chain(command.get_arguments().filter(|a| a.is_global_set()))
            .flat_map(|a| {
                a.get_long_and_visible_aliases()
                    .into_iter()
                    .flatten()
                    .chain(a.get_all_aliases().into_iter().flatten())
            })
            .collect();
        let flags = include_str!("../../../tests/fixtures/charts/helm-flags.txt");
        let missing: Vec<_> =
            flags.split_whitespace().filter(|f| *f != "help" && !known.contains(f)).collect();
        assert!(flags.split_whitespace().count() > 60 && missing.is_empty(), "{missing:?}");
    }
}
