use crate::oci::ImageRef;

use super::{Finding, Findings, Origin, Scope, Source, SourceError, SourceName, rules};

/// Images that a user named.
#[derive(Debug, Clone, Copy)]
pub struct ArgumentSource<'a> {
    /// As they were given.
    pub images: &'a [ImageRef],
}

impl Source for ArgumentSource<'_> {
    fn findings(&self, _: &Scope) -> Result<Findings, SourceError> {
        let finding = |image: &ImageRef| {
            Finding::new(image.clone(), &rules::ARGUMENT, Origin::of_source(SourceName::Argument))
        };
        Ok(Findings { findings: self.images.iter().map(finding).collect(), ..Findings::default() })
    }
}
