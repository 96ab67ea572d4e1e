#!/bin/sh
# Builds dist/app.wasm. `daylily dev` and `daylily build` run this (see daylily.toml). The first run installs what
# requirements.txt lists into .venv, and so does each run after that file has changed.
set -eu
cd "$(dirname "$0")"

fail() {
  printf 'build.sh: %s\n' "$1" >&2
  exit 1
}
remedy='install Python 3.10 or later, with venv: `apt install python3 python3-venv` or `brew install python`'
command -v python3 >/dev/null || fail "python3 is not installed; $remedy"
python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
  fail "python3 is older than 3.10, or has no venv; $remedy"

if ! cmp -s requirements.txt .venv/installed.txt; then
  python3 -m venv --clear .venv
  .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.txt
  cp requirements.txt .venv/installed.txt
fi
mkdir -p dist
# componentize-py takes packages from the environment that VIRTUAL_ENV names.
VIRTUAL_ENV=$PWD/.venv .venv/bin/componentize-py --quiet --wit-path wit --world http componentize wsgi \
  --output dist/app.wasm
