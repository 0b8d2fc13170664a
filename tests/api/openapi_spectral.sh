#!/bin/sh
# Lint the OpenAPI document with Spectral's rules for OpenAPI: no error, no warning, no hint.
# Usage: tests/api/openapi_spectral.sh [python]      needs Node 20 or later, and npm's registry the first time
set -eu
python=${1:-.venv/bin/python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m tests.api.print_openapi > "$folder/openapi.json"
printf 'extends: ["spectral:oas"]\n' > "$folder/ruleset.yaml"
npx --yes @stoplight/spectral-cli@6.16.3 lint --fail-severity hint --ruleset "$folder/ruleset.yaml" "$folder/openapi.json"
