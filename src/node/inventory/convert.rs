//! From the fields of an inventory to a node and the way to it.

use std::path::{Path, PathBuf};

use super::{Address, Fallback, Node, Port, RawDefaults, RawNode, Wrong};
use crate::near;
use crate::node::Secret;
use crate::node::ssh::route::{Route, Said, Why, settle};
use crate::node::ssh_config::{SshConfig, Who};
use crate::oci::Platform;

/// Of Linux, in Go's words (`GOARCH`), as platforms of images have them.
const ARCHITECTURES: [&str; 11] = [
    "amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "loong64", "mips64le", "mips64", "mipsle",
];

pub(super) fn convert(
    raw: RawNode,
    defaults: &RawDefaults,
    path: &Path,
    fallback: &Fallback,
    who: &Who,
    warnings: &mut Vec<String>,
) -> Result<Node, Wrong> {
    let name_byte = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if raw.name.is_empty() || raw.name.len() > 253 || !raw.name.bytes().all(name_byte) {
        return Err(Wrong::of("name")("a name has 1 to 253 letters, digits, '.', '_' or '-'".to_owned()));
    }
    let either = |own: &Option<String>, default: &Option<String>| own.clone().or_else(|| default.clone());
    let local = raw.local || raw.host.as_deref() == Some("local");
    let (address, route) = if local {
        if raw.local && raw.host.is_some() {
            return Err(Wrong::of("host")("local: true and host exclude each other".to_owned()));
        }
        (Address::Local, Route::default())
    } else {
        reach(&raw, defaults, path, fallback, who, warnings)?
    };
    let platform = either(&raw.platform, &defaults.platform);
    let platform = platform
        .map(|p| p.parse::<Platform>().map_err(|e| Wrong::of("platform")(format!("platform: {e}"))))
        .transpose()?;
    if let Some(odd) = platform.as_ref().filter(|p| !ARCHITECTURES.contains(&p.architecture())) {
        let asked = near::did_you_mean(odd.architecture(), &ARCHITECTURES);
        return Err(Wrong::of("platform")(format!(
            "platform: {odd:?} has no architecture that images are made for{asked}: leave it out, so that the node is asked, or use one of {}",
            ARCHITECTURES.join(", "),
            odd = odd.to_string()
        )));
    }
    let runtime = either(&raw.runtime, &defaults.runtime);
    if let Some(word) = runtime.as_deref().filter(|w| !known(w, fallback.runtimes)) {
        let asked = near::did_you_mean(word, fallback.runtimes);
        let text = format!(
            "runtime: {:?} is no runtime{asked}: use one of {}",
            clip(word),
            fallback.runtimes.join(", ")
        );
        return Err(Wrong::of("runtime")(text));
    }
    Ok(Node {
        address,
        route,
        runtime,
        image_folder: absolute("image_folder", either(&raw.image_folder, &defaults.image_folder))?,
        staging: absolute("staging", either(&raw.staging, &defaults.staging))?,
        platform,
        name: raw.name,
        sudo_password: raw.sudo_password.or_else(|| defaults.sudo_password.clone()),
        groups: raw.groups,
        labels: raw.labels,
    })
}

fn known(word: &str, words: &[&str]) -> bool {
    words.is_empty() || words.contains(&word)
}

/// Brings what the inventory says about a host together with what `ssh_config` does. The inventory wins.
fn reach(
    raw: &RawNode,
    defaults: &RawDefaults,
    path: &Path,
    fallback: &Fallback,
    who: &Who,
    warnings: &mut Vec<String>,
) -> Result<(Address, Route), Wrong> {
    let home = fallback.home.as_deref();
    let either = |own: &Option<String>, default: &Option<String>| own.clone().or_else(|| default.clone());
    let missing = || Wrong::of("")("host is missing (or say local: true)".to_owned());
    let typed = raw.host.as_deref().ok_or_else(missing)?;
    host(typed).map_err(Wrong::of("host"))?;
    let typed = typed.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(typed).to_owned();
    let here = path.display().to_string();
    let mut given = Vec::new();
    let mut say =
        |keyword: &str, value: String, from: &str| given.push((keyword.to_owned(), value, from.to_owned()));
    if let Some(Port(port)) = raw.port.or(defaults.port) {
        say("port", port.to_string(), &here);
    }
    let odd = |user: &str| {
        let odd = |c: char| c.is_control() || c.is_whitespace();
        user.is_empty() || user.len() > 255 || user.starts_with('-') || user.contains(odd)
    };
    match either(&raw.user, &defaults.user) {
        Some(user) if odd(&user) => {
            return Err(Wrong::of("user")(format!("{:?} is no login name", clip(&user))));
        }
        Some(user) => say("user", user, &here),
        None => {
            if let Some(user) = &fallback.user {
                say("user", user.clone(), "--user");
            }
        }
    }
    if let Some(jump) = either(&raw.proxy_jump, &defaults.proxy_jump) {
        say("proxyjump", jump, &here);
    }
    for (keyword, value) in &raw.ssh_options {
        say(keyword, value.clone(), &here);
    }
    let usual = || fallback.login.clone().filter(|_| fallback.login_for_all);
    let login = raw.login.clone().or_else(usual).map(|user| (user, "the name of who runs omk".to_owned()));
    let none = SshConfig::none();
    let config = fallback.ssh_config.as_deref().unwrap_or(&none);
    let settled = settle(&Said { host: typed, given, login }, config, who).map_err(Wrong::of(""))?;
    warnings.extend(settled.warnings);
    let user = settled.user.ok_or_else(|| Wrong::of("")(super::NO_USER.to_owned()))?;
    if odd(&user) {
        return Err(Wrong::of("user")(format!("{:?} is no login name", clip(&user))));
    }
    let mut route = settled.route;
    let identity = match either(&raw.identity, &defaults.identity) {
        Some(file) => Some((expand("identity", &file, path, home)?, here.as_str())),
        None => fallback.identity.clone().map(|file| (file, "--identity")),
    };
    if let Some((file, from)) = &identity {
        let value = file.display().to_string();
        route.why.insert(0, Why { what: "key", value, from: (*from).to_owned() });
    }
    let password_file = match (&raw.password, either(&raw.password_file, &defaults.password_file)) {
        (None, Some(file)) => Some(expand("password_file", &file, path, home)?),
        _ => None,
    };
    route.password = match (&raw.password, password_file) {
        (Some(password), _) => Some(password.clone()),
        (None, Some(file)) => {
            if readable_by_others(&file) {
                warnings.push(format!(
                    "{} holds a password and other users can read it: chmod 600 {0}",
                    file.display()
                ));
            }
            Some(Secret::from_file(&file).map_err(Wrong::of("password_file"))?)
        }
        (None, None) => defaults.password.clone(),
    };
    let identity = identity.map(|(file, _)| file);
    Ok((Address::Ssh { host: settled.host, port: settled.port, user, identity }, route))
}

fn host(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    // Everything that a resolver, a zone (`fe80::1%eth0`) or an SSH alias needs; nothing that could be taken as an
    // option, a known_hosts pattern or a second field.
    let byte = |b: u8| b.is_ascii_alphanumeric() || b".-_:%".contains(&b);
    if bare.is_empty() || bare.len() > 253 || bare.starts_with('-') || !bare.bytes().all(byte) {
        return Err(format!("{:?} is no host: write a name or an IP address", clip(text)));
    }
    if bare.contains(':') && !bare.contains('%') {
        return Err(format!("{:?} is no host: the port has its own field, port", clip(text)));
    }
    Ok(bare.to_ascii_lowercase())
}

fn absolute(field: &'static str, value: Option<String>) -> Result<Option<String>, Wrong> {
    let checked = |v: String| match crate::node::check_remote_path(&v) {
        Ok(()) => Ok(v),
        Err(e) => Err(Wrong { field, text: format!("{field}: {e}") }),
    };
    value.map(checked).transpose()
}

fn expand(field: &'static str, text: &str, inventory: &Path, home: Option<&Path>) -> Result<PathBuf, Wrong> {
    expanded(field, text, inventory, home).map_err(Wrong::of(field))
}

fn expanded(field: &str, text: &str, inventory: &Path, home: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(rest) = text.strip_prefix('~') {
        let Some(home) = home else { return Err(format!("{text}: no home folder is known: set HOME")) };
        return match rest.strip_prefix('/') {
            Some(rest) => Ok(home.join(rest)),
            None if rest.is_empty() => Ok(home.to_owned()),
            None => Err(format!("{}: only ~/ is understood, not other users' folders", clip(text))),
        };
    }
    if text.is_empty() {
        return Err(format!("{field} is empty: name a file or leave it out"));
    }
    Ok(inventory.parent().unwrap_or(Path::new("")).join(text))
}

#[cfg(unix)]
pub(super) fn readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o044 != 0)
}

#[cfg(not(unix))]
pub(super) fn readable_by_others(_: &Path) -> bool {
    false
}

pub(super) fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}
