#!/usr/bin/env bash
# build.sh OMK IMAGE... - `omk bundle build` beside `skopeo copy` of the same images from the same registry, in one run.
# Prints both wall times, CPU times, their ratios, both peak memories, and what each wrote to disk beside the size of its result:
# a staging copy of the blobs would show there. The images must be served over plain HTTP on loopback.
#   ROUNDS=3   rounds, best of which counts      OUT=DIR   where to write (default: a temporary folder)
set -euo pipefail
omk=$(readlink -f "${1:?path of omk}"); shift; [ $# -gt 0 ] || { sed -n 2,4p "$0"; exit 2; }
rounds=${ROUNDS:-3} out=${OUT:-$(mktemp -d)}; registry=${1%%/*}; mkdir -p "$out"
command -v skopeo >/dev/null || { echo "build.sh: skopeo is not installed" >&2; exit 1; }

# run NAME CMD...: prints NAME, wall seconds, peak KiB, CPU seconds, bytes written
run() {
  local name=$1 t; shift
  t=$( { python3 - "$@" <<'PY'
import os, resource, subprocess, sys, time
start = time.monotonic()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"{time.monotonic() - start:.3f} {used.ru_maxrss} {used.ru_utime + used.ru_stime:.2f} {used.ru_oublock * 512}")
PY
  } )
  echo "$name $t"
}
skopeo_all() { # one call an image, into one layout, as people do
  local i; for i in "$@"; do
    skopeo copy -q --src-tls-verify=false "docker://$i" "oci:$out/skopeo:$(echo "${i#*/}" | tr '/:' '--')"; done; }
export -f skopeo_all; export out

args=(); for i in "$@"; do args+=(--image "$i"); done
for _ in $(seq "$rounds"); do
  rm -rf "$out"/skopeo "$out"/b.tar*; sync
  run skopeo bash -c 'skopeo_all "$@"' _ "$@"
  run omk "$omk" bundle build "${args[@]}" --plain-http "$registry" -o "$out/b.tar"
  echo "size $(du -sb "$out/skopeo" | cut -f1) $(stat -c %s "$out/b.tar")"
done | awk '
  $1 == "size" { size["skopeo"] = $2; size["omk"] = $3; next }
  { if (!($1 in best) || $2 < best[$1]) best[$1] = $2; if (!($1 in cpu) || $4 < cpu[$1]) cpu[$1] = $4
    if ($3 > rss[$1]) rss[$1] = $3; written[$1] = $5; print "  " $1 ": " $2 " s, " $4 " s CPU, " int($3/1024) " MiB" }
  END { if (!("omk" in best)) exit 1
    for (i in size) printf "%-6s wrote %.1f MB for %.1f MB, %.2f of it\n", i, written[i]/1e6, size[i]/1e6, written[i]/size[i]
    printf "skopeo copy  %.2f s  %.2f s CPU  %d MiB\nomk build    %.2f s  %.2f s CPU  %d MiB\nratio        %.2f (CPU %.2f)\n",
    best["skopeo"], cpu["skopeo"], rss["skopeo"]/1024, best["omk"], cpu["omk"], rss["omk"]/1024, best["omk"]/best["skopeo"], cpu["omk"]/cpu["skopeo"] }'
