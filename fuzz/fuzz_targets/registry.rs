//! What a registry or an administrator writes: challenges, `hosts.toml`, omk's configuration, rules for names.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use omk::registry::{Mapping, parse_challenge, parse_hosts_toml};

fuzz_target!(|text: &str| {
    let _ = parse_challenge(text);
    let _ = parse_hosts_toml(text, Path::new("/"));
    let _ = omk::config::Config::parse(text, Path::new("/"));
    if let Ok(mapping) = Mapping::new(text) {
        let _ = mapping.with_rule(text);
    }
});
