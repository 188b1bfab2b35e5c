use crate::oci::ImageRef;

use super::{Confidence, Finding, Findings, Origin, Scope, Source, SourceError};

/// Images that a user named.
#[derive(Debug, Clone, Copy)]
pub struct ArgumentSource<'a> {
    /// As they were given.
    pub images: &'a [ImageRef],
}

impl Source for ArgumentSource<'_> {
    fn findings(&self, _: &Scope) -> Result<Findings, SourceError> {
        let finding = |image: &ImageRef| Finding {
            image: image.clone(),
            origin: Origin::argument(),
            confidence: Confidence::Certain,
        };
        Ok(Findings { findings: self.images.iter().map(finding).collect(), ..Findings::default() })
    }
}
