//! What OpenSSH's client prints when it fails, in the terms of [`NodeError`].

use crate::node::NodeError;

/// Why it did not log in. `said`: the end of its standard error, with control characters taken out line by line.
pub(super) fn login(said: &str, host: &str, address: &str, user: &str) -> NodeError {
    let lines: Vec<String> = said
        .lines()
        .map(|l| l.chars().filter(|c| !c.is_control()).take(300).collect::<String>().trim().to_owned())
        .filter(|l| !l.is_empty())
        .collect();
    let has = |words: &str| lines.iter().any(|l| l.contains(words));
    let line = |words: &[&str]| {
        let mut found = lines.iter().filter(|l| words.iter().any(|w| l.contains(w)));
        found.next().cloned()
    };
    if has("Host key verification failed") || has("HOST IDENTIFICATION HAS CHANGED") {
        let changed = has("HOST IDENTIFICATION HAS CHANGED");
        let fingerprint = line(&["SHA256:"]).map(|l| format!(" ({l})")).unwrap_or_default();
        let offending = line(&["Offending"]).map(|l| format!("; {l}")).unwrap_or_default();
        return NodeError::HostKey(match changed {
            true => format!(
                "ssh: the host key of {address} is not the recorded one{fingerprint}{offending}: ask who runs the host, then \
                 remove that line"
            ),
            false => format!(
                "ssh does not know the host key of {address}: run `ssh {host}` once and compare the fingerprint, or pass \
                 --host-keys accept-new"
            ),
        });
    }
    if let Some(denied) = line(&["Permission denied", "Too many authentication failures"]) {
        return NodeError::Auth {
            address: address.to_owned(),
            user: user.to_owned(),
            tried: format!("what ssh has that needs no answer ({denied})"),
            hint: format!(
                "see what `ssh -v {host}` needs; load the key into the agent or get a ticket (kinit) first: ssh is run \
                 without a terminal and is not told any password"
            ),
        };
    }
    let lost =
        ["kex_exchange_identification", "Connection reset by", "Connection closed by", "banner exchange"];
    let last = lines.last().map_or("it gave no reason", String::as_str);
    let last = last.strip_prefix("ssh: ").unwrap_or(last);
    match line(&lost) {
        // What a proxy says comes before ssh's own complaint about it.
        Some(_) if !has("UNKNOWN port") => NodeError::Lost(format!("connecting ({last})")),
        Some(_) => {
            let own = |l: &&String| lost.iter().any(|w| l.contains(w));
            let why = lines.iter().find(|l| !own(l)).map_or(last, String::as_str);
            NodeError::Connect { address: address.to_owned(), reason: format!("the way to it failed: {why}") }
        }
        None => NodeError::Connect { address: address.to_owned(), reason: last.to_owned() },
    }
}

/// Hosts and the kinds of their keys that `ssh` recorded as those of new hosts: of the node and of those on the way to it.
pub(super) fn recorded(said: &str) -> Vec<(String, String)> {
    let one = |line: &str| {
        let (host, rest) = line.trim().strip_prefix("Warning: Permanently added '")?.split_once("' (")?;
        let (kind, _) = rest.split_once(')')?;
        let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(300).collect();
        Some((plain(host), plain(kind)))
    };
    said.lines().filter_map(one).collect()
}

/// Whether the server refused a channel because the connection has too many (`MaxSessions`).
pub(super) fn too_many(said: &str) -> bool {
    said.contains("Session open refused by peer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(said: &str) -> NodeError {
        login(said, "n1", "10.0.0.1:22", "core")
    }

    #[test]
    fn what_ssh_has_recorded_is_read() {
        let said = "Warning: Permanently added 'jump' (RSA) to the list of known hosts.\r\na banner\nWarning: Permanently added '[10.0.0.1]:2222' (ED25519) to the list of known hosts.\r\n";
        assert_eq!(
            recorded(said),
            [("jump".into(), "RSA".into()), ("[10.0.0.1]:2222".into(), "ED25519".into())]
        );
        assert!(recorded("Warning: Permanently").is_empty());
    }

    /// Texts of OpenSSH 9.2.
    #[test]
    fn what_ssh_says_is_told_in_omks_words() {
        let error = of("root@10.0.0.1: Permission denied (publickey,gssapi-with-mic).\r\n");
        assert!(matches!(&error, NodeError::Auth { .. }) && error.to_string().contains("gssapi-with-mic"));
        let unknown = of(
            "No ED25519 host key is known for n1 and you have requested strict checking.\r\nHost key verification failed.\r\n",
        );
        assert!(
            matches!(&unknown, NodeError::HostKey(t) if t.contains("ssh n1") && t.contains("accept-new"))
        );
        let changed = of("@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n\
             The fingerprint for the ED25519 key sent by the remote host is\nSHA256:abc.\n\
             Offending ED25519 key in /home/u/.ssh/known_hosts:3\nHost key verification failed.\n");
        let text = changed.to_string();
        assert!(text.contains("SHA256:abc") && text.contains("known_hosts:3"), "{text}");
        let refused = of("ssh: connect to host 10.0.0.1 port 22: Connection refused\r\n");
        assert_eq!(
            refused.to_string(),
            "cannot reach 10.0.0.1:22: connect to host 10.0.0.1 port 22: Connection refused (does sshd run there, on this port?)"
        );
        for dropped in [
            "kex_exchange_identification: read: Connection reset by peer\nConnection reset by 10.0.0.1 port 22\n",
            "kex_exchange_identification: Connection closed by remote host\nConnection closed by 10.0.0.1 port 22\n",
        ] {
            assert!(matches!(of(dropped), NodeError::Lost(_)), "{dropped}");
        }
        let proxy =
            of("bastion: no such realm\nkex_exchange_identification: Connection closed by remote host\n\
             Connection closed by UNKNOWN port 65535\n");
        assert!(
            matches!(&proxy, NodeError::Connect { reason, .. } if reason.ends_with("no such realm")),
            "{proxy}"
        );
        assert!(matches!(of(""), NodeError::Connect { .. }));
    }
}
