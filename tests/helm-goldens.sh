#!/usr/bin/env bash
# Makes the goldens of tests/fixtures/charts again: tests/helm-goldens.sh /path/to/helm
set -euo pipefail
helm=${1:?usage: $0 HELM}
cd "$(dirname "$0")/fixtures/charts"
while IFS=$'\t' read -r golden chart args; do
    [ -n "$golden" ] || continue
    # shellcheck disable=SC2086
    if ! "$helm" template rel "$chart" $args >"goldens/$golden" 2>err; then
        grep -v -e '^$' -e '^Use --debug' -e '^level=' err >"goldens/$golden"
    fi
    rm -f err
done <cases.tsv
