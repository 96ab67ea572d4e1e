#!/bin/sh
# Builds target/wasm32-wasip2/release/app.wasm. `daylily dev` and `daylily build` run this (see daylily.toml).
set -eu
cd "$(dirname "$0")"

fail() {
  printf 'build.sh: %s\n' "$1" >&2
  exit 1
}
command -v cargo >/dev/null || fail 'cargo is not installed; install Rust from https://rustup.rs'
[ -d "$(rustc --print target-libdir --target wasm32-wasip2)" ] ||
  fail 'the target wasm32-wasip2 is not installed; run `rustup target add wasm32-wasip2`'

cargo build --release --target wasm32-wasip2
