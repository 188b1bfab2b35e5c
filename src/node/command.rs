//! What running a command has in common wherever it runs: the line for the shell, sudo, bounds on output and time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{CommandOutput, NodeError, Secret, quote};

/// A longer script does not fit into one argument (Linux: 128 KiB, `MAX_ARG_STRLEN`), in bytes.
const MAX_SCRIPT: usize = 100 << 10;
/// What sudo may print before it runs the command (its lecture, a message of the day), in bytes.
const MAX_LECTURE: usize = 64 << 10;
/// How long `sudo` may take to run the command or to ask for a password.
const SUDO_PATIENCE: Duration = Duration::from_secs(60);
/// How long output may still come after the command has ended: something that it left behind holds the pipes open.
const LINGER: Duration = Duration::from_secs(5);

/// Before every script: messages that can be parsed, and the folders that a non-interactive login or sudo's
/// `secure_path` leaves out, where k3s, crictl and nerdctl live.
const PRELUDE: &str = "LC_ALL=C; PATH=\"$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin\"; \
     export LC_ALL PATH\n";

/// Who runs a script.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wrap<'a> {
    /// The session's user.
    User,
    /// root, without being asked.
    Sudo,
    /// root, with this password if it is asked for.
    SudoWith(&'a Secret),
}

/// What sudo prints before anything may be fed to the command: `ready` comes from the shell that it started, `prompt`
/// from sudo itself. Without it a password that nobody asks for would reach the command, and a refused sudo would
/// swallow the command's input.
pub(super) struct Gate<'a> {
    ready: String,
    prompt: String,
    password: Option<&'a Secret>,
    prompts: u32,
}

pub(super) enum Feed {
    /// A line for sudo.
    Password(Bytes),
    /// All of the command's input, then its end.
    Input,
    /// No more.
    Eof,
}

impl<'a> Wrap<'a> {
    /// The line for the login shell. `sh -c` in front because that shell may be anything.
    pub(super) fn line(self, script: &str) -> Result<(String, Option<Gate<'a>>), NodeError> {
        if script.len() > MAX_SCRIPT {
            let text =
                format!("a script of {} bytes is too long for a command: feed data on stdin", script.len());
            return Err(NodeError::Other(text));
        }
        let mark = format!("{:016x}", fastrand::u64(..));
        let (ready, prompt) = (format!("omk-ready-{mark}\n"), format!("omk-password-{mark}"));
        let inner = quote(&format!("echo {} >&2\n{PRELUDE}{script}", ready.trim_end()));
        let (sudo, password) = match self {
            Self::User => {
                return Ok((format!("exec sh -c {}", quote(&format!("{PRELUDE}{script}"))), None));
            }
            Self::Sudo => ("-n".to_owned(), None),
            Self::SudoWith(password) => (format!("-k -S -p {prompt}"), Some(password)),
        };
        let line = format!("exec env LC_ALL=C sudo {sudo} -- sh -c {inner}");
        Ok((line, Some(Gate { ready, prompt, password, prompts: 0 })))
    }
}

pub(super) struct Run<'a> {
    /// `Some` until sudo has let the command in.
    gate: Option<Gate<'a>>,
    feed: mpsc::UnboundedSender<Feed>,
    output: CommandOutput,
    /// The exit status, once it is known.
    pub(super) status: Option<i32>,
    limit: usize,
    what: String,
    /// What a shell prints on standard error when the command has ended, followed by its status: where the way there has a
    /// status of its own.
    mark: Option<String>,
}

impl<'a> Run<'a> {
    /// With the receiver of what the command is to be fed, in order.
    pub(super) fn start(
        gate: Option<Gate<'a>>,
        limit: usize,
        what: String,
    ) -> (Self, mpsc::UnboundedReceiver<Feed>) {
        let (feed, feeds) = mpsc::unbounded_channel();
        let (output, status, mark) = (CommandOutput::default(), None, None);
        let run = Self { gate, feed, output, status, limit, what, mark };
        if run.gate.is_none() {
            run.let_in();
        }
        (run, feeds)
    }

    /// Only `mark`, a space, the status and a line feed on standard error tell the command's status.
    pub(super) fn ends_with(&mut self, mark: String) {
        self.mark = Some(mark);
    }

    /// Whether the mark of its end is still missing.
    pub(super) fn unmarked(&self) -> bool {
        self.mark.is_some()
    }

    fn let_in(&self) {
        // The receiver is gone only when the command takes nothing any more.
        let _ = self.feed.send(Feed::Input);
    }

    /// How long to wait for the next sign of life.
    pub(super) fn patience(&self, usual: Duration) -> Duration {
        match (self.status, &self.gate) {
            (Some(_), _) => LINGER,
            (None, Some(_)) => SUDO_PATIENCE.min(usual),
            (None, None) => usual,
        }
    }

    /// Nothing came for that long.
    pub(super) fn stalled(&self, patience: Duration) -> NodeError {
        match self.gate {
            Some(_) => NodeError::Sudo(
                "it neither ran the command nor asked for a password in a way that can be answered: allow \
                 NOPASSWD for this user or log in as root"
                    .to_owned(),
            ),
            None => NodeError::Stalled { what: self.what.clone(), seconds: patience.as_secs() },
        }
    }

    pub(super) fn stdout(&mut self, data: &[u8]) -> Result<(), NodeError> {
        self.output.stdout.extend_from_slice(data);
        self.check()
    }

    pub(super) fn stderr(&mut self, data: &[u8]) -> Result<(), NodeError> {
        self.output.stderr.extend_from_slice(data);
        self.pass_gate();
        self.pass_mark(data.len());
        self.check()
    }

    fn check(&self) -> Result<(), NodeError> {
        if self.gate.is_some() && self.output.stderr.len() > MAX_LECTURE {
            let text = format!("{} never came to it: sudo printed more than {MAX_LECTURE} bytes", self.what);
            return Err(NodeError::Sudo(text));
        }
        if self.output.stdout.len() + self.output.stderr.len() > self.limit {
            let text =
                format!("{} printed more than {} bytes, which no command of omk does", self.what, self.limit);
            return Err(NodeError::Other(text));
        }
        Ok(())
    }

    /// Takes the mark of the command's end out of its messages. `new`: bytes that have just come.
    fn pass_mark(&mut self, new: usize) {
        let Some(mark) = &self.mark else { return };
        let stderr = &mut self.output.stderr;
        let from = stderr.len().saturating_sub(new + mark.len() + 16);
        let Some(at) = find(&stderr[from..], mark.as_bytes()).map(|at| from + at) else { return };
        let rest = &stderr[at + mark.len()..];
        let Some(end) = rest.iter().position(|b| *b == b'\n') else { return };
        let status = std::str::from_utf8(&rest[..end]).ok().and_then(|s| s.trim().parse().ok());
        stderr.drain(at..=at + mark.len() + end);
        self.status = Some(status.unwrap_or(127));
        self.mark = None;
    }

    /// Looks for what sudo says and takes it out of the command's own messages.
    fn pass_gate(&mut self) {
        let Some(gate) = &mut self.gate else { return };
        let stderr = &mut self.output.stderr;
        while let Some(at) = find(stderr, gate.prompt.as_bytes()) {
            stderr.drain(at..at + gate.prompt.len());
            gate.prompts += 1;
            let _ = match gate.password {
                Some(password) if gate.prompts == 1 => {
                    self.feed.send(Feed::Password(Bytes::from(format!("{}\n", password.expose()))))
                }
                _ => self.feed.send(Feed::Eof),
            };
        }
        if let Some(at) = find(stderr, gate.ready.as_bytes()) {
            stderr.drain(..at + gate.ready.len());
            self.gate = None;
            self.let_in();
        }
    }

    /// What came on standard error.
    pub(super) fn complained(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// After the last output.
    pub(super) fn finish(mut self) -> Result<CommandOutput, NodeError> {
        self.output.status = self.status.ok_or_else(|| NodeError::Lost(self.what.clone()))?;
        let Some(gate) = &self.gate else { return Ok(self.output) };
        Err(refusal(gate.password.is_some(), gate.prompts, &self.complained(), &self.output.complaint()))
    }
}

/// The end of every message about sudo.
const ROOT: &str = "log in as root (`user: root`)";

/// Why sudo did not run the command. `said`: all that came; `complaint`: the last line of it.
fn refusal(password: bool, prompts: u32, said: &str, complaint: &str) -> NodeError {
    let line = |words: &[&str]| {
        let found = said.lines().map(str::trim).find(|l| words.iter().any(|w| l.contains(w)))?;
        // Older versions say on the same line that they tell somebody.
        let found = found.split(".  ").next().unwrap_or(found).trim_end_matches('.');
        // Then comes the command, which goes over many lines.
        let found = found.split_once(" to execute '").map_or(found, |(who, _)| who);
        Some(
            found
                .trim_start_matches("sudo: ")
                .chars()
                .filter(|c| !c.is_control())
                .take(300)
                .collect::<String>(),
        )
    };
    // `env` says it: GNU's, busybox's, and others'.
    let absent = complaint.starts_with("env:") && complaint.contains("sudo");
    if absent && ["No such file", "not found"].iter().any(|w| complaint.contains(w)) {
        return NodeError::Other(format!(
            "sudo is not installed on the node, and this user is not root: {ROOT}, or install sudo there and allow this user to run \
             commands as root (sudoers)"
        ));
    }
    // The second is that of sudo-rs.
    let stranger = line(&["is not in the sudoers file", "I'm afraid I can't do that"]);
    let limited = line(&["is not allowed to execute", "is not allowed to run sudo"]);
    NodeError::Sudo(match (stranger, limited) {
        (Some(line), _) => {
            format!("{line}: {ROOT}, or add this user to sudoers (`NAME ALL=(ALL) NOPASSWD: ALL` in a file in /etc/sudoers.d)")
        }
        (None, Some(line)) => {
            format!("{line}: omk runs `sh` as root; {ROOT}, or allow this user all commands in sudoers")
        }
        (None, None) if password && prompts > 1 => {
            "the password is wrong: correct it where it comes from, sudo_password in the inventory or --sudo-password-file".to_owned()
        }
        (None, None) if !password && complaint.contains("password is required")
            || complaint.contains("authentication is required") =>
        {
            format!(
                "it asks for a password, as it does of a user too whom sudoers does not name: give --ask-sudo-password, \
                 --sudo-password-file or sudo_password in the inventory, allow this user NOPASSWD in sudoers, or {ROOT}"
            )
        }
        (None, None) => {
            let complaint = complaint.strip_prefix("sudo: ").unwrap_or(complaint);
            format!("{complaint}: allow this user to run commands as root, or {ROOT}")
        }
    })
}

/// What `id -u; id -g` printed.
pub(super) fn ids(output: &CommandOutput) -> Result<(u32, u32), NodeError> {
    let text = output.text();
    let mut numbers = text.lines().map(|l| l.trim().parse::<u32>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(uid)), Some(Ok(gid))) => Ok((uid, gid)),
        _ => Err(NodeError::Command {
            what: "asking for the user's id".to_owned(),
            status: output.status,
            complaint: output.complaint(),
        }),
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// When something last moved.
pub(super) struct Clock {
    started: Instant,
    moved_ms: AtomicU64,
    pub(super) patience: Duration,
}

impl Clock {
    pub(super) fn start(patience: Duration) -> Self {
        Self { started: Instant::now(), moved_ms: AtomicU64::new(0), patience }
    }

    pub(super) fn touch(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(now, Ordering::Relaxed);
    }

    pub(super) async fn expired(&self, patience: Duration) {
        loop {
            let at = self.started + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed)) + patience;
            if Instant::now() >= at {
                return;
            }
            tokio::time::sleep_until(at).await;
        }
    }
}

/// The start of a script's first line, for messages.
pub(super) fn summary(script: &str) -> String {
    let line = script.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
    let mut text: String = line.chars().filter(|c| !c.is_control()).take(60).collect();
    if text.len() < script.trim().len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of sudo 1.8, 1.9 and sudo-rs, GNU's and busybox's env.
    #[test]
    fn who_cannot_use_sudo_is_told_why_and_what_to_do() {
        let told = |password, prompts, said: &str| {
            let output = CommandOutput { status: 1, stdout: Vec::new(), stderr: said.into() };
            refusal(password, prompts, said, &output.complaint()).to_string()
        };
        for absent in [
            "env: 'sudo': No such file or directory\n",
            "env: can't execute 'sudo': No such file or directory\n",
        ] {
            insta::allow_duplicates! {
                insta::assert_snapshot!(told(false, 0, absent), @"sudo is not installed on the node, and this user is not root: log in as root (`user: root`), or install sudo there and allow this user to run commands as root (sudoers)");
            }
        }
        for stranger in [
            "nosudo is not in the sudoers file.\n",
            "nosudo is not in the sudoers file.  This incident will be reported.\n",
            "\nnosudo is not in the sudoers file.\nThis incident has been reported to the administrator.\n",
        ] {
            insta::allow_duplicates! {
                insta::assert_snapshot!(told(true, 1, stranger), @"sudo refused: nosudo is not in the sudoers file: log in as root (`user: root`), or add this user to sudoers (`NAME ALL=(ALL) NOPASSWD: ALL` in a file in /etc/sudoers.d)");
            }
        }
        assert!(
            told(true, 1, "sudo: I'm sorry nosudo. I'm afraid I can't do that\n")
                .contains("add this user to sudoers")
        );
        let limited = "Sorry, user nosudo is not allowed to execute '/usr/bin/sh -c echo ready >&2\nid\n' as root on node1.\n";
        insta::assert_snapshot!(told(true, 1, limited), @"sudo refused: Sorry, user nosudo is not allowed: omk runs `sh` as root; log in as root (`user: root`), or allow this user all commands in sudoers");
        insta::assert_snapshot!(told(false, 0, "sudo: a password is required\n"), @"sudo refused: it asks for a password, as it does of a user too whom sudoers does not name: give --ask-sudo-password, --sudo-password-file or sudo_password in the inventory, allow this user NOPASSWD in sudoers, or log in as root (`user: root`)");
        assert_eq!(
            told(false, 0, "sudo: interactive authentication is required\n"),
            told(false, 0, "sudo: a password is required\n")
        );
        assert!(told(true, 2, "Sorry, try again.\n").contains("the password is wrong"));
        insta::assert_snapshot!(told(false, 0, "sudo: /usr/bin/sudo must be owned by uid 0 and have the setuid bit set\n"), @"sudo refused: /usr/bin/sudo must be owned by uid 0 and have the setuid bit set: allow this user to run commands as root, or log in as root (`user: root`)");
    }
}
