//! Names, manifests, indexes and configs of registries: any bytes are taken or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omk::oci::{Descriptor, ImageConfig, ImageRef, Manifest, media};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(image) = text.parse::<ImageRef>()
    {
        let again: ImageRef = image.to_string().parse().expect("what is shown is a name");
        assert_eq!(again, image);
    }
    for kind in [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_LIST, media::DOCKER_MANIFEST] {
        if let Ok(manifest) = Manifest::parse(&Descriptor::of(kind, bytes), bytes) {
            let _ = manifest.successors();
        }
    }
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(bytes) {
        let _ = (config.platform(), config.chain_ids());
    }
});
