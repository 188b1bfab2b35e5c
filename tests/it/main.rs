//! Integration tests, in one binary. Tests that need the lab (`tests/lab`) are functions, or are in modules, whose
//! names start with `lab_`; `.config/nextest.toml` runs them one at a time.

// Helpers outside of test functions too: clippy.toml permits these in tests, and sees only the functions.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod bundle;
mod cache;
mod catalogue;
mod chart;
mod chart_fetch;
mod chart_hostile;
mod compare;
mod conformance;
mod definition;
mod delta;
mod demo;
mod discover;
mod disks;
mod expand;
mod house;
mod images;
mod kustomize;
mod lab;
mod lab_faults;
mod lab_itself;
mod lab_main_job;
mod lab_proof;
mod lab_push;
mod lab_runtimes;
mod node;
mod opening;
mod output;
mod probes;
mod push;
mod registry;
mod registry_faults;
mod registry_hosts;
mod registry_push;
mod registry_real;
mod registry_referrers;
mod sources;
mod volumes;
mod which_nodes;
