//! Volumes: the input is the text of a header, which gets its checksum here so that mutations reach what is behind it,
//! a zero byte, and the rest of the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omk::bundle::{Opening, verify_opened};
use omk::oci::Digest;

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
}

fuzz_target!(|input: &[u8]| {
    let at = input.iter().position(|b| *b == 0).unwrap_or(input.len());
    let (json, rest) = input.split_at(at.min(4000));
    let mut file = b"OMKVOL1\n".to_vec();
    file.extend_from_slice(json);
    file.push(b'\n');
    file.resize(4096 - 32, 0);
    let sum = Digest::sha256(&file);
    let byte = |i: usize| u8::from_str_radix(&sum.hex()[i * 2..i * 2 + 2], 16).unwrap_or(0);
    file.extend((0..32).map(byte));
    file.extend_from_slice(rest);
    let Ok(folder) = tempfile::tempdir() else { return };
    let path = folder.path().join("x.001of001.omkv");
    if std::fs::write(&path, file).is_ok() {
        RUNTIME.with(|r| {
            let opening = Opening::new([folder.path()]);
            let _ = r.block_on(opening.open());
            let _ = r.block_on(verify_opened(&opening));
        });
    }
});
