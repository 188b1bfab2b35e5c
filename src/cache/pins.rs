//! Images that are never given up: names and patterns, one a line, in a file that people may edit.

use std::io::ErrorKind;

use super::{CacheError, ImageCache};
use crate::discover::Exclusion;
use crate::oci::ImageRef;
use crate::store::{StoreError, write_small};

const FILE: &str = "pins";
const MAX_BYTES: u64 = 4 << 20;
const HEAD: &str = "# Images that clean-ups leave alone: a name, or a pattern with *, a line.\n";

/// What is pinned.
#[derive(Debug, Clone, Default)]
pub(super) struct Pins {
    lines: Vec<String>,
    patterns: Vec<Exclusion>,
}

impl Pins {
    pub(super) fn hold(&self, image: &ImageRef) -> bool {
        self.patterns.iter().any(|p| p.matches(image))
    }
}

impl ImageCache {
    pub(super) fn pins(&self) -> Result<Pins, CacheError> {
        use std::io::Read as _;
        let path = self.root.join(FILE);
        let mut text = String::new();
        match std::fs::File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            opened => {
                let file = opened.map_err(StoreError::io("read", &path))?;
                file.take(MAX_BYTES).read_to_string(&mut text).map_err(StoreError::io("read", &path))?;
            }
        }
        let mut pins = Pins::default();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // A pin that is not understood must not let go of what it was to hold.
            let pattern = line.parse().map_err(|e: crate::oci::ReferenceError| CacheError::Pins {
                path: path.clone(),
                line: n + 1,
                reason: e.to_string(),
            })?;
            pins.lines.push(line.to_owned());
            pins.patterns.push(pattern);
        }
        Ok(pins)
    }

    /// The names and patterns that are pinned, in their order. Blocks.
    ///
    /// # Errors
    /// The file of pins cannot be read, or has a line that is no name and no pattern.
    pub fn pinned(&self) -> Result<Vec<String>, CacheError> {
        Ok(self.pins()?.lines)
    }

    /// Adds and removes pins: names, or patterns with `*` for any characters. Gives all that there are then. Blocks.
    ///
    /// # Errors
    /// As for [`ImageCache::pinned`]; something given is no name and no pattern; the file cannot be written.
    pub fn pin(&self, add: &[String], remove: &[String]) -> Result<Vec<String>, CacheError> {
        let _lease = self.lease()?;
        let _names = self.names_alone()?;
        let mut lines = self.pins()?.lines;
        let path = self.root.join(FILE);
        for text in add {
            text.parse::<Exclusion>().map_err(|e| StoreError::Remote(e.to_string()))?;
            if !lines.contains(text) {
                lines.push(text.clone());
            }
        }
        if let Some(unknown) = remove.iter().find(|r| !lines.contains(r)) {
            let text = format!("{unknown} is not pinned; the pins are {}", lines.join(", "));
            return Err(StoreError::Remote(text).into());
        }
        lines.retain(|l| !remove.contains(l));
        let body: String = lines.iter().map(|l| format!("{l}\n")).collect();
        write_small(&path, format!("{HEAD}{body}").as_bytes())?;
        Ok(lines)
    }
}
