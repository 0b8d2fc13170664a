#!/bin/sh
# Ask a running service everything that its OpenAPI document says it takes, and much that it does not, also in sequences
# that follow the document's links: no server error, and no answer that is not in the document.
# Usage: tests/api/openapi_fuzz.sh [python]      FUZZ_CASES=10 for each operation; TASKER_DATABASE_URL: on that engine
set -eu
python=${1:-.venv/bin/python}
folder=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server" 2>/dev/null; rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check schemathesis==4.32.5
export TASKER_TOKEN=the-token-of-the-fuzzer
TASKER_DATA_DIR="$folder/data" "$python" -m tasker serve --port 0 >"$folder/log" 2>&1 &
server=$!
for _ in $(seq 600); do
  url=$(sed -n 's,.* runs at \(http://127.0.0.1:[0-9]*\).*,\1,p' "$folder/log")
  [ -n "$url" ] && curl -fs "$url/livez" >/dev/null && break
  sleep 0.1
done
export SCHEMATHESIS_HOOKS=openapi_hooks PYTHONPATH="$PWD/tests/api"
cd "$folder"  # where it may leave what it remembers
# Streams are left out: they end when their task does, or never.
venv/bin/st run "$url/openapi.json" --header "Authorization: Bearer $TASKER_TOKEN" \
  --phases examples,coverage,fuzzing,stateful --max-examples "${FUZZ_CASES:-10}" --seed "${FUZZ_SEED:-1}" \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance \
  --exclude-path-regex '/events$' --request-timeout 30 || { tail -20 "$folder/log"; exit 1; }
if grep -q Traceback "$folder/log"; then
  grep -m1 Traceback "$folder/log" | cut -c1-3000
  exit 1
fi
