//! Programs that know logins: Docker's `docker-credential-*`, and what kubelet's providers have in common with them.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Login, MAX_BYTES, Secret};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a program printed, and whether it called that a success.
pub(super) struct Said {
    pub(super) good: bool,
    pub(super) text: Vec<u8>,
}

/// Runs a program with `input` on its standard input; what it prints and how long it takes is bounded.
pub(super) async fn run(
    program: &std::ffi::OsStr,
    args: &[&str],
    env: &[(String, String)],
    input: &[u8],
) -> Result<Said, String> {
    let name = program.to_string_lossy().into_owned();
    let work = async {
        let mut child = tokio::process::Command::new(program)
            .args(args)
            .envs(env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that answers without reading closes its end.
            let _ = stdin.write_all(input).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_BYTES + 1).read_to_end(&mut answer).await?;
        }
        if answer.len() as u64 > MAX_BYTES {
            return Err(std::io::Error::other("it prints more than the 1 MiB that are read"));
        }
        Ok::<_, std::io::Error>((child.wait().await?, answer))
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Err(_) => Err(format!("{name} gave no answer within {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => Err(format!("cannot run {name}: {error}")),
        Ok(Ok((status, text))) => Ok(Said { good: status.success(), text }),
    }
}

/// Whether this can be the name of a program in a folder, and nothing else.
pub(super) fn is_name(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(known)
}

fn program(name: &str) -> Result<String, String> {
    if !is_name(name) {
        return Err(format!("{name:?} is no name of a credential helper"));
    }
    Ok(format!("docker-credential-{name}"))
}

/// As Docker names it in its files.
pub(super) fn server(registry: &str) -> &str {
    if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry }
}

/// The protocol of `docker-credential-*`: the registry on standard input, JSON on standard output.
pub(super) async fn get(name: &str, registry: &str) -> Result<Option<Login>, String> {
    ask(&program(name)?, registry).await
}

pub(super) async fn ask(program: &str, registry: &str) -> Result<Option<Login>, String> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Username", default)]
        user: String,
        #[serde(rename = "Secret", default)]
        secret: String,
    }
    let said = run(program.as_ref(), &["get"], &[], server(registry).as_bytes()).await?;
    if !said.good {
        // On failure it prints a message; only this one means that there is no login.
        let text = String::from_utf8_lossy(&said.text);
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(format!("{program} failed{}", crate::registry::error::said(&text)));
    }
    let answer: Answer =
        serde_json::from_slice(&said.text).map_err(|_| format!("{program} printed no valid answer"))?;
    // Some answer like this for what they do not have.
    if answer.user.is_empty() && answer.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(Login { user: answer.user, password: Secret::new(answer.secret) }))
}

/// Hands a login to a helper, which keeps it.
pub(super) async fn store(name: &str, registry: &str, login: &Login) -> Result<(), String> {
    let program = program(name)?;
    let input = serde_json::json!({
        "ServerURL": server(registry), "Username": login.user, "Secret": login.password.expose(),
    });
    let said = run(program.as_ref(), &["store"], &[], input.to_string().as_bytes()).await?;
    // What it prints on failure might repeat what it was given.
    if said.good { Ok(()) } else { Err(format!("{program} did not take the login; is its keychain open?")) }
}

/// Has a helper forget a login; false where it had none.
pub(super) async fn erase(name: &str, registry: &str) -> Result<bool, String> {
    if get(name, registry).await?.is_none() {
        return Ok(false);
    }
    let program = program(name)?;
    let said = run(program.as_ref(), &["erase"], &[], server(registry).as_bytes()).await?;
    if said.good { Ok(true) } else { Err(format!("{program} did not erase the login")) }
}
