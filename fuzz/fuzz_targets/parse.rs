//! Lexer, parser and lowering: any text is taken or refused.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use omk::template::{Engine, Env, Limits};

struct Still;

impl Env for Still {
    fn now_nanos(&self) -> i128 {
        0
    }
    fn random(&self, buffer: &mut [u8]) {
        buffer.fill(7);
    }
}

fuzz_target!(|text: &str| {
    let _ = Engine::new(Arc::new(Still), Limits::default()).add("t", text);
});
