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
# The flags that omk has to know.
"$helm" template --help | grep -oE '^ +(-[a-zA-Z], )?--[a-z0-9-]+' | sed 's/.*--//' >helm-flags.txt
# One template a line, and what helm makes of it: its output, or why it fails.
chart=$(mktemp -d)
trap 'rm -rf "$chart"' EXIT
mkdir "$chart/templates"
printf 'apiVersion: v2\nname: hc\nversion: 0.1.0\n' >"$chart/Chart.yaml"
cp snippets/values.yaml "$chart"
while IFS= read -r line; do
    printf '%s' "$line" >"$chart/templates/t.txt"
    printf '== %s\n' "$line"
    "$helm" template rel "$chart" 2>&1 | grep -v -e '^---$' -e '^# Source' -e '^Use --debug' -e '^$' || true
done <snippets/cases.txt >snippets/golden.txt
# One setting a line, and the values that helm makes of it.
rm "$chart"/values.yaml
printf '{{ .Values | toJson }}' >"$chart/templates/t.txt"
while IFS=$'\t' read -r flag setting; do
    printf '== %s\t%s\n' "$flag" "$setting"
    "$helm" template rel "$chart" "$flag" "$setting" 2>&1 | grep -v -e '^---$' -e '^# Source' -e '^Use --debug' -e '^$' || true
done <snippets/settings.txt >snippets/settings-golden.txt
