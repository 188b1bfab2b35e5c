use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;

/// Who may read.
#[derive(Clone, Default)]
pub enum Access {
    /// Everybody.
    #[default]
    Open,
    /// One user, by HTTP Basic.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// By a token for one repository, fetched from `/token` of the same server.
    Bearer {
        /// Who gets one; `None`: everybody.
        login: Option<(String, String)>,
        /// How long a token is good for.
        lifetime: Duration,
    },
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Basic { .. } => "Basic",
            Self::Bearer { .. } => "Bearer",
        })
    }
}

/// Tokens that are out: the repository that each is for, and until when.
#[derive(Default)]
pub(super) struct Tokens(Mutex<BTreeMap<String, (String, Instant)>>);

impl Access {
    /// Whether a request for `repository` with this `Authorization` header may pass; else the challenge.
    pub(super) fn check(
        &self,
        tokens: &Tokens,
        address: SocketAddr,
        repository: Option<&str>,
        header: Option<&str>,
    ) -> Result<(), String> {
        match self {
            Self::Open => Ok(()),
            Self::Basic { user, password } if is_login(header, user, password) => Ok(()),
            Self::Basic { .. } => Err("Basic realm=\"omk\"".to_owned()),
            Self::Bearer { .. } => {
                let token = header.and_then(|h| h.strip_prefix("Bearer ")).unwrap_or_default();
                if tokens.is_good(token, repository) {
                    return Ok(());
                }
                let scope = repository.map(|r| format!(",scope=\"repository:{r}:pull\"")).unwrap_or_default();
                Err(format!("Bearer realm=\"http://{address}/token\",service=\"omk\"{scope}"))
            }
        }
    }

    /// The answer to `/token`: a JSON document, or nothing for who is not let in.
    pub(super) fn token(&self, tokens: &Tokens, query: &str, header: Option<&str>) -> Option<String> {
        let Self::Bearer { login, lifetime } = self else { return None };
        if let Some((user, password)) = login
            && !is_login(header, user, password)
        {
            return None;
        }
        let scope = query.split('&').find_map(|p| p.strip_prefix("scope="))?;
        let scope = scope.replace("%3A", ":").replace("%2F", "/");
        let repository = scope.strip_prefix("repository:")?.rsplit_once(':')?.0;
        let token = tokens.issue(repository, *lifetime);
        // A whole number: Go's clients read no other.
        Some(serde_json::json!({"token": token, "expires_in": lifetime.as_secs()}).to_string())
    }
}

fn is_login(header: Option<&str>, user: &str, password: &str) -> bool {
    let expected = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let given = header.and_then(|h| h.strip_prefix("Basic ")).unwrap_or_default();
    // Every byte is compared, so that the time taken tells nothing about where they differ.
    given.len() == expected.len() && given.bytes().zip(expected.bytes()).fold(0, |d, (a, b)| d | (a ^ b)) == 0
}

impl Tokens {
    fn issue(&self, repository: &str, lifetime: Duration) -> String {
        // The standard library seeds every RandomState from the operating system.
        let part = || std::hash::RandomState::new().build_hasher().finish();
        let token = format!("{:016x}{:016x}", part(), part());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        all.retain(|_, (_, until)| *until > now);
        all.insert(token.clone(), (repository.to_owned(), now + lifetime));
        token
    }

    fn is_good(&self, token: &str, repository: Option<&str>) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(token).is_some_and(|(of, until)| {
            *until > Instant::now() && repository.is_none_or(|wanted| wanted == of)
        })
    }
}
