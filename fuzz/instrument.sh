#!/bin/sh
# The rustc wrapper for the crates of this workspace (RUSTC_WORKSPACE_WRAPPER of `cargo xtask fuzz`). The fuzzed crates
# are instrumented, so that libFuzzer sees which branches an input takes and which values it compares. The flags are
# those of cargo-fuzz, all of them stable. Other crates and build scripts are not instrumented.
rustc=$1
shift
case " $* " in
*" --crate-name daylily "* | *" --crate-name daylily_core "* | *" --crate-name daylily_fuzz "*)
  exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
  ;;
esac
exec "$rustc" "$@"
