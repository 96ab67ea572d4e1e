//! Exports the symbols of this program: the library's instrumentation calls functions of libFuzzer, which is linked
//! here.
fn main() {
    println!("cargo::rustc-link-arg-bins=-rdynamic");
}
