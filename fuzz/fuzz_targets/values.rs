//! The grammar of `--set`, `--set-string` and `--set-json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omk::chart::{Setting, ValuesInput};

fuzz_target!(|text: &str| {
    for setting in [Setting::Set, Setting::SetString, Setting::Json] {
        let settings = text.lines().take(5).map(|l| setting(l.to_owned())).collect();
        let _ = ValuesInput { settings, ..ValuesInput::default() }.merge();
    }
});
