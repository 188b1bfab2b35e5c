//! Bundles in a tar file: an image layout or a docker-archive around bytes that mean harm. The first byte chooses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omk::bundle::Opening;

thread_local! {
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
}

fuzz_target!(|input: &[u8]| {
    let Some((how, bytes)) = input.split_first() else { return };
    let Ok(folder) = tempfile::tempdir() else { return };
    let path = folder.path().join("x.tar");
    let file = match how % 3 {
        // The bytes as they are.
        0 => bytes.to_vec(),
        // As the entry points of archives whose other entries are in order.
        n => {
            let name = if n == 1 { "index.json" } else { "manifest.json" };
            let mut tar = tar::Builder::new(Vec::new());
            let layout: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
            let mut entries: Vec<(&str, &[u8])> = vec![(name, bytes), ("config.json", b"{}"), ("layer.tar", b"x")];
            if n == 1 {
                entries.push(("oci-layout", layout));
            }
            for (name, bytes) in entries {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                if tar.append_data(&mut header, name, bytes).is_err() {
                    return;
                }
            }
            match tar.into_inner() {
                Ok(tar) => tar,
                Err(_) => return,
            }
        }
    };
    if std::fs::write(&path, file).is_ok() {
        RUNTIME.with(|r| {
            let _ = r.block_on(Opening::new([&path]).base_name("fuzz.invalid/x").open());
        });
    }
});
