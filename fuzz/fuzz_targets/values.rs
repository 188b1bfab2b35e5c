//! The grammar of `--set`, `--set-string` and `--set-json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omk::chart::{Setting, ValuesInput};

/// The scanner of libyaml-safer panics where omk catches it and tells of bad YAML: that is no finding.
fn only_own_panics() {
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|at| at.file().contains("libyaml-safer")) {
            abort(info);
        }
    }));
}

fuzz_target!(init: only_own_panics(), |text: &str| {
    for setting in [Setting::Set, Setting::SetString, Setting::Json] {
        let settings = text.lines().take(5).map(|l| setting(l.to_owned())).collect();
        let _ = ValuesInput { settings, ..ValuesInput::default() }.merge();
    }
});
