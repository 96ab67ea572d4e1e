//! The library's instrumentation calls functions of libFuzzer, which are in this program.
fn main() {
    println!("cargo::rustc-link-arg-bins=-rdynamic");
}
