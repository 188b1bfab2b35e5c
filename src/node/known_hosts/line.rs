//! One line of a file of host keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::PublicKey;
use sha1::Sha1;

use super::MAX_LINE;

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) marker: Marker,
    pub(super) hosts: Hosts,
    pub(super) key: PublicKey,
    pub(super) file: usize,
    pub(super) line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    None,
    Revoked,
    Authority,
}

#[derive(Debug, Clone)]
pub(super) enum Hosts {
    /// Lower case, each with whether it is negated.
    Patterns(Vec<(bool, String)>),
    Hashed {
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

pub(super) fn parse_line(line: &[u8], file: usize, number: usize) -> Result<Option<Entry>, &'static str> {
    if line.len() > MAX_LINE {
        return Err("the line is too long");
    }
    let text = std::str::from_utf8(line).map_err(|_| "the line is no UTF-8")?.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let mut fields = text.split_ascii_whitespace();
    let mut next = || fields.next().ok_or("expected HOSTS TYPE KEY");
    let mut hosts = next()?;
    let marker = match hosts {
        "@revoked" => Marker::Revoked,
        "@cert-authority" => Marker::Authority,
        other if other.starts_with('@') => return Err("unknown marker"),
        _ => Marker::None,
    };
    if marker != Marker::None {
        hosts = next()?;
    }
    let (kind, key) = (next()?, next()?);
    let key = russh::keys::parse_public_key_base64(key).map_err(|_| "the key cannot be read")?;
    if key.algorithm().as_str() != kind {
        return Err("the key is of another type than the line says");
    }
    Ok(Some(Entry { marker, hosts: Hosts::parse(hosts)?, key, file, line: number }))
}

impl Hosts {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(hashed) = text.strip_prefix("|1|") {
            let (salt, hash) = hashed.split_once('|').ok_or("the hashed host has no salt")?;
            let decode = |t: &str| BASE64.decode(t).map_err(|_| "the hashed host is no base64");
            let (salt, hash) = (decode(salt)?, decode(hash)?);
            if hash.len() != 20 {
                return Err("the hashed host has not the length of SHA-1");
            }
            return Ok(Self::Hashed { salt, hash });
        }
        if text.starts_with('|') {
            return Err("unknown host hash");
        }
        let pattern = |p: &str| match p.strip_prefix('!') {
            Some(rest) => (true, rest.to_ascii_lowercase()),
            None => (false, p.to_ascii_lowercase()),
        };
        Ok(Self::Patterns(text.split(',').map(pattern).collect()))
    }

    /// A negated pattern that matches rules the whole line out, wherever it stands.
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Patterns(patterns) => {
                let mut found = false;
                for (negated, pattern) in patterns {
                    if glob(pattern.as_bytes(), name.as_bytes()) {
                        if *negated {
                            return false;
                        }
                        found = true;
                    }
                }
                found
            }
            Self::Hashed { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
                .is_ok_and(|mac| mac.chain_update(name.as_bytes()).verify_slice(hash).is_ok()),
        }
    }
}

/// `*` is any run of characters, `?` any one. Remembers only the last `*`: time is at most pattern × name.
pub(in crate::node) fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}
