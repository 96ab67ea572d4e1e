//! Starts with two pages of memory: one more than the smallest memory limit of a route.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-cdylib=--initial-memory=131072");
}
