use std::path::PathBuf;

use reqwest::StatusCode;

use crate::graph::GraphError;
use crate::oci::Digest;
use crate::store::StoreError;

/// Why a registry did not give what was asked for.
///
/// Every text names the image, the registry, the cause and the way out. No variant can hold a password or token;
/// what a registry said is clipped and free of control characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// 401, after everything that is known was tried.
    #[error("{what}: {registry} wants a login{detail}; {hint}")]
    Unauthorized {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// What the registry said, or nothing.
        detail: String,
        /// The way out.
        hint: String,
    },
    /// 403.
    #[error(
        "{what}: {registry} denies access{detail}; check the name, and that the user who is logged in may pull it"
    )]
    Denied {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// What the registry said, or nothing.
        detail: String,
    },
    /// 404.
    #[error(
        "{what} is not in {registry}{detail}; check the name and the tag, some registries also hide what needs a login"
    )]
    NotFound {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// What the registry said, or nothing.
        detail: String,
    },
    /// 429, longer than our patience.
    #[error("{what}: {registry} limits how much may be pulled{detail}; {advice}")]
    RateLimited {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// What the registry said, or nothing.
        detail: String,
        /// The way out.
        advice: String,
    },
    /// 5xx, again and again.
    #[error("{what}: {registry} answers {status}{detail}; run again later or ask who operates it")]
    Server {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// The status.
        status: StatusCode,
        /// What the registry said, or nothing.
        detail: String,
    },
    /// Any other status.
    #[error("{what}: {registry} answers {status}{detail}")]
    Status {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// The status.
        status: StatusCode,
        /// What the registry said, or nothing.
        detail: String,
    },
    /// Nothing came for too long.
    #[error(
        "{what}: {registry} sent nothing for {seconds} s; check the network and any proxy between, then run again"
    )]
    Timeout {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The name of the host has no address.
    #[error(
        "{what}: the host name of {registry} cannot be resolved ({reason}); check its spelling and the DNS of this machine"
    )]
    Dns {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// What the resolver said.
        reason: String,
    },
    /// Nobody listens.
    #[error("{what}: {registry} refuses connections; check host and port, and that the registry runs")]
    Refused {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
    },
    /// It talks plain HTTP where HTTPS was spoken.
    #[error(
        "{what}: {registry} does not speak HTTPS; if it is meant to be plain HTTP pass --plain-http {host}"
    )]
    PlainHttp {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// As it must be given to the option.
        host: String,
    },
    /// Its certificate is not trusted, or TLS failed otherwise.
    #[error("{what}: no trusted TLS connection to {registry}: {reason}; {hint}")]
    Tls {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// What is wrong.
        reason: String,
        /// The way out.
        hint: String,
    },
    /// Any other failure of the network.
    #[error("{what}: the connection to {registry} failed: {reason}; check the network and run again")]
    Network {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// What is wrong.
        reason: String,
    },
    /// The registry does not do what the distribution-spec says.
    #[error("{what}: {registry} answers what no registry should: {reason}")]
    Protocol {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// What is wrong.
        reason: String,
    },
    /// Bytes that are not what their digest promises.
    #[error(
        "{what}: {registry} sent bytes that hash to {found}, not to {expected}; the content is damaged or was tampered with"
    )]
    Digest {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// Asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// More bytes or documents than any honest image has.
    #[error("{what}: {registry} sends more than the {limit} that are accepted")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// Host and port.
        registry: String,
        /// How much of what.
        limit: String,
    },
    /// The image cannot be used.
    #[error(transparent)]
    Graph(Box<GraphError>),
    /// A CA file is no CA file.
    #[error("CA file {}: {reason}; it must hold certificates in PEM form (-----BEGIN CERTIFICATE-----)", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A client certificate is none.
    #[error("client certificate {}: {reason}; certificate and key must be in PEM form", path.display())]
    ClientCert {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file that says who is asked for the content of a registry cannot be used.
    #[error("{}: {reason}; mend it, or take the folder out of --hosts-dir", path.display())]
    Hosts {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A login cannot be read.
    #[error("login for {registry}: {reason}")]
    Credentials {
        /// Host and port.
        registry: String,
        /// What is wrong and the way out.
        reason: String,
    },
    /// No HTTP client can be made.
    #[error("cannot set up HTTP: {0}")]
    Client(String),
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl From<GraphError> for RegistryError {
    fn from(error: GraphError) -> Self {
        Self::Graph(Box::new(error))
    }
}

impl From<RegistryError> for StoreError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Cancelled => Self::Cancelled,
            other => Self::Remote(other.to_string()),
        }
    }
}

/// Foreign text for a message: one line of at most 200 characters without control characters, in brackets.
pub(super) fn said(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    match clean.trim() {
        "" => String::new(),
        clean => format!(" ({clean})"),
    }
}

/// What a registry said in an error document (distribution-spec 1.1, "Error Codes"); other bodies are not shown,
/// for they are pages of HTML more often than not.
pub(super) fn detail(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Envelope {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(envelope) = serde_json::from_slice::<Envelope>(body) else { return String::new() };
    let words = envelope.errors.iter().take(3).map(|e| match (e.code.as_str(), e.message.as_str()) {
        (code, "") => code.to_owned(),
        ("", message) => message.to_owned(),
        (code, message) => format!("{code}: {message}"),
    });
    said(&words.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_registrys_words_are_shown_and_pages_are_not() {
        let body =
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest\u001b[31m unknown","detail":{}}]}"#;
        assert_eq!(detail(body), " (MANIFEST_UNKNOWN: manifest [31m unknown)");
        assert_eq!(detail(b"<html>502</html>"), "");
    }

    proptest! {
        #[test]
        fn whatever_it_says_is_short_and_one_line(text in "(?s).{0,400}") {
            let shown = said(&text);
            prop_assert!(shown.chars().count() <= 203 && !shown.chars().any(char::is_control));
        }
    }
}
