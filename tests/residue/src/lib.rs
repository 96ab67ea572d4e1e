//! A guest under test that overwrites everything in its instance, and checks whether an earlier instance left something
//! behind. It finds anything that a request leaves where the next one could read it. `serve.wat` lists its paths.
//!
//! It is written in WebAssembly's text format, because no other language can write to tables, globals and arrays.

use std::path::Path;

use anyhow::{Context, Result};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The version of wasi:http that the guest implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wasi {
    /// `wasi:http/incoming-handler@0.2`.
    P2,
    /// `wasi:http/handler@0.3`.
    P3,
}

/// The field of its responses with the sum of the numbers of all [`PLACES`] that were not in their initial state.
pub const FIELD: &str = "found";

/// The parts of an instance that it checks, each with its number.
pub const PLACES: [(u32, &str); 9] = [
    (1, "the memory with data"),
    (2, "the memory without data"),
    (4, "the sizes of memories and tables"),
    (8, "the table with initial elements"),
    (16, "the table of functions"),
    (32, "the table of external references"),
    (64, "the globals"),
    (128, "an array"),
    (256, "the handles"),
];

/// The component.
///
/// # Errors
///
/// When its text or the interfaces in `wit` are invalid.
pub fn component(wasi: Wasi) -> Result<Vec<u8>> {
    let http = match wasi {
        Wasi::P2 => include_str!("http_p2.wat"),
        Wasi::P3 => include_str!("http_p3.wat"),
    };
    encode(&format!("(module\n{http}\n{}\n{})", include_str!("serve.wat"), include_str!("places.wat")), wasi)
}

/// Makes a component from a module that uses the interfaces in `wit`.
///
/// # Errors
///
/// When the text or the interfaces are invalid.
pub fn encode(module: &str, wasi: Wasi) -> Result<Vec<u8>> {
    encode_for(module, wasi, None)
}

/// Makes a component from a module that uses the interfaces in `wit` and those of another package, for the only world
/// of that package.
///
/// # Errors
///
/// When the text or the interfaces are invalid.
pub fn encode_for(module: &str, wasi: Wasi, package: Option<&str>) -> Result<Vec<u8>> {
    let (wit, world) = match wasi {
        Wasi::P2 => ("0.2", "http"),
        Wasi::P3 => ("0.3", "service"),
    };
    let mut module = wat::parse_str(module)?;
    let mut resolve = Resolve::default();
    let interfaces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit").join(wit);
    let (interfaces, _) = resolve.push_dir(interfaces).context("failed to read the interfaces")?;
    let world = match package {
        Some(text) => {
            let package = resolve.push_str("package.wit", text).context("failed to read the package")?;
            resolve.select_world(&[package], None)?
        }
        None => resolve.select_world(&[interfaces], Some(world))?,
    };
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().module(&module)?.validate(true).encode()
}

/// The names of the parts that a response's [`FIELD`] reports.
///
/// # Errors
///
/// When it is not a number that this guest sends.
pub fn places(field: &str) -> Result<Vec<&'static str>> {
    let found: u32 = field.parse().with_context(|| format!("`{field}` is no sum of places"))?;
    Ok(PLACES.iter().filter(|(number, _)| found & number != 0).map(|(_, name)| *name).collect())
}
