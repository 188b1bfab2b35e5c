//! Options of every command that goes to nodes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::ask::Terminal;
use super::{CliError, Context};
use crate::event::Event;
use crate::node::inventory::{Fallback, Labelled, check};
use crate::node::ssh::{Ask, Secrets, SystemSsh};
use crate::node::{Inventory, KnownHosts, Node, Secret, SshConfig, SshOptions, login_name, quote};
use crate::push::{Connector, Nodes, Push, PushOptions, Reached, Target};
use crate::runtime::RuntimeChoice;
use crate::store::MemoryStore;

/// Which nodes, and how they are reached.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Nodes")]
pub struct NodeArgs {
    #[command(flatten)]
    named: Named,
    /// Only these nodes: names, groups, KEY=VALUE for a label; * stands for any characters, !PATTERN takes nodes away
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    limit: Vec<String>,
    /// Login name where the inventory names none
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Private key file where the inventory names none
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Trust the host keys of this file instead of those that `ssh` trusts
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
    /// What happens when no key is recorded for a host: refuse it, or record the key that it presents
    #[arg(long, value_enum, value_name = "HOW", default_value_t = HostKeys::Strict)]
    host_keys: HostKeys,
    /// Read this file instead of ~/.ssh/config and /etc/ssh/ssh_config; `none`: read neither
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// Which SSH is used: omk's own, or this machine's `ssh` program, for Kerberos, FIDO keys and whatever else only it can do.
    /// It reads its configuration itself and is never asked for, nor told, a password or passphrase
    #[arg(long = "ssh", value_enum, value_name = "WHICH", default_value_t = Ssh::Own)]
    ssh: Ssh,
    /// The first line of this file opens private keys that have a passphrase; asked for on a terminal otherwise
    #[arg(long, value_name = "FILE", env = "OMK_SSH_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
    /// The first line of this file is the login password where the inventory has none; asked for on a terminal otherwise
    #[arg(long, value_name = "FILE", env = "OMK_SSH_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
    /// The first line of this file is for sudo where the inventory has no sudo_password
    #[arg(long, value_name = "FILE", env = "OMK_SUDO_PASSWORD_FILE")]
    sudo_password_file: Option<PathBuf>,
    /// Ask once, on the terminal, for the password that sudo wants
    #[arg(long, conflicts_with = "sudo_password_file")]
    ask_sudo_password: bool,
    /// The runtime of nodes for which the inventory names none: auto, containerd, k3s, rke2, microk8s,
    /// canonical-k8s, cri-o, docker, podman or image-folder
    #[arg(long, value_name = "RUNTIME", default_value = "auto")]
    runtime: String,
    /// containerd's namespace; kubelet looks into no other
    #[arg(long, value_name = "NAME", default_value = "k8s.io", value_parser = namespace)]
    pub(super) namespace: String,
    /// Nodes at the same time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) parallel: u16,
}

/// One of the two, or both.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = true)]
struct Named {
    /// The inventory: omk's own, Ansible's (INI or YAML), what `kubectl get nodes -o json` prints, or an ssh_config
    #[arg(long = "nodes", value_name = "FILE")]
    file: Option<PathBuf>,
    /// A node without an inventory, also a host of ~/.ssh/config; may be given more than once; `local` is this machine
    #[arg(long, value_name = "[USER@]HOST[:PORT]")]
    node: Vec<String>,
}

impl NodeArgs {
    /// A message with commands for the same nodes in it, reached in the same way, such that they can be pasted.
    pub(super) fn addressed(&self, message: &str) -> String {
        let quoted = |text: &str| {
            if text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./@:=".contains(&b)) {
                text.to_owned()
            } else {
                quote(text)
            }
        };
        let file = self.named.file.iter().map(|f| format!(" --nodes {}", quoted(&f.display().to_string())));
        let nodes = self.named.node.iter().map(|n| format!(" --node {}", quoted(n)));
        let mut all: String = file.chain(nodes).collect();
        let files = [
            ("identity", &self.identity),
            ("known-hosts", &self.known_hosts),
            ("ssh-config", &self.ssh_config),
            ("passphrase-file", &self.passphrase_file),
            ("password-file", &self.password_file),
            ("sudo-password-file", &self.sudo_password_file),
        ];
        let files =
            files.iter().filter_map(|(name, file)| Some((*name, file.as_ref()?.display().to_string())));
        let runtime = Some(&self.runtime).filter(|r| *r != "auto");
        let namespace = Some(&self.namespace).filter(|n| *n != "k8s.io");
        let words = [("user", self.user.as_ref()), ("runtime", runtime), ("namespace", namespace)];
        let words = words.into_iter().filter_map(|(name, word)| Some((name, word?.clone())));
        for (name, word) in files.chain(words) {
            all += &format!(" --{name} {}", quoted(&word));
        }
        if self.ssh == Ssh::System {
            all += " --ssh system";
        }
        if self.ask_sudo_password {
            all += " --ask-sudo-password";
        }
        // In messages a command stands between backticks.
        let parts = message.split('`').enumerate().map(|(i, part)| {
            let names_nodes = ["omk preheat ", "omk node verify "].iter().any(|c| part.starts_with(c));
            if i % 2 == 1 && names_nodes { format!("{part}{all}") } else { part.to_owned() }
        });
        parts.collect::<Vec<_>>().join("`")
    }
}

/// Hosts of which no key is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HostKeys {
    /// Refuse them
    Strict,
    /// Record the key in known_hosts; a key that changed is refused all the same
    AcceptNew,
}

/// Who speaks SSH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ssh {
    /// omk itself
    Own,
    /// The `ssh` program of this machine
    System,
}

/// containerd's own rule for identifiers.
fn namespace(word: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let good = word.len() <= 76
        && word.bytes().all(plain)
        && edge(word.bytes().next())
        && edge(word.bytes().next_back());
    if good { Ok(word.to_owned()) } else { Err("letters, digits, '.', '-' and '_', at most 76".to_owned()) }
}

/// The nodes of a command, ready to be reached.
pub struct Chosen {
    /// In the order of the inventory.
    pub nodes: Vec<Node>,
    /// What is done on each.
    pub targets: Vec<Target>,
    /// The way to them.
    pub connector: Arc<dyn Connector>,
    /// How each node was reached and logged in to, filled as it happens.
    pub reached: Reached,
}

impl NodeArgs {
    /// The nodes that were asked for.
    ///
    /// # Errors
    /// An inventory that cannot be used, a pattern that fits no node.
    pub fn nodes(&self, context: &Context) -> Result<Vec<Node>, CliError> {
        let fallback = Fallback {
            home: std::env::home_dir(),
            user: self.user.clone(),
            login: login_name(),
            limit: self.limit.clone(),
            login_for_all: self.ssh == Ssh::System,
            identity: self.identity.clone(),
            ssh_config: Some(Arc::new(match self.ssh {
                Ssh::Own => self.ssh_config()?,
                Ssh::System => SshConfig::none(),
            })),
            runtimes: RuntimeChoice::NAMES,
        };
        let mut all =
            Inventory::named(&self.named.node, &fallback).or_else(|e| match self.named.node.is_empty() {
                true => Ok(Inventory::default()),
                false => Err(CliError::usage(e.to_string())),
            })?;
        if let Some(file) = &self.named.file {
            let read = Inventory::load_with(file, &fallback)?;
            read.check_identities(file)?;
            let names = |i: &Inventory| -> BTreeSet<String> {
                let left_out = i.left_out.iter().map(|n| n.name.clone());
                i.nodes.iter().map(|n| n.name.clone()).chain(left_out).collect()
            };
            if let Some(twice) = names(&all).intersection(&names(&read)).next() {
                let message = format!("--node {twice}: the inventory has a node of this name too");
                return Err(CliError::usage(message));
            }
            all.warnings.extend(read.warnings);
            all.nodes.extend(read.nodes);
            all.left_out.extend(read.left_out);
        }
        for message in all.warnings {
            context.events.emit(Event::Warning { message });
        }
        let known: Vec<Labelled> = all.nodes.iter().map(Labelled::from).chain(all.left_out).collect();
        check(&known, &self.limit).map_err(|e| CliError::usage(format!("--limit {e}")))?;
        Ok(all.nodes)
    }

    /// The nodes with the way to them.
    ///
    /// # Errors
    /// As [`NodeArgs::nodes`]; host keys that cannot be read, a runtime that is not known.
    pub fn choose(&self, context: &Context) -> Result<Chosen, CliError> {
        let mut nodes = self.nodes(context)?;
        if let Some(password) = self.sudo_password(context)? {
            for node in &mut nodes {
                node.sudo_password.get_or_insert_with(|| password.clone());
            }
        }
        let known_hosts = match &self.known_hosts {
            Some(file) => {
                // What new keys are recorded in need not be there yet: it is made with the first of them, as by ssh.
                if self.host_keys == HostKeys::AcceptNew {
                    KnownHosts::load_all([file.clone()])?
                } else {
                    let mut known = KnownHosts::new();
                    known.load(file).map_err(|e| no_known_hosts(e.into(), file))?;
                    known
                }
            }
            None => KnownHosts::load_default(std::env::home_dir().as_deref())?,
        };
        for message in known_hosts.warnings.iter().cloned() {
            context.events.emit(Event::Warning { message });
        }
        let usual: RuntimeChoice =
            self.runtime.parse().map_err(|e: crate::runtime::RuntimeError| CliError::usage(e.to_string()))?;
        let targets = nodes.iter().map(|n| target(n, &usual)).collect::<Result<Vec<_>, CliError>>()?;
        let terminal = Terminal::here(&context.cancel).map(|t| Arc::new(t) as Arc<dyn Ask>);
        let (passphrase, password) =
            (secret(self.passphrase_file.as_ref())?, secret(self.password_file.as_ref())?);
        let mut ssh = SshOptions::from_env(Arc::new(known_hosts));
        ssh.only_these_known_hosts = self.known_hosts.is_some();
        ssh.accept_new = self.host_keys == HostKeys::AcceptNew;
        ssh.secrets = Arc::new(Secrets::new(terminal, passphrase, password));
        ssh.system = self.system()?;
        let connector = Nodes::new(&nodes, ssh);
        let reached = connector.reached();
        Ok(Chosen { nodes, targets, connector: Arc::new(connector), reached })
    }

    /// A push of nothing to the nodes, for what is only asked or undone and for others to fill; with the nodes and how
    /// they were reached.
    ///
    /// # Errors
    /// As [`NodeArgs::choose`].
    pub fn push(&self, context: &Context) -> Result<(Push, Vec<Node>, Reached), CliError> {
        let Chosen { nodes, targets, connector, reached } = self.choose(context)?;
        let push = Push {
            bundle: String::new(),
            images: Vec::new(),
            left_out: None,
            source: Arc::new(MemoryStore::new()),
            targets,
            connector,
            options: PushOptions::default(),
            namespace: Some(self.namespace.clone()),
            parallel: usize::from(self.parallel),
            lanes: 4,
            events: context.events.clone(),
            cancel: context.cancel.clone(),
        };
        Ok((push, nodes, reached))
    }

    /// The program that speaks SSH, where it is not omk.
    fn system(&self) -> Result<Option<SystemSsh>, CliError> {
        if self.ssh == Ssh::Own {
            return Ok(None);
        }
        if self.passphrase_file.is_some() || self.password_file.is_some() {
            let text = "--ssh system: ssh is told neither passphrases nor passwords by omk";
            return Err(CliError::usage(text)
                .with_hint("load the key into the agent or get a ticket first, or leave out --ssh system"));
        }
        let (config, known_hosts) = (self.ssh_config.clone(), self.known_hosts.clone());
        Ok(Some(SystemSsh { config, known_hosts, ..SystemSsh::default() }))
    }

    fn ssh_config(&self) -> Result<SshConfig, CliError> {
        let home = std::env::home_dir();
        let read = match &self.ssh_config {
            Some(file) if file.as_os_str() == "none" => return Ok(SshConfig::none()),
            Some(file) => SshConfig::load(file, home.as_deref()),
            None => SshConfig::load_default(home.as_deref()),
        };
        read.map_err(|e| {
            CliError::failed(e.to_string()).with_hint("--ssh-config none leaves ssh_config aside")
        })
    }

    fn sudo_password(&self, context: &Context) -> Result<Option<Secret>, CliError> {
        if !self.ask_sudo_password {
            return secret(self.sudo_password_file.as_ref());
        }
        let terminal = Terminal::here(&context.cancel).ok_or_else(|| {
            CliError::usage("--ask-sudo-password: there is no terminal to ask at")
                .with_hint("--sudo-password-file FILE")
        })?;
        let answer = terminal.ask("password for sudo on the nodes: ", false);
        answer.map(Some).ok_or_else(|| CliError::failed("no password was given"))
    }
}

/// The way out where a file of host keys is not there.
fn no_known_hosts(error: CliError, file: &Path) -> CliError {
    if file.exists() {
        return error;
    }
    error.with_hint(
        "name the file that has the keys of your nodes (`ssh-keyscan HOST >> FILE` makes one), leave --known-hosts out to trust what \
         `ssh` trusts, or add --host-keys accept-new, which makes the file and records what new hosts present",
    )
}

/// A password in a file.
fn secret(file: Option<&PathBuf>) -> Result<Option<Secret>, CliError> {
    file.map(|f| Secret::from_file(f).map_err(CliError::failed)).transpose()
}

/// What the inventory says about a node goes before what the command line says about all.
fn target(node: &Node, usual: &RuntimeChoice) -> Result<Target, CliError> {
    Target::of(node, usual).map_err(|e| CliError::failed(format!("node {}: {e}", node.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_messages_name_the_nodes_that_were_given() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            nodes: NodeArgs,
        }
        let said = |args: &[&str], text: &str| {
            let all = [&["x"], args].concat();
            <Cli as clap::Parser>::try_parse_from(all).unwrap().nodes.addressed(text)
        };
        let text = "run r1; `omk preheat rollback --run r1` undoes it, `omk preheat web.tar` again goes on";
        assert_eq!(
            said(&["--nodes", "my nodes.yaml"], text),
            "run r1; `omk preheat rollback --run r1 --nodes 'my nodes.yaml'` undoes it, `omk preheat web.tar --nodes 'my nodes.yaml'` again goes on"
        );
        let way = [
            "--node",
            "a",
            "--known-hosts",
            "kh",
            "--user",
            "core",
            "--sudo-password-file",
            "s w",
            "--ssh",
            "system",
        ];
        assert_eq!(
            said(&way, "`omk preheat status`"),
            "`omk preheat status --node a --known-hosts kh --sudo-password-file 's w' --user core --ssh system`"
        );
        assert_eq!(
            said(&["--node", "root@a:22", "--node", "[::1]:2222"], "`omk preheat history` lists them"),
            "`omk preheat history --node root@a:22 --node '[::1]:2222'` lists them"
        );
    }

    #[test]
    fn namespaces_are_containerds_identifiers() {
        assert!(["k8s.io", "moby", "a-b_c"].into_iter().all(|n| namespace(n).is_ok()));
        assert!(["", "-a", "a b", "a/b", "a."].into_iter().all(|n| namespace(n).is_err()));
    }
}
