//! The login name of whoever runs omk.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// As `ssh` finds it: by the user id, in `/etc/passwd`, then wherever else this machine keeps its users (`id` knows LDAP and the
/// like); where nobody knows the id, what the environment says. `USER` alone is not enough: cron, containers and services run
/// without it, and after `su` it may be somebody else's.
///
/// Asked once for all of the process: every node that a run changes wants to know, and `id` may have to ask a directory server.
pub fn login_name() -> Option<String> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    NAME.get_or_init(find).clone()
}

fn find() -> Option<String> {
    let uid = rustix::process::getuid().as_raw();
    let env = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    std::fs::read_to_string("/etc/passwd")
        .ok()
        .and_then(|text| in_passwd(&text, uid))
        .or_else(from_id)
        .or_else(|| env("USER"))
        .or_else(|| env("LOGNAME"))
}

fn in_passwd(text: &str, uid: u32) -> Option<String> {
    let name = |line: &str| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (!name.is_empty() && id.parse() == Ok(uid)).then(|| name.to_owned())
    };
    text.lines().find_map(name)
}

fn from_id() -> Option<String> {
    let done = Command::new("id").arg("-un").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let name = String::from_utf8(done.stdout).ok()?.trim().to_owned();
    (done.status.success() && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_id() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbroken\n:x:7:\nada:x:1000:1000::/home/ada:/bin/sh\ntoor:x:0:0::/:/bin/sh\n";
        assert_eq!(in_passwd(text, 0).as_deref(), Some("root"));
        assert_eq!(in_passwd(text, 1000).as_deref(), Some("ada"));
        assert_eq!((in_passwd(text, 7), in_passwd(text, 100)), (None, None));
    }
}
