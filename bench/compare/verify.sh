#!/usr/bin/env bash
# verify.sh OMK BUNDLE - `omk bundle verify` beside `sha256sum` of the same bytes, in one run. Prints both times and the
# ratio of omk's to that of sha256sum divided by the processors (goal: at most 1.15).
#   ROUNDS=3   rounds, best of which counts; the file is read once before, so that both read from memory
set -euo pipefail
omk=$(readlink -f "${1:?path of omk}") bundle=${2:?a bundle} rounds=${ROUNDS:-3}
cat "$bundle" >/dev/null
seconds() { local s; s=$(date +%s.%N); "$@" >/dev/null; echo "$(date +%s.%N) $s" | awk '{ printf "%.3f", $1 - $2 }'; }
for _ in $(seq "$rounds"); do
  echo "sha256sum $(seconds sha256sum "$bundle")"
  echo "omk $(seconds env OMK_PROGRESS=none "$omk" bundle verify "$bundle")"
done | awk -v cores="$(nproc)" -v size="$(stat -c %s "$bundle")" '
  { if (!($1 in best) || $2 < best[$1]) best[$1] = $2; print "  " $1 ": " $2 " s" }
  END { printf "%d bytes, %d processors\nsha256sum  %.2f s, divided %.2f s\nomk verify %.2f s\nratio      %.2f\n", size, cores,
    best["sha256sum"], best["sha256sum"] / cores, best["omk"], best["omk"] / (best["sha256sum"] / cores) }'
