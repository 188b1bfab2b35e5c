//! The tokens of `ssh_config`, `%h` and its kin, and what stands for them.

use std::path::PathBuf;

use super::Who;
use super::resolve::clip;

/// Fills tokens in; `%%` is `%`.
pub(crate) fn percent(text: &str, mut token: impl FnMut(char) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some(c) => {
                out.push_str(
                    &token(c).ok_or_else(|| format!("%{c} is not filled in here, in {:?}", clip(text)))?,
                );
            }
            None => return Err(format!("a lone % at the end of {:?}", clip(text))),
        }
        if out.len() > 64 << 10 {
            return Err("a value becomes too long".to_owned());
        }
    }
    Ok(out)
}

/// What tokens stand for once a host is resolved.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    pub(crate) who: &'a Who,
    pub(crate) host: &'a str,
    pub(crate) original: &'a str,
    pub(crate) port: u16,
    pub(crate) user: &'a str,
    pub(crate) alias: Option<&'a str>,
}

impl Tokens<'_> {
    fn get(&self, token: char) -> Option<String> {
        Some(match token {
            'd' => self.who.home.as_ref()?.display().to_string(),
            'h' => self.host.to_owned(),
            'i' => self.who.uid.to_string(),
            'k' => self.alias.unwrap_or(self.original).to_owned(),
            'L' => self.who.host.split('.').next().unwrap_or_default().to_owned(),
            'l' => self.who.host.clone(),
            'n' => self.original.to_owned(),
            'p' => self.port.to_string(),
            'r' => self.user.to_owned(),
            'u' => self.who.user.clone(),
            _ => return None,
        })
    }

    /// For `ProxyJump`, and for `ProxyCommand`, which a shell reads: names that it would take for more than a word are refused,
    /// as by OpenSSH since 9.6 (CVE-2023-51385).
    pub(crate) fn proxy(&self, text: &str) -> Result<String, String> {
        let odd = |c: char| c.is_whitespace() || c.is_control() || "'`\"$\\;&<>|(){}*?[]!#~".contains(c);
        let mut refused = None;
        let filled = percent(text, |c| {
            let value = if "hnpr".contains(c) { self.get(c) } else { None }?;
            if value.contains(odd) {
                refused = Some(format!("{:?} must not be put into a ProxyCommand (%{c})", clip(&value)));
            }
            Some(value)
        });
        refused.map_or(filled, Err)
    }

    /// A file's name: tokens, `~/` and `${NAME}`.
    pub(crate) fn file(&self, text: &str, env: impl Fn(&str) -> Option<String>) -> Result<PathBuf, String> {
        let text = percent(text, |c| self.get(c))?;
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("${{ is not closed in {:?}", clip(&text)))?;
            out.push_str(before);
            out.push_str(&env(name).ok_or_else(|| format!("the environment has no {}", clip(name)))?);
            rest = after;
        }
        out.push_str(rest);
        match out.strip_prefix('~') {
            None => Ok(PathBuf::from(out)),
            Some(rest) => {
                let home = self.who.home.as_ref().ok_or("no home folder is known: set HOME")?;
                match rest.strip_prefix('/') {
                    Some(rest) => Ok(home.join(rest)),
                    None if rest.is_empty() => Ok(home.clone()),
                    None => Err(format!("{}: only ~/ is understood, not other users' folders", clip(&out))),
                }
            }
        }
    }
}
