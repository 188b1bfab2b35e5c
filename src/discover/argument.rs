use crate::catalogue::Picked;
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

/// Components of the catalogue that a user named.
#[derive(Debug, Clone, Copy)]
pub struct ComponentSource<'a> {
    /// Their versions as they were chosen.
    pub picked: &'a [Picked],
}

impl Source for ComponentSource<'_> {
    fn findings(&self, _: &Scope) -> Result<Findings, SourceError> {
        let mut all = Findings::default();
        for picked in self.picked {
            let Picked { name, version, images } = picked;
            let source = || SourceName::Component { component: name.clone(), version: version.clone() };
            let finding = |image: &ImageRef| {
                Finding::new(image.clone(), &rules::COMPONENT, Origin::of_source(source()))
            };
            all.findings.extend(images.iter().map(finding));
        }
        Ok(all)
    }
}
