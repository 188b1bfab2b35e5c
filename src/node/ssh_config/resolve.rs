//! What a configuration says about one host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use super::tokens::percent;
use super::words::{fits_host, fits_list, words};
use super::{Item, Line, SshConfig, keywords};

/// Warnings about one host; more are of no use.
const MAX_WARNINGS: usize = 20;
/// Keys and certificates that are named for one host.
const MAX_FILES: usize = 100;

/// A host, as it is given to `ssh`.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// As typed.
    pub host: String,
    /// What goes before every line: keyword, value, and where it comes from in words.
    pub given: Vec<(String, String, String)>,
}

/// Who connects, and from where.
#[derive(Debug, Clone, Default)]
pub struct Who {
    /// `%d` and `~`.
    pub home: Option<PathBuf>,
    /// `%u`: login name on this machine.
    pub user: String,
    /// `%i`.
    pub uid: u32,
    /// `%l`: name of this machine.
    pub host: String,
}

impl Who {
    /// Of this process.
    pub fn here(home: Option<PathBuf>, user: Option<String>) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let user = user.unwrap_or_default();
        Self { home, user, uid: rustix::process::getuid().as_raw(), host }
    }
}

/// Where a setting stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// Not in a file of `ssh_config`; in words.
    Given(String),
    /// In this line, counted from 1.
    Line(PathBuf, usize),
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(words) => f.write_str(words),
            Self::Line(file, line) => write!(f, "{}:{line}", file.display()),
        }
    }
}

/// The value of a keyword.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Without quotes.
    pub words: Vec<String>,
    /// As it stands.
    pub rest: String,
    /// Where.
    pub from: From,
}

impl Setting {
    /// The first word.
    pub fn first(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    fn bad(&self, text: impl fmt::Display) -> String {
        format!("{}: {text}", self.from)
    }
}

/// A way that is not direct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxy {
    /// Through these hosts, the first one first.
    Jump(Vec<Jump>),
    /// Through what this command, for `sh`, reads and writes.
    Command(String),
}

/// One host of `ProxyJump`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    /// Login name, where one is named.
    pub user: Option<String>,
    /// As it is given to `ssh`.
    pub host: String,
    /// Port, where one is named.
    pub port: Option<u16>,
}

/// All settings of one host.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    original: String,
    settings: BTreeMap<String, Setting>,
    /// `IdentityFile`, in order, as written.
    pub identities: Vec<Setting>,
    /// `CertificateFile`, in order, as written.
    pub certificates: Vec<Setting>,
    /// Full sentences about what is not followed.
    pub warnings: Vec<String>,
}

struct Pass<'a> {
    config: &'a SshConfig,
    who: &'a Who,
    /// The name that `Host` is held against.
    host: String,
    last: bool,
    wants_last: bool,
    out: Resolved,
    ignore_unknown: Option<String>,
}

impl SshConfig {
    /// What the files say about a host, the first value of each keyword.
    ///
    /// # Errors
    /// In words, for a line that applies and cannot be meant.
    pub fn resolve(&self, query: &Query, who: &Who) -> Result<Resolved, String> {
        let out = Resolved { original: query.host.clone(), ..Resolved::default() };
        let mut pass = Pass {
            config: self,
            who,
            host: query.host.clone(),
            last: false,
            wants_last: false,
            out,
            ignore_unknown: None,
        };
        for (keyword, value, from) in &query.given {
            let from = From::Given(from.clone());
            let words = match keywords::raw(&keyword.to_ascii_lowercase()) {
                true => Vec::new(),
                false => words(value).map_err(|e| format!("{from}: {e}"))?,
            };
            pass.set(&keyword.to_ascii_lowercase(), Setting { words, rest: value.clone(), from })?;
        }
        pass.run()?;
        if pass.wants_last {
            // As OpenSSH: the name is settled, everything is read once more, and what is set stays.
            pass.host = pass.out.host_name()?;
            pass.out.settings.entry("hostname".to_owned()).or_insert_with(|| Setting {
                words: vec!["%h".to_owned()],
                rest: "%h".to_owned(),
                from: From::Given("the name as typed".to_owned()),
            });
            pass.last = true;
            pass.run()?;
        }
        pass.out.check()?;
        Ok(pass.out)
    }
}

impl Pass<'_> {
    fn run(&mut self) -> Result<(), String> {
        let config = self.config;
        for part in &config.parts {
            self.items(part, true)?;
        }
        Ok(())
    }

    fn items(&mut self, items: &[Item], outer: bool) -> Result<(), String> {
        let mut active = outer;
        for item in items {
            match item {
                Item::Include(files) => {
                    for file in files {
                        self.items(file, active)?;
                    }
                }
                Item::Line(line) => match line.keyword.as_str() {
                    "host" => active = outer && fits_host(&line.words, &self.host),
                    "match" => active = outer && self.matches(line)?,
                    _ if active => self.line(line)?,
                    _ => {}
                },
            }
        }
        Ok(())
    }

    fn from(&self, line: &Line) -> From {
        From::Line(self.config.files[line.file].clone(), line.number)
    }

    fn warn(&mut self, text: String) {
        if self.out.warnings.len() < MAX_WARNINGS && !self.out.warnings.contains(&text) {
            self.out.warnings.push(text);
        }
    }

    fn matches(&mut self, line: &Line) -> Result<bool, String> {
        let from = self.from(line);
        let mut words = line.words.iter().flat_map(|word| match word.split_once('=') {
            Some((key, value)) => vec![key, value],
            None => vec![word.as_str()],
        });
        let (mut result, mut attributes) = (true, 0);
        while let Some(word) = words.next() {
            let (negated, name) = word.strip_prefix('!').map_or((false, word), |w| (true, w));
            let name = name.to_ascii_lowercase();
            attributes += 1;
            let fits = match name.as_str() {
                "all" => {
                    let alone = words.next().is_none();
                    if !alone || negated || attributes > 2 {
                        return Err(format!("{from}: `all` stands alone, or after canonical or final"));
                    }
                    return Ok(result);
                }
                "canonical" => self.last,
                "final" => {
                    self.wants_last |= !self.last;
                    self.last
                }
                _ => {
                    let Some(value) = words.next() else {
                        return Err(format!("{from}: a value is missing after {name}"));
                    };
                    match name.as_str() {
                        "host" => fits_list(value, &self.out.host_name()?, true),
                        "originalhost" => fits_list(value, &self.out.original, true),
                        "user" => fits_list(value, self.out.user().unwrap_or(&self.who.user), false),
                        "localuser" => fits_list(value, &self.who.user, false),
                        "exec" => {
                            if result {
                                self.warn(format!(
                                    "{from}: `Match exec` is not followed: omk runs no commands to find out what applies; \
                                     the block is skipped"
                                ));
                            }
                            return Ok(false);
                        }
                        "localnetwork" | "tagged" | "version" | "sessiontype" | "command" => {
                            self.warn(format!(
                                "{from}: `Match {name}` is not followed: the block is skipped"
                            ));
                            return Ok(false);
                        }
                        _ => return Err(format!("{from}: `Match {name}` is unknown")),
                    }
                }
            };
            result &= fits != negated;
        }
        if attributes == 0 {
            return Err(format!("{from}: Match wants a condition"));
        }
        Ok(result)
    }

    fn line(&mut self, line: &Line) -> Result<(), String> {
        let setting = Setting { words: line.words.clone(), rest: line.rest.clone(), from: self.from(line) };
        self.set(&line.keyword, setting)
    }

    fn set(&mut self, keyword: &str, setting: Setting) -> Result<(), String> {
        let keyword = keywords::usual(keyword);
        match keyword {
            "identityfile" | "certificatefile" => {
                let list = match keyword {
                    "identityfile" => &mut self.out.identities,
                    _ => &mut self.out.certificates,
                };
                if !list.iter().any(|s| s.first() == setting.first()) {
                    if list.len() >= MAX_FILES {
                        return Err(setting.bad(format_args!("more than {MAX_FILES} files are named")));
                    }
                    list.push(setting);
                }
            }
            // Whichever comes first rules the other out; only a `ProxyJump none` leaves room for a command.
            "proxyjump" | "proxycommand" => {
                let none = |s: &Setting| s.rest.trim().eq_ignore_ascii_case("none");
                let jump = self.out.setting("proxyjump").map(none);
                let command = self.out.settings.contains_key("proxycommand");
                if !command && (jump.is_none() || (keyword == "proxycommand" && jump == Some(true))) {
                    self.out.settings.insert(keyword.to_owned(), setting);
                }
            }
            "ignoreunknown" => {
                self.ignore_unknown.get_or_insert_with(|| setting.first().to_owned());
            }
            _ if keywords::KEPT.contains(&keyword) => {
                self.out.settings.entry(keyword.to_owned()).or_insert(setting);
            }
            _ if keywords::HARMLESS.contains(&keyword) => {}
            _ => {
                let known = keywords::MATTER.iter().find(|(k, _)| *k == keyword);
                let ignored = self.ignore_unknown.as_ref().is_some_and(|list| fits_list(list, keyword, true));
                match known {
                    Some((_, nothing))
                        if nothing.contains(&setting.first().to_ascii_lowercase().as_str()) => {}
                    Some((_, _))
                        if keyword == "knownhostscommand" && setting.rest.eq_ignore_ascii_case("none") => {}
                    Some(_) => self.warn(setting.bad(format_args!("{keyword} is not followed"))),
                    None if ignored => {}
                    None => {
                        self.warn(setting.bad(format_args!(
                            "{keyword} is no keyword of ssh_config that omk knows: skipped"
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Resolved {
    /// The setting of a keyword in lower case; those of `identities` and `certificates` are not among them.
    pub fn setting(&self, keyword: &str) -> Option<&Setting> {
        self.settings.get(keyword)
    }

    /// `HostName`, else the host as typed.
    ///
    /// # Errors
    /// In words, when its tokens cannot be meant.
    pub fn host_name(&self) -> Result<String, String> {
        let Some(setting) = self.setting("hostname") else { return Ok(self.original.clone()) };
        percent(setting.first(), |c| (c == 'h').then(|| self.original.clone())).map_err(|e| setting.bad(e))
    }

    /// `User`.
    pub fn user(&self) -> Option<&str> {
        self.setting("user").map(Setting::first)
    }

    /// `Port`.
    ///
    /// # Errors
    /// In words, when it is none.
    pub fn port(&self) -> Result<Option<u16>, String> {
        let Some(setting) = self.setting("port") else { return Ok(None) };
        match setting.first().parse::<u16>() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err(setting.bad(format_args!("Port {:?} is no port", clip(setting.first())))),
        }
    }

    /// Yes or no; `None` when nothing is said.
    ///
    /// # Errors
    /// In words, when it is neither.
    pub fn flag(&self, keyword: &str) -> Result<Option<bool>, String> {
        let Some(setting) = self.setting(keyword) else { return Ok(None) };
        match setting.first().to_ascii_lowercase().as_str() {
            "yes" | "true" => Ok(Some(true)),
            "no" | "false" => Ok(Some(false)),
            other => Err(setting.bad(format_args!("{keyword} is yes or no, not {:?}", clip(other)))),
        }
    }

    /// A time in seconds: `90`, `1m30s`; `None` when nothing is said, or `none`.
    ///
    /// # Errors
    /// In words, when it is no time.
    pub fn seconds(&self, keyword: &str) -> Result<Option<u64>, String> {
        let Some(setting) = self.setting(keyword) else { return Ok(None) };
        if setting.first().eq_ignore_ascii_case("none") {
            return Ok(None);
        }
        let bad = || setting.bad(format_args!("{keyword}: {:?} is no time", clip(setting.first())));
        time(setting.first()).map(Some).ok_or_else(bad)
    }

    /// A number.
    ///
    /// # Errors
    /// In words, when it is none.
    pub fn number(&self, keyword: &str) -> Result<Option<u32>, String> {
        let Some(setting) = self.setting(keyword) else { return Ok(None) };
        let bad = || setting.bad(format_args!("{keyword}: {:?} is no number", clip(setting.first())));
        setting.first().parse().map(Some).map_err(|_| bad())
    }

    /// `ProxyJump` or `ProxyCommand`, whichever stands first. Tokens are not filled in yet.
    ///
    /// # Errors
    /// In words, when a host of it cannot be meant.
    pub fn proxy(&self) -> Result<Option<Proxy>, String> {
        let (setting, jump) = match (self.setting("proxyjump"), self.setting("proxycommand")) {
            (_, Some(command)) => (command, false),
            (Some(jump), None) => (jump, true),
            (None, None) => return Ok(None),
        };
        let text = setting.rest.trim();
        if text.eq_ignore_ascii_case("none") {
            return Ok(None);
        }
        if !jump {
            return Ok(Some(Proxy::Command(text.to_owned())));
        }
        let unquoted = words(text).map_err(|e| setting.bad(e))?.concat();
        let hosts = unquoted.split(',').map(|h| parse_jump(h.trim()).map_err(|e| setting.bad(e)));
        hosts.collect::<Result<Vec<_>, _>>().map(|hosts| Some(Proxy::Jump(hosts)))
    }

    /// Whether everything that is set can be meant.
    fn check(&self) -> Result<(), String> {
        self.host_name()?;
        self.port()?;
        for keyword in ["identitiesonly", "hashknownhosts", "passwordauthentication"] {
            self.flag(keyword)?;
        }
        for keyword in ["connecttimeout", "serveraliveinterval"] {
            self.seconds(keyword)?;
        }
        self.number("serveralivecountmax")?;
        self.proxy().map(drop)
    }
}

/// `[USER@]HOST[:PORT]` or `ssh://[USER@]HOST[:PORT]`.
fn parse_jump(text: &str) -> Result<Jump, String> {
    let refuse = || format!("{:?} is no jump host: write [USER@]HOST[:PORT]", clip(text));
    let bare = text.strip_prefix("ssh://").map_or(text, |t| t.trim_end_matches('/'));
    let (user, place) = match bare.rsplit_once('@') {
        Some((user, place)) => (Some(user.to_owned()), place),
        None => (None, bare),
    };
    let (host, port) = match place.strip_prefix('[').and_then(|p| p.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(refuse)?)),
        None => match place.split_once(':') {
            Some((_, rest)) if rest.contains(':') => (place, None),
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = port.map(|p| p.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(refuse)).transpose()?;
    let odd = |t: &str| {
        t.is_empty() || t.starts_with('-') || t.contains(|c: char| c.is_control() || c.is_whitespace())
    };
    if odd(host) || user.as_deref().is_some_and(odd) {
        return Err(refuse());
    }
    Ok(Jump { user, host: host.to_owned(), port })
}

/// OpenSSH's times: numbers with a unit each, seconds without one.
fn time(text: &str) -> Option<u64> {
    let (mut total, mut number) = (0u64, String::new());
    if text.is_empty() {
        return None;
    }
    for c in text.chars().chain(['\0']) {
        let unit = match c.to_ascii_lowercase() {
            c @ '0'..='9' => {
                number.push(c);
                continue;
            }
            '\0' if number.is_empty() => break,
            '\0' | 's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    (total <= 365 * 86_400).then_some(total)
}

pub(super) fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// Each warning once.
pub(crate) fn once(warnings: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    warnings.into_iter().filter(|w| seen.insert(w.clone())).collect()
}
