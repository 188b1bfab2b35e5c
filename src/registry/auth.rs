//! Logging in: what a registry asks for, and the token that answers it (distribution's token authentication, which
//! every registry follows).

use std::time::{Duration, Instant};

use http_auth::parser::ChallengeParser;
use oci_client::token_cache::{RegistryToken, RegistryTokenType};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::credentials::{Login, Secret};
use super::http::{Http, Target, read_bounded};
use super::retry::Failure;
use super::{RegistryError, error};

/// What a registry asks for with 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// The challenge to answer among all that were sent: a token goes before a password, for it is worth less when lost.
pub(super) fn choose<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let mut found = None;
    for value in headers {
        // After a syntax error the parser ends; what came before it counts.
        for challenge in ChallengeParser::new(value).map_while(Result::ok) {
            let parameter = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = parameter("realm") {
                    return Some(Challenge::Bearer { realm, service: parameter("service") });
                }
            } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                found = Some(Challenge::Basic);
            }
        }
    }
    found
}

/// What the parser of challenges makes of one header: `basic`, or the realm and service of a token. For fuzzing.
#[doc(hidden)]
pub fn parse_challenge(header: &str) -> Option<(String, Option<String>)> {
    choose([header]).map(|challenge| match challenge {
        Challenge::Basic => ("basic".to_owned(), None),
        Challenge::Bearer { realm, service } => (realm, service),
    })
}

/// Where we stand with one repository: tokens are good for one. No `Debug`: `login` would show a password there.
#[derive(Default)]
pub(super) struct Session {
    header: Option<HeaderValue>,
    /// What `header` is made of, in the form that `oci-client` takes.
    pub(super) login: Option<RegistryTokenType>,
    until: Option<Instant>,
    challenge: Option<Challenge>,
    /// Counts logins, so that of many requests that were refused at once only the first logs in again.
    generation: u64,
    /// Whether the repository ever answered with a success.
    pub(super) answered: bool,
    /// The login that `oci-client` has.
    pub(super) handed: u64,
    /// A login that is good, but not in the hands of `oci-client`.
    pub(super) unfit: Option<u64>,
}

impl Session {
    /// The header to send, and which login it is of.
    pub(super) fn current(&self) -> (Option<HeaderValue>, u64) {
        (self.header.clone(), self.generation)
    }

    fn is_stale(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Gets a new token when the one at hand has run out, without first being refused.
    pub(super) async fn refresh(&mut self, http: &Http, target: &Target<'_>) -> Result<(), Failure> {
        match self.challenge.clone() {
            Some(challenge) if self.is_stale() => self.log_in(http, target, challenge).await,
            _ => Ok(()),
        }
    }

    /// Answers a 401 that was given to the login `seen`.
    pub(super) async fn answer(
        &mut self,
        http: &Http,
        target: &Target<'_>,
        headers: &HeaderMap,
        seen: u64,
    ) -> Result<(), Failure> {
        if self.generation != seen {
            return Ok(());
        }
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let challenge = choose(values).ok_or_else(|| {
            let reason = "401 without a Basic or Bearer challenge".to_owned();
            Failure::last(target.protocol(reason))
        })?;
        self.log_in(http, target, challenge).await
    }

    async fn log_in(
        &mut self,
        http: &Http,
        target: &Target<'_>,
        challenge: Challenge,
    ) -> Result<(), Failure> {
        let login = http.options.credentials.find(target.registry, target.repository).await;
        let (header, until, login) = match &challenge {
            Challenge::Basic => {
                let login = login.map_err(Failure::last)?;
                let login = login.ok_or_else(|| Failure::last(refused(target, None, String::new())))?;
                if login.is_identity() {
                    let reason = "there is an identity token, and this registry wants a user and a password; log in with these";
                    let (registry, reason) = (target.registry.to_owned(), reason.to_owned());
                    return Err(Failure::last(RegistryError::Credentials { registry, reason }));
                }
                let parts = (login.user.clone(), login.password.expose().to_owned());
                (login.basic(), None, RegistryTokenType::Basic(parts.0, parts.1))
            }
            Challenge::Bearer { realm, service } => {
                // A login that cannot be read (the helper of a desktop that is not here) does not matter for what
                // everybody may pull; when the registry refuses, `refusal` tells of it.
                let login = login.ok().flatten();
                let token = fetch_token(http, target, realm, service.as_deref(), login.as_ref()).await?;
                let plain = RegistryToken::Token { token: token.value.expose().to_owned() };
                (Secret::new(plain.bearer_token()), Some(token.until), RegistryTokenType::Bearer(plain))
            }
        };
        let mut header = HeaderValue::from_str(header.expose())
            .map_err(|_| Failure::last(target.protocol("a token that is no header value".to_owned())))?;
        header.set_sensitive(true);
        // Checked before `oci-client` gets it, which takes it for granted that a token is a header value.
        self.header = Some(header);
        self.login = Some(login);
        self.until = until;
        self.challenge = Some(challenge);
        self.generation += 1;
        Ok(())
    }
}

/// The error for a 401 that stays: a login that could not be read is its likely cause.
pub(super) async fn refusal(http: &Http, target: &Target<'_>, body: &[u8]) -> Failure {
    let login = http.options.credentials.find(target.registry, target.repository).await;
    Failure::last(match login {
        Ok(login) => refused(target, login.as_ref(), error::detail(body)),
        Err(error) => error,
    })
}

fn refused(target: &Target<'_>, login: Option<&Login>, detail: String) -> RegistryError {
    let hint = match login {
        Some(login) if login.is_identity() => {
            "the identity token was refused: it may have run out; log in again".to_owned()
        }
        Some(login) => {
            let user = error::said(&login.user);
            format!(
                "the login of the user{user} was refused: check the password or access token and its rights"
            )
        }
        None => format!(
            "check the name, some registries answer this for what they do not have; to log in run `omk login {0} -u NAME --password-stdin{1}`, pass --auth-file FILE, or --registry-host {0} with --username and --password-stdin",
            target.registry,
            // As it is reached now: a login that needs another way in is no way out.
            if target.plain { " --plain-http" } else { "" }
        ),
    };
    RegistryError::Unauthorized {
        what: target.what.to_owned(),
        registry: target.registry.to_owned(),
        detail,
        hint,
    }
}

struct Token {
    value: Secret,
    until: Instant,
}

/// Tokens are some kilobytes at most.
const MAX_TOKEN_BYTES: usize = 256 * 1024;

async fn fetch_token(
    http: &Http,
    target: &Target<'_>,
    realm: &str,
    service: Option<&str>,
    login: Option<&Login>,
) -> Result<Token, Failure> {
    let url = token_url(target, realm, service).map_err(|r| Failure::last(target.protocol(r)))?;
    let mut request = match login.filter(|l| l.is_identity()) {
        Some(identity) => exchange(&target.place.client, url, identity),
        None => target.place.client.get(url),
    };
    if let Some(login) = login.filter(|l| !l.is_identity()) {
        let mut value = HeaderValue::from_str(login.basic().expose())
            .map_err(|_| Failure::last(target.protocol("a login that is no header value".to_owned())))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let mut response = request.send().await.map_err(|e| http.failure(target, &e))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let body = read_bounded(&mut response, MAX_TOKEN_BYTES).await.ok().flatten().unwrap_or_default();
            return Err(refusal(http, target, &body).await);
        }
        _ => return Err(http.status_failure(target, response).await),
    }
    let body = read_bounded(&mut response, MAX_TOKEN_BYTES).await.map_err(|e| http.failure(target, &e))?;
    let too_large = || {
        let limit = format!("{MAX_TOKEN_BYTES} bytes of a token");
        let (what, registry) = (target.what.to_owned(), target.registry.to_owned());
        Failure::last(RegistryError::TooLarge { what, registry, limit })
    };
    let (value, lifetime) = parse_token(&body.ok_or_else(too_large)?)
        .ok_or_else(|| Failure::last(target.protocol("a token answer without a token".to_owned())))?;
    // Renewed a little early: the request that carries it takes time to arrive.
    Ok(Token { value, until: Instant::now() + lifetime.mul_f64(0.9) })
}

/// The OAuth2 form of the same question, which is how an identity token is used (distribution's
/// `docs/spec/auth/oauth.md`).
fn exchange(client: &reqwest::Client, mut url: Url, identity: &Login) -> reqwest::RequestBuilder {
    let asked: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    // A query is written as a form is.
    url.query_pairs_mut()
        .clear()
        .extend_pairs(asked)
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", "omk")
        .append_pair("refresh_token", identity.password.expose());
    let form = url.query().unwrap_or_default().to_owned();
    url.set_query(None);
    client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
}

/// The token and how long it is good for; 60 s where the answer does not say (the specification's default).
fn parse_token(body: &[u8]) -> Option<(Secret, Duration)> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: Option<String>,
        #[serde(default)]
        access_token: Option<String>,
        #[serde(default)]
        expires_in: Option<f64>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let value = [answer.token, answer.access_token].into_iter().flatten().find(|t| !t.is_empty())?;
    let seconds = answer.expires_in.filter(|s| s.is_finite()).unwrap_or(60.0).clamp(0.0, 86_400.0);
    Some((Secret::new(value), Duration::from_secs_f64(seconds)))
}

/// The scope is always what this request needs, whatever the challenge asks for.
fn token_url(target: &Target<'_>, realm: &str, service: Option<&str>) -> Result<Url, String> {
    let mut url = Url::parse(realm).map_err(|e| format!("its token realm is no URL: {e}"))?;
    match (url.scheme(), target.plain) {
        ("https", _) | ("http", true) => {}
        ("http", false) => {
            return Err(
                "it is reached by HTTPS but wants tokens fetched by plain HTTP, where a login could be read"
                    .to_owned(),
            );
        }
        _ => return Err("its token realm is neither http nor https".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its token realm has a login in it".to_owned());
    }
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in target.scopes() {
            query.append_pair("scope", &scope);
        }
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token_url(plain: bool, realm: &str, service: Option<&str>) -> Result<Url, String> {
        // A client reads all authorities of the system: once is enough.
        static HTTP: std::sync::OnceLock<Http> = std::sync::OnceLock::new();
        let http = HTTP.get_or_init(|| {
            let plain_http = vec!["plain.io".to_owned()];
            Http::new(crate::registry::RegistryOptions { plain_http, ..Default::default() }).unwrap()
        });
        let home = http.home(if plain { "plain.io" } else { "r.io" }).unwrap();
        super::token_url(&Target::new(&home, "a/b", "x"), realm, service)
    }

    #[test]
    fn bearer_goes_before_basic_wherever_it_stands() {
        let bearer = Challenge::Bearer {
            realm: "https://auth.docker.io/token".to_owned(),
            service: Some("registry.docker.io".to_owned()),
        };
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#;
        assert_eq!(choose([hub]), Some(bearer.clone()));
        assert_eq!(choose(["Basic realm=\"x\"", hub]), Some(bearer.clone()));
        assert_eq!(choose([format!("Basic realm=\"x\", {hub}").as_str()]), Some(bearer));
        assert_eq!(choose(["basic realm=lab"]), Some(Challenge::Basic));
        assert_eq!(choose(["Negotiate", "Bearer service=\"no realm\""]), None);
        assert_eq!(choose([]), None);
    }

    #[test]
    fn a_login_never_goes_over_plain_http_unless_the_registry_does() {
        assert!(token_url(false, "http://r.io/token", None).unwrap_err().contains("plain HTTP"));
        assert!(token_url(true, "http://r.io/token", None).is_ok());
        assert!(token_url(true, "file:///etc/passwd", None).is_err());
        assert!(token_url(true, "https://u:p@r.io/token", None).is_err());
        let url = token_url(false, "https://r.io/token?x=1", Some("s v")).unwrap();
        assert_eq!(url.as_str(), "https://r.io/token?x=1&service=s+v&scope=repository%3Aa%2Fb%3Apull");
    }

    #[test]
    fn both_spellings_of_a_token_are_read() {
        let read = |s: &str| parse_token(s.as_bytes()).map(|(t, d)| (t.expose().to_owned(), d.as_secs()));
        assert_eq!(read(r#"{"token":"a","expires_in":300}"#), Some(("a".to_owned(), 300)));
        assert_eq!(read(r#"{"access_token":"b","token":""}"#), Some(("b".to_owned(), 60)));
        assert_eq!(read(r#"{"token":"a","expires_in":-5}"#), Some(("a".to_owned(), 0)));
        assert_eq!(read("{}"), None);
        assert_eq!(read("nope"), None);
    }

    proptest! {
        #[test]
        fn any_header_and_answer_is_survived(header in "\\PC{0,120}", body in "\\PC{0,120}") {
            let _ = choose([header.as_str(), header.as_str()]);
            let _ = parse_token(body.as_bytes());
            let _ = token_url(false, &header, Some(&body));
        }

        #[test]
        fn what_a_registry_quotes_is_read(realm in "[a-z:/.?=&]{1,40}", service in "[ -~&&[^\"\\\\]]{0,30}") {
            let header = format!("Bearer realm=\"{realm}\", service=\"{service}\"");
            prop_assert_eq!(
                choose([header.as_str()]),
                Some(Challenge::Bearer { realm, service: Some(service) })
            );
        }
    }
}
