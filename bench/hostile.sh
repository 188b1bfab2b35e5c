#!/usr/bin/env bash
# hostile.sh OMK [CASE...] - renders charts that were made to do harm, and prints what omk said of each, how long it took and
# how much memory: each has to end within 5 seconds and 300 MiB, and those that ask for too much with an error. Where the
# processor took fewer seconds than the clock, since others use the machine, those are held against the bound.
#   OUT=DIR   where to make the charts (default: a temporary folder)
# Give it a release build. The exit code is 1 if a case is beyond the bounds or ends otherwise than it should.
set -euo pipefail
omk=$(readlink -f "${1:?path of omk}"); shift
out=${OUT:-$(mktemp -d)}; [ -n "${OUT:-}" ] || trap 'rm -rf "$out"' EXIT
python3 "$(dirname "$(readlink -f "$0")")/hostile.py" "$omk" "$out" "$@"
