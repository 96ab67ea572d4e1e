#!/bin/sh
# Builds dist/app.wasm. `daylily dev` and `daylily build` run this (see daylily.toml). The first run installs the tools
# that package-lock.json lists, and so does each run after that file has changed.
set -eu
cd "$(dirname "$0")"

fail() {
  printf 'build.sh: %s\n' "$1" >&2
  exit 1
}
remedy='install Node.js 20 or later, with npm: from nodejs.org, or with `apt install nodejs npm` or `brew install node`'
command -v node >/dev/null || fail "node is not installed; $remedy"
command -v npm >/dev/null || fail "npm is not installed; $remedy"
node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || fail "node is older than 20; $remedy"

if ! cmp -s package-lock.json node_modules/.installed-lock.json; then
  npm ci --no-audit --no-fund
  cp package-lock.json node_modules/.installed-lock.json
fi
npm run --silent build
