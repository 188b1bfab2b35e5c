#!/usr/bin/env bash
# run.sh - every check of this project; arguments go to `cargo nextest run` (`tests/run.sh lab_` runs the lab tests).
# As root the lab tests must run; otherwise they are skipped. cargo-deny is used where it is installed.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

step() { printf '\n== %s\n' "$*"; "$@"; }

step tests/setup.sh
step cargo fmt --check
step cargo clippy --all-targets --locked -- -D warnings
if command -v cargo-deny >/dev/null; then
  step cargo deny check bans licenses sources # `cargo deny check advisories` needs the network
else
  printf '\n== cargo deny: left out, it is not installed (cargo install --locked cargo-deny)\n'
fi
step cargo test --doc --locked --quiet
[ "$(id -u)" != 0 ] || export OMK_REQUIRE_LAB=1
if command -v cargo-nextest >/dev/null; then
  step cargo nextest run --locked "$@"
else   # only where setup.sh could not install it; one thread, for then nothing keeps the lab tests apart
  step cargo test --all-targets --locked -- --test-threads=1 "$@"
fi
