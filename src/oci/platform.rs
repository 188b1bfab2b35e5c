use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and processor that an image runs on, normalised as containerd does
/// (`x86_64` is `amd64`, `aarch64` is `arm64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Why a string is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: expected OS/ARCH or OS/ARCH/VARIANT, for example linux/amd64")]
pub struct PlatformError(String);

impl Platform {
    /// From the fields of an image index or an image config, normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let arch = architecture.to_ascii_lowercase();
        let variant = variant.filter(|v| !v.is_empty()).map(str::to_ascii_lowercase);
        let (arch, variant) = match (arch.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", Some(v)) => ("amd64", Some(v)),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
            ("aarch64" | "arm64", Some(v)) => ("arm64", Some(v)),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            ("i386" | "i686", _) => ("386", None),
            (a, v) => (a, v),
        };
        let (architecture, variant) = (arch.to_owned(), variant.map(str::to_owned));
        Self { os: os.to_ascii_lowercase(), architecture, variant }
    }

    /// `linux/amd64`: what a bundle is built for when nobody says otherwise. Not the machine's own, so that the
    /// same command gives the same bundle on every laptop.
    pub fn linux_amd64() -> Self {
        Self::new("linux", "amd64", None)
    }

    /// The operating system, lower case.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture, in Go's words (`amd64`, `arm64`, …).
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant, where the architecture alone does not say it (`v7`).
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Whether an image made for `image` runs on `self`: the same system and architecture, and a variant that is
    /// the same or, on arm, an older one.
    pub fn runs(&self, image: &Platform) -> bool {
        if self.os != image.os || self.architecture != image.architecture {
            return false;
        }
        match (self.variant(), image.variant()) {
            (_, None) => true,
            (Some(own), Some(theirs)) if matches!(self.architecture.as_str(), "arm" | "arm64" | "amd64") => {
                theirs <= own
            }
            (own, theirs) => own == theirs,
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(s: &str) -> Result<Self, PlatformError> {
        let word = |w: &str| {
            !w.is_empty()
                && w.len() <= 32
                && w.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = s.split('/').collect();
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(|p| word(p)) {
            return Err(PlatformError(s.chars().take(160).collect()));
        }
        Ok(Self::new(parts[0], parts[1], parts.get(2).copied()))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|v| write!(f, "/{v}"))
    }
}

impl From<Platform> for String {
    fn from(p: Platform) -> Self {
        p.to_string()
    }
}

impl TryFrom<String> for Platform {
    type Error = PlatformError;

    fn try_from(s: String) -> Result<Self, PlatformError> {
        s.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(s: &str) -> Platform {
        s.parse().unwrap()
    }

    #[test]
    fn normalises_as_containerd_does() {
        for (given, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("linux/i686", "linux/386"),
        ] {
            assert_eq!(p(given).to_string(), normal, "{given}");
        }
    }

    #[test]
    fn runs_the_same_or_an_older_variant() {
        assert!(p("linux/arm/v7").runs(&p("linux/arm/v6")));
        assert!(!p("linux/arm/v6").runs(&p("linux/arm/v7")));
        assert!(p("linux/arm64").runs(&p("linux/arm64/v8")));
        assert!(
            p("linux/amd64/v3").runs(&p("linux/amd64/v2")) && p("linux/amd64/v3").runs(&p("linux/amd64"))
        );
        assert!(!p("linux/amd64").runs(&p("linux/amd64/v3")));
        assert!(!p("linux/amd64").runs(&p("linux/arm64")));
        assert!(!p("linux/amd64").runs(&p("windows/amd64")));
    }

    #[test]
    fn refuses_other_shapes() {
        for bad in ["", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "lin ux/amd64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
