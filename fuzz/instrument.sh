#!/bin/sh
# rustc for the crates of this workspace (RUSTC_WORKSPACE_WRAPPER of `cargo xtask fuzz`). Those whose code is fuzzed
# are instrumented, so that libFuzzer sees which branches an input takes and with what they compare; the flags are
# those of cargo-fuzz. All of them are stable. Other crates are built as ever, and build scripts stay as they are.
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
