//! A whole template with small limits: it ends, and it ends soon.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use omk::template::value::{Dict, List, Map};
use omk::template::{Engine, Env, Limits};

struct Still;

impl Env for Still {
    fn now_nanos(&self) -> i128 {
        1_700_000_000_000_000_000
    }
    fn random(&self, buffer: &mut [u8]) {
        buffer.iter_mut().zip(1..).for_each(|(b, n)| *b = n);
    }
}

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
    let limits = Limits {
        max_depth: 20,
        max_calls: 20_000,
        max_bytes: 4 << 20,
        max_held: 4 << 20,
        max_items: 10_000,
        max_costly: 0,
        fuel: 100_000,
    };
    let mut engine = Engine::new(Arc::new(Still), limits);
    if engine.add("t", text).is_err() {
        return;
    }
    let values = Map::from([
        ("s".into(), "text".into()),
        ("n".into(), 5.0.into()),
        ("l".into(), List::value(vec![1.0.into(), "x".into(), ().into()])),
        ("m".into(), Dict::value(Map::new())),
    ]);
    let _ = engine.render("t", &Dict::value(Map::from([("Values".into(), Dict::value(values))])));
});
