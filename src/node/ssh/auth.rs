//! Logging in, in the order of OpenSSH: the named keys, the agent's, the usual files; then what a person knows. A server
//! may want several of them one after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse as Round};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::{AgentClient, AgentStream};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use russh::{MethodKind, MethodSet};

use super::connect::Client;
use super::keys::{self, KeyFile, Local};
use super::route::{Route, distinct};
use super::{SshOptions, prompt};
use crate::node::{NodeError, Secret};

mod agent;

/// Marks what was looked at and not offered to the server.
const NOT_USED: &str = "not used";
/// Keys of the agent that are offered unasked; OpenSSH's `MaxAuthTries` is 6.
const AGENT_KEYS: usize = 5;
/// A person may have to touch a token or confirm the use of a key.
const AGENT_PATIENCE: Duration = Duration::from_secs(60);
/// As `NumberOfPasswordPrompts`.
const PASSWORDS: usize = 3;

type AnyAgent = AgentClient<Box<dyn AgentStream + Send + Unpin + 'static>>;

pub(super) struct Login<'a> {
    pub(super) address: &'a str,
    pub(super) user: &'a str,
    /// Of the inventory.
    pub(super) identity: Option<&'a Path>,
    pub(super) route: &'a Route,
    pub(super) options: &'a SshOptions,
    /// For a host on the way a password is its own, not that of all nodes.
    pub(super) jump: bool,
}

/// A key to offer.
enum Candidate {
    Agent(Box<AgentIdentity>),
    File(PathBuf, Arc<PrivateKey>),
    /// Opened when its turn comes; the text of the file.
    Locked(PathBuf, String),
}

/// What is known about the way in so far.
#[derive(Default)]
struct State {
    /// Ways that the server takes; `None`: it was not asked yet.
    methods: Option<MethodSet>,
    tried: Vec<String>,
    hint: Option<String>,
    /// A way was accepted, and the server wants another one too.
    partial: bool,
    locked: Vec<PathBuf>,
    offered: usize,
}

enum Step {
    In,
    Out,
}

impl State {
    fn takes(&self, method: MethodKind) -> bool {
        self.methods.as_ref().is_some_and(|m| m.contains(&method))
    }
}

impl Login<'_> {
    /// With how it was done, for people.
    pub(super) async fn run(
        &self,
        mut handle: Handle<Client>,
    ) -> Result<(Handle<Client>, String), NodeError> {
        let mut state = State::default();
        let rsa = self.bounded(self.options.connect_timeout, handle.best_supported_rsa_hash()).await?;
        // A server that does not say takes SHA-2; plain ssh-rsa (SHA-1) only where it says that it has nothing else.
        let rsa = rsa.ok().flatten().unwrap_or(Some(HashAlg::Sha512));
        let mut agent = self.agent(&mut handle, &mut state).await?;
        let mut candidates = self.candidates(&mut agent, &mut state).await?.into_iter();
        let (mut rounds, mut passwords) = (PASSWORDS, PASSWORDS);
        let mut known = None;
        loop {
            let keys = !self.route.without.public_key
                && (state.methods.is_none() || state.takes(MethodKind::PublicKey));
            let step = if let Some(candidate) = keys.then(|| candidates.next()).flatten() {
                self.key(&mut handle, candidate, rsa, agent.as_mut(), &mut state).await?
            } else if state.methods.is_none() {
                let result = self.bounded(self.options.connect_timeout, handle.authenticate_none(self.user));
                let result = result.await?;
                self.judge(&handle, result, &mut state)?
            } else if rounds > 0
                && !self.route.without.interactive
                && state.takes(MethodKind::KeyboardInteractive)
            {
                rounds -= 1;
                let answered = self.interactive(&mut handle, &mut known, &mut state).await?;
                answered.unwrap_or_else(|| {
                    rounds = 0;
                    Step::Out
                })
            } else if passwords > 0 && !self.route.without.password && state.takes(MethodKind::Password) {
                passwords -= 1;
                let answered = self.password(&mut handle, &mut known, &mut state).await?;
                answered.unwrap_or_else(|| {
                    passwords = 0;
                    Step::Out
                })
            } else {
                return Err(self.refused(state));
            };
            if let Step::In = step {
                let how =
                    state.tried.pop().unwrap_or_else(|| "nothing: the server asks for nothing".to_owned());
                return Ok((handle, how));
            }
            if handle.is_closed() {
                // OpenSSH hangs up after MaxAuthTries.
                if state.offered > 2 {
                    let hint = "the server hung up after that many: name the one key that fits as identity";
                    state.hint.get_or_insert_with(|| hint.to_owned());
                    return Err(self.refused(state));
                }
                return Err(self.lost());
            }
        }
    }

    fn refused(&self, state: State) -> NodeError {
        let State { mut tried, hint, partial, locked, methods, offered } = state;
        if tried.is_empty() {
            tried.push("nothing, there is no key and no agent".to_owned());
        }
        let takes: Vec<MethodKind> = methods.map(|m| m.to_vec()).unwrap_or_default();
        let asks = takes.contains(&MethodKind::Password) || takes.contains(&MethodKind::KeyboardInteractive);
        let hint = hint.unwrap_or_else(|| match locked.first() {
            Some(key) => format!(
                "{} has a passphrase: ssh-add it to an agent first, or give --passphrase-file; on a terminal it is asked for",
                key.display()
            ),
            None if partial => format!("one way was accepted, but the server wants {} too", names(&takes)),
            None if takes.contains(&MethodKind::GssapiWithMic) && !takes.contains(&MethodKind::PublicKey) => {
                "the server wants Kerberos, which omk does not speak: allow a key for this user".to_owned()
            }
            None if asks && !takes.contains(&MethodKind::PublicKey) => format!(
                "the server takes no key, only {}: give password in the inventory or --password-file; on a terminal it is \
                 asked for",
                names(&takes)
            ),
            None if !takes.is_empty() && !takes.contains(&MethodKind::PublicKey) => {
                format!("the server takes no further key, only {}: check its sshd_config", names(&takes))
            }
            None if self.jump => "of a jump host, only IdentityFile in ssh_config and the agent's keys count, as with ssh: neither \
                                  identity in the inventory nor --identity; name its key and User in a Host block for it, or \
                                  ssh-add the key to an agent"
                .to_owned(),
            None if offered == 0 => "no key could be offered: name a private key file as identity in the inventory, or \
                                     ssh-add one to an agent"
                .to_owned(),
            None => format!(
                "put the public key into ~{}/.ssh/authorized_keys on the node, or correct user or identity",
                self.user
            ),
        });
        NodeError::Auth {
            address: self.address.to_owned(),
            user: self.user.to_owned(),
            tried: tried.join(", "),
            hint,
        }
    }

    /// Named files first, each through the agent where that holds it; then the rest of the agent; files that have to be
    /// opened last, so that nobody is asked for what was not needed.
    async fn candidates(
        &self,
        agent: &mut Option<AnyAgent>,
        state: &mut State,
    ) -> Result<Vec<Candidate>, NodeError> {
        let mut held = self.held(agent, state).await?;
        let explicit = self.identity.map(Path::to_path_buf);
        let only = self.route.identities_only;
        let named = distinct(explicit.into_iter().chain(self.route.identities.iter().cloned()));
        let usual = named.is_empty();
        let files: Vec<PathBuf> = match (&self.options.home, usual) {
            (Some(home), true) => ["id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk"]
                .map(|name| home.join(".ssh").join(name))
                .into_iter()
                .filter(|path| path.exists())
                .collect(),
            _ => named,
        };
        let (mut first, mut later, mut locked) = (Vec::new(), Vec::new(), Vec::new());
        for path in files {
            let public = keys::public_half(&path);
            let same = |id: &AgentIdentity| {
                public.as_ref().is_some_and(|p| id.public_key().key_data() == p.key_data())
            };
            let (own, others) = held.into_iter().partition(same);
            held = others;
            let own: Vec<AgentIdentity> = own;
            if !own.is_empty() {
                // The certificate beside the file speaks for the agent's key too.
                let extra =
                    public.iter().flat_map(|p| keys::certificates(p, Some(&path), &self.route.certificates));
                first.extend(extra.map(|certificate| {
                    Candidate::Agent(Box::new(AgentIdentity::Certificate {
                        certificate,
                        comment: String::new(),
                    }))
                }));
                first.extend(own.into_iter().map(|id| Candidate::Agent(Box::new(id))));
                continue;
            }
            let list = if usual { &mut later } else { &mut first };
            match keys::read_key(&path) {
                KeyFile::Usable(key) => list.push(Candidate::File(path, key)),
                KeyFile::Encrypted(text) => locked.push(Candidate::Locked(path, text)),
                // As ssh: a file of ssh_config that is not there is passed over.
                KeyFile::Unusable(_) if self.identity != Some(path.as_path()) && !path.exists() => {}
                KeyFile::Unusable(why) => {
                    state.tried.push(format!("{} ({NOT_USED}: {why})", path.display()));
                }
            }
        }
        if !only {
            first.extend(held.into_iter().take(AGENT_KEYS).map(|id| Candidate::Agent(Box::new(id))));
        }
        first.extend(later);
        first.extend(locked);
        Ok(first)
    }

    async fn key(
        &self,
        handle: &mut Handle<Client>,
        candidate: Candidate,
        rsa: Option<HashAlg>,
        agent: Option<&mut AnyAgent>,
        state: &mut State,
    ) -> Result<Step, NodeError> {
        let (path, key) = match candidate {
            Candidate::Agent(identity) => {
                let Some(agent) = agent else { return Ok(Step::Out) };
                return self.agent_key(handle, *identity, rsa, agent, state).await;
            }
            Candidate::File(path, key) => (path, key),
            Candidate::Locked(path, text) => match self.options.secrets.open_key(&path, &text).await {
                Ok(key) => (path, key),
                Err(why) => {
                    state.tried.push(format!("{} ({NOT_USED}: {why})", path.display()));
                    state.locked.push(path);
                    return Ok(Step::Out);
                }
            },
        };
        for certificate in keys::certificates(key.public_key(), Some(&path), &self.route.certificates) {
            let id: String = certificate.key_id().chars().filter(|c| !c.is_control()).take(60).collect();
            state.tried.push(format!("{} with the certificate {id:?}", path.display()));
            state.offered += 1;
            let mut signer = Local(Arc::clone(&key));
            let attempt = handle.authenticate_certificate_with(self.user, certificate, rsa, &mut signer);
            match self.bounded(self.options.connect_timeout, attempt).await? {
                Ok(result) => {
                    if let Step::In = self.judge(handle, Ok(result), state)? {
                        return Ok(Step::In);
                    }
                }
                Err(_) if handle.is_closed() => return Err(self.lost()),
                Err(e) => note(state, &e.to_string()),
            }
            if !state.takes(MethodKind::PublicKey) {
                return Ok(Step::Out);
            }
        }
        state.tried.push(format!("{} ({})", path.display(), describe(key.public_key())));
        state.offered += 1;
        let attempt = handle.authenticate_publickey(self.user, PrivateKeyWithHashAlg::new(key, rsa));
        let result = self.bounded(self.options.connect_timeout, attempt).await?;
        self.judge(handle, result, state)
    }

    /// The password that is given or asked for; `known` is the one that was last tried, and refused.
    async fn secret(&self, known: &mut Option<Secret>) -> Option<Secret> {
        let given = self.route.password.as_ref();
        let secret = match given {
            Some(password) if known.is_none() => password.clone(),
            Some(_) => return None,
            None => {
                let secrets = &self.options.secrets;
                if self.jump {
                    let at = format!("{}@{}", self.user, self.address);
                    secrets.password_of_one(&at, &format!("password of {at}: "), known.as_ref()).await?
                } else {
                    let question = format!("password of {} on the nodes ({}): ", self.user, self.address);
                    secrets.password(self.user, &question, known.as_ref()).await?
                }
            }
        };
        if known.as_ref() == Some(&secret) {
            return None;
        }
        *known = Some(secret.clone());
        Some(secret)
    }

    /// `None`: there is no password to try.
    async fn password(
        &self,
        handle: &mut Handle<Client>,
        known: &mut Option<Secret>,
        state: &mut State,
    ) -> Result<Option<Step>, NodeError> {
        let Some(secret) = self.secret(known).await else { return Ok(None) };
        state.tried.push("a password".to_owned());
        state.offered += 1;
        let attempt = handle.authenticate_password(self.user, secret.expose());
        let result = self.bounded(AGENT_PATIENCE, attempt).await?;
        let step = self.judge(handle, result, state)?;
        if let (Step::Out, false) = (&step, state.partial) {
            state.hint = Some("the password is wrong".to_owned());
        }
        Ok(Some(step))
    }

    /// Questions of the server. A lone one for a password is answered with it; whatever else it asks is put to whoever sits
    /// there, each time. `None`: nobody can answer.
    async fn interactive(
        &self,
        handle: &mut Handle<Client>,
        known: &mut Option<Secret>,
        state: &mut State,
    ) -> Result<Option<Step>, NodeError> {
        let start = handle.authenticate_keyboard_interactive_start(self.user, None);
        let mut round = self.bounded(self.options.connect_timeout, start).await?;
        let before = state.tried.len();
        for _ in 0..prompt::ROUNDS {
            let (questions, header) = match round {
                Ok(Round::Success) => {
                    if state.tried.len() == before {
                        state.tried.push("keyboard-interactive".to_owned());
                    }
                    return Ok(Some(Step::In));
                }
                Ok(Round::Failure { remaining_methods, partial_success }) => {
                    let result = AuthResult::Failure { remaining_methods, partial_success };
                    let step = self.judge(handle, Ok(result), state)?;
                    if state.tried.len() > before && !state.partial {
                        state.hint = Some("an answer to the server's questions is wrong".to_owned());
                    }
                    // Without a question nothing would be different the next time.
                    return Ok((state.tried.len() > before || state.partial).then_some(step));
                }
                Ok(Round::InfoRequest { name, instructions, prompts }) => {
                    (prompts, prompt::header(self.address, &name, &instructions))
                }
                Err(_) => return Err(self.lost()),
            };
            if questions.len() > prompt::QUESTIONS {
                return Err(NodeError::Other(format!(
                    "{} asks {} questions at once",
                    self.address,
                    questions.len()
                )));
            }
            let lone = questions.len() == 1;
            let mut answers = Vec::new();
            for question in questions {
                let answer = if lone && prompt::wants_password(&question.prompt, question.echo) {
                    if state.tried.last().is_none_or(|t| !t.starts_with("a password")) {
                        state.tried.push("a password (keyboard-interactive)".to_owned());
                    }
                    self.secret(known).await
                } else {
                    if !self.options.secrets.can_ask() {
                        state.hint.get_or_insert_with(|| {
                            format!(
                                "the server asks {:?}, and there is no terminal to ask at",
                                prompt::clean(&question.prompt)
                            )
                        });
                    }
                    state.tried.push(format!("an answer to {:?}", prompt::clean(&question.prompt)));
                    let text = format!("{header}{} ", prompt::clean(&question.prompt));
                    self.options.secrets.answer(&text, question.echo).await
                };
                let Some(answer) = answer else { return Ok(None) };
                state.offered += 1;
                answers.push(answer.expose().to_owned());
            }
            let respond = handle.authenticate_keyboard_interactive_respond(answers);
            round = self.bounded(AGENT_PATIENCE, respond).await?;
        }
        Err(NodeError::Other(format!("{} asks questions without end", self.address)))
    }

    fn judge(
        &self,
        handle: &Handle<Client>,
        result: Result<AuthResult, russh::Error>,
        state: &mut State,
    ) -> Result<Step, NodeError> {
        match result {
            Ok(AuthResult::Success) => Ok(Step::In),
            Ok(AuthResult::Failure { remaining_methods, .. })
                if handle.is_closed() && remaining_methods.is_empty() =>
            {
                if state.offered > 2 {
                    Ok(Step::Out)
                } else {
                    Err(self.lost())
                }
            }
            Ok(AuthResult::Failure { remaining_methods, partial_success }) => {
                state.methods = Some(remaining_methods);
                if partial_success {
                    state.partial = true;
                    state.hint = None;
                    note(state, "accepted, more is wanted");
                }
                Ok(Step::Out)
            }
            Err(_) if state.offered > 2 => Ok(Step::Out),
            Err(_) => Err(self.lost()),
        }
    }

    fn lost(&self) -> NodeError {
        NodeError::Lost(format!("logging in to {} as {}", self.address, self.user))
    }

    async fn bounded<T>(&self, limit: Duration, attempt: impl Future<Output = T>) -> Result<T, NodeError> {
        tokio::time::timeout(limit, attempt).await.map_err(|_| NodeError::Stalled {
            what: format!("logging in to {}", self.address),
            seconds: limit.as_secs(),
        })
    }
}

/// About what was tried last.
fn note(state: &mut State, text: &str) {
    if let Some(last) = state.tried.last_mut() {
        last.push_str(&format!(" ({text})"));
    }
}

fn names(methods: &[MethodKind]) -> String {
    let names: Vec<String> = methods.iter().map(|m| <&str>::from(m).to_owned()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn describe(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm().as_str(), key.fingerprint(HashAlg::Sha256))
}
