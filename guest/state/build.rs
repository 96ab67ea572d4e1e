//! Two pages of memory to start with: one more than the least that a route can be given.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-cdylib=--initial-memory=131072");
}
