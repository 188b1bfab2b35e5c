//! How a host is reached beyond its address: what the inventory and `ssh_config` say together, settled before anything
//! connects.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::node::Secret;
use crate::node::known_hosts::NOWHERE;
use crate::node::ssh_config::{self, Jump, Proxy, Query, Resolved, SshConfig, Tokens, Who};

/// Hosts on the way to one node.
const MAX_JUMPS: usize = 8;

/// What a connection needs to know besides host, port, user and the inventory's key. The default is a direct
/// connection with the usual keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Route {
    /// The name as typed, where it is not the host that it leads to.
    pub alias: Option<String>,
    /// Private key files of `ssh_config`, which may not exist.
    pub identities: Vec<PathBuf>,
    /// Offer no key of the agent that is not among the named files.
    pub identities_only: bool,
    /// Certificates beside those that lie next to their key (`KEY-cert.pub`).
    pub certificates: Vec<PathBuf>,
    /// Which agent.
    pub agent: Agent,
    /// What is in between.
    pub via: Via,
    /// Files of trusted host keys in place of the usual ones; `None`: those of the run.
    pub known_hosts: Option<Vec<PathBuf>>,
    /// Keys that must not be trusted, whatever the others say.
    pub revoked: Option<PathBuf>,
    /// The name under which the host's key is recorded, in place of host and port.
    pub host_key_alias: Option<String>,
    /// Record the key of a host of which nothing is recorded.
    pub accept_new: bool,
    /// Record the name of a new host so that it cannot be read.
    pub hash_known_hosts: bool,
    /// In place of the run's.
    pub connect_timeout: Option<Duration>,
    /// Silence after which a sign of life is asked for, in place of the run's.
    pub keepalive: Option<Duration>,
    /// Signs of life that may be missed.
    pub keepalive_max: Option<usize>,
    /// Addresses that are used.
    pub family: Family,
    /// Ways to log in that are not to be tried.
    pub without: Without,
    /// For `password` and for a question for one; asked for where it is missing.
    pub password: Option<Secret>,
    /// What the inventory says: keywords of `ssh_config` with their values.
    pub given: Vec<(String, String)>,
    /// What was settled and by whom, for people.
    pub why: Vec<Why>,
}

/// Ways to log in that are switched off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Without {
    /// `PubkeyAuthentication no`
    pub public_key: bool,
    /// `PasswordAuthentication no`
    pub password: bool,
    /// `KbdInteractiveAuthentication no`
    pub interactive: bool,
}

/// Which SSH agent is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Agent {
    /// That of the run.
    #[default]
    Usual,
    /// None.
    None,
    /// The one that listens here.
    Socket(PathBuf),
}

/// IP versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Family {
    /// Both.
    #[default]
    Any,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

/// What is between here and a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Via {
    /// Nothing.
    #[default]
    Direct,
    /// Another host, which forwards.
    Jump(Box<Hop>),
    /// A command, for `sh`; what it reads and writes is the connection.
    Command(String),
}

/// A host on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Hop {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Login name.
    pub user: String,
    /// How it is reached itself.
    pub route: Route,
}

/// One thing that was settled.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Why {
    /// `host`, `port`, `user`, `key`, `jump`…
    pub what: &'static str,
    /// What it is.
    pub value: String,
    /// The file and line, the option or the field that says so.
    pub from: String,
}

impl Route {
    /// The hosts on the way, the first one first, as `user@host:port`; a command as itself.
    pub fn way(&self) -> Vec<String> {
        match &self.via {
            Via::Direct => Vec::new(),
            Via::Command(command) => vec![format!("`{command}`")],
            Via::Jump(hop) => {
                let mut way = hop.route.way();
                way.push(format!("{}@{}", hop.user, address(&hop.host, hop.port)));
                way
            }
        }
    }
}

/// `host:port`, with brackets where they are needed.
pub(crate) fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What the inventory says, each with where.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    pub(crate) host: String,
    /// Keyword of `ssh_config`, value, where from.
    pub(crate) given: Vec<(String, String, String)>,
    /// Used where neither the inventory nor `ssh_config` names a user.
    pub(crate) login: Option<(String, String)>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `None`: nobody names one.
    pub(crate) user: Option<String>,
    pub(crate) route: Route,
    pub(crate) warnings: Vec<String>,
}

/// Puts together what is said about a host. Errors are in words.
pub(crate) fn settle(said: &Said, config: &SshConfig, who: &Who) -> Result<Settled, String> {
    hop(said, config, who, &mut 0, None)
}

fn hop(
    said: &Said,
    config: &SshConfig,
    who: &Who,
    jumps: &mut usize,
    before: Option<Box<Hop>>,
) -> Result<Settled, String> {
    let query = Query { host: said.host.clone(), given: said.given.clone() };
    let found = config.resolve(&query, who)?;
    let mut warnings = found.warnings.clone();
    let host = found.host_name()?.to_ascii_lowercase();
    check_host(&host)?;
    let port = found.port()?.unwrap_or(22);
    let login = found.user().map(str::to_owned).or_else(|| said.login.as_ref().map(|(user, _)| user.clone()));
    // Where nobody names one, the caller says what to do about it; tokens have to stand for something until then.
    let user = login.clone().unwrap_or_else(|| who.user.clone());
    let alias = found.setting("hostkeyalias").map(|s| s.first().to_owned());
    let tokens =
        Tokens { who, host: &host, original: &said.host, port, user: &user, alias: alias.as_deref() };
    let mut why = reasons(&found, &host, said);
    let mut route = settings(&found, &tokens, &mut warnings)?;
    let via = match (before, found.proxy()?) {
        (Some(before), _) => Via::Jump(before),
        (None, None) => Via::Direct,
        (None, Some(Proxy::Command(command))) => Via::Command(tokens.proxy(&command)?),
        (None, Some(Proxy::Jump(hosts))) => {
            let mut last: Option<Box<Hop>> = None;
            for jump in hosts {
                *jumps += 1;
                if *jumps > MAX_JUMPS {
                    return Err(format!(
                        "more than {MAX_JUMPS} jump hosts: a jump host that its own ProxyJump leads to? write `Host * !{}`",
                        jump.host
                    ));
                }
                last = Some(Box::new(jump_host(&jump, &tokens, config, who, jumps, last, &mut warnings)?));
            }
            last.map_or(Via::Direct, Via::Jump)
        }
    };
    route.via = via;
    if let Some(setting) = found.setting("proxyjump").or_else(|| found.setting("proxycommand"))
        && route.via != Via::Direct
    {
        let what = if matches!(route.via, Via::Jump(_)) { "jump" } else { "proxy" };
        why.push(Why { what, value: route.way().join(" "), from: setting.from.to_string() });
    }
    route.alias = (said.host != host).then(|| said.host.clone());
    route.host_key_alias = alias;
    route.given = said.given.iter().map(|(keyword, value, _)| (keyword.clone(), value.clone())).collect();
    route.why = why;
    Ok(Settled { host, port, user: login, route, warnings })
}

fn jump_host(
    jump: &Jump,
    tokens: &Tokens<'_>,
    config: &SshConfig,
    who: &Who,
    jumps: &mut usize,
    before: Option<Box<Hop>>,
    warnings: &mut Vec<String>,
) -> Result<Hop, String> {
    let mut given = Vec::new();
    let from = "ProxyJump".to_owned();
    if let Some(user) = &jump.user {
        given.push(("user".to_owned(), tokens.proxy(user)?, from.clone()));
    }
    if let Some(port) = jump.port {
        given.push(("port".to_owned(), port.to_string(), from.clone()));
    }
    let host = tokens.proxy(&jump.host)?;
    let said = Said { host: host.clone(), given, login: Some((who.user.clone(), from)) };
    let settled = hop(&said, config, who, jumps, before).map_err(|e| format!("jump host {host}: {e}"))?;
    warnings.extend(settled.warnings);
    let user =
        settled.user.filter(|u| !u.is_empty()).ok_or_else(|| format!("jump host {host}: name its user"))?;
    Ok(Hop { host: settled.host, port: settled.port, user, route: settled.route })
}

fn settings(found: &Resolved, tokens: &Tokens<'_>, warnings: &mut Vec<String>) -> Result<Route, String> {
    let env = |name: &str| std::env::var(name).ok();
    let file = |text: &str| tokens.file(text, env);
    let files = |all: &[ssh_config::Setting]| {
        let named = all.iter().map(|s| s.first().to_owned()).filter(|f| !f.eq_ignore_ascii_case("none"));
        named.map(|f| file(&f)).collect::<Result<Vec<_>, _>>()
    };
    let agent = match found.setting("identityagent").map(|s| s.first().to_owned()) {
        None => Agent::Usual,
        Some(text) if text.eq_ignore_ascii_case("none") => Agent::None,
        Some(text) if text == "SSH_AUTH_SOCK" => Agent::Usual,
        Some(text) => match text.strip_prefix('$').filter(|t| !t.starts_with('{')) {
            Some(name) => env(name).map_or(Agent::None, |socket| Agent::Socket(socket.into())),
            None => Agent::Socket(file(&text)?),
        },
    };
    let known = |keyword: &str, usual: &[&str]| -> Result<Vec<PathBuf>, String> {
        let names = match found.setting(keyword) {
            Some(setting) => setting.words.clone(),
            None => usual.iter().map(|s| (*s).to_owned()).collect(),
        };
        // `none` keeps its place, or a new key would be learned into the next file.
        let place = |n: &String| match n.eq_ignore_ascii_case("none") {
            true => Ok(PathBuf::from(NOWHERE)),
            false => file(n),
        };
        names.iter().map(place).collect()
    };
    let says = |k: &str| found.setting(k).is_some();
    let known_hosts = if says("userknownhostsfile") || says("globalknownhostsfile") {
        let home = tokens.who.home.is_some();
        let own: &[&str] = if home { &["~/.ssh/known_hosts", "~/.ssh/known_hosts2"] } else { &[] };
        let mut all = known("userknownhostsfile", own)?;
        all.extend(known(
            "globalknownhostsfile",
            &["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"],
        )?);
        Some(all)
    } else {
        None
    };
    let checking = found.setting("stricthostkeychecking");
    let accept_new = match checking.map(|s| s.first().to_owned().to_ascii_lowercase()).as_deref() {
        Some("accept-new") => true,
        None | Some("yes" | "true" | "ask") => false,
        Some("no" | "false" | "off") => {
            let from = checking.map(|s| s.from.to_string()).unwrap_or_default();
            warnings.push(format!(
                "{from}: StrictHostKeyChecking no is not followed: host keys are checked; --host-keys accept-new records \
                 the key of a host that is new"
            ));
            false
        }
        Some(other) => return Err(format!("StrictHostKeyChecking {other:?} is unknown")),
    };
    let family =
        match found.setting("addressfamily").map(|s| s.first().to_owned().to_ascii_lowercase()).as_deref() {
            None | Some("any") => Family::Any,
            Some("inet") => Family::V4,
            Some("inet6") => Family::V6,
            Some(other) => return Err(format!("AddressFamily {other:?} is unknown")),
        };
    let off = |keyword: &str| {
        found.setting(keyword).is_some_and(|s| s.first().to_owned().eq_ignore_ascii_case("no"))
    };
    let interval = found.seconds("serveraliveinterval")?.filter(|s| *s > 0);
    let revoked = found.setting("revokedhostkeys").map(|s| s.first().to_owned());
    Ok(Route {
        identities: files(&found.identities)?,
        identities_only: found.flag("identitiesonly")?.unwrap_or(false),
        certificates: files(&found.certificates)?,
        agent,
        known_hosts,
        revoked: revoked.filter(|r| !r.eq_ignore_ascii_case("none")).map(|r| file(&r)).transpose()?,
        accept_new,
        hash_known_hosts: found.flag("hashknownhosts")?.unwrap_or(false),
        connect_timeout: found.seconds("connecttimeout")?.filter(|s| *s > 0).map(Duration::from_secs),
        keepalive: interval.map(Duration::from_secs),
        keepalive_max: found.number("serveralivecountmax")?.map(|n| n.clamp(1, 1000) as usize),
        family,
        without: Without {
            public_key: off("pubkeyauthentication"),
            password: off("passwordauthentication"),
            interactive: off("kbdinteractiveauthentication"),
        },
        ..Route::default()
    })
}

fn reasons(found: &Resolved, host: &str, said: &Said) -> Vec<Why> {
    let mut why = Vec::new();
    let mut tell = |what: &'static str, keyword: &str| {
        if let Some(setting) = found.setting(keyword) {
            why.push(Why { what, value: setting.words.join(" "), from: setting.from.to_string() });
        }
    };
    tell("host", "hostname");
    tell("port", "port");
    tell("user", "user");
    tell("host key name", "hostkeyalias");
    tell("host keys", "userknownhostsfile");
    tell("agent", "identityagent");
    if let Some(first) = why.first_mut().filter(|w| w.what == "host") {
        first.value = host.to_owned();
    }
    if found.user().is_none()
        && let Some((user, from)) = &said.login
    {
        why.push(Why { what: "user", value: user.clone(), from: from.clone() });
    }
    for (what, list) in [("key", &found.identities), ("certificate", &found.certificates)] {
        for setting in list {
            why.push(Why { what, value: setting.first().to_owned(), from: setting.from.to_string() });
        }
    }
    why
}

/// What a resolver, a zone (`fe80::1%eth0`) or an SSH alias needs; nothing that could be taken as an option, a pattern of
/// known_hosts or a second field.
fn check_host(host: &str) -> Result<(), String> {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b".-_:%".contains(&b);
    if host.is_empty() || host.len() > 253 || host.starts_with('-') || !host.bytes().all(byte) {
        let shown: String = host.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(format!("{shown:?} is no host: write a name or an IP address"));
    }
    Ok(())
}

/// A private key that is named twice is offered once.
pub(crate) fn distinct(files: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for file in files {
        if !all.iter().any(|f: &PathBuf| f.as_path() == Path::new(&file)) {
            all.push(file);
        }
    }
    all
}
