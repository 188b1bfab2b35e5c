//! Chart archives: the input is a tar, compressed here so that mutations reach what is in it.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use omk::chart::load_archive;

fuzz_target!(|tar: &[u8]| {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    if gz.write_all(tar).is_ok()
        && let Ok(packed) = gz.finish()
    {
        let _ = load_archive("x.tgz", &packed);
    }
});
