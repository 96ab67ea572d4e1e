//! A guest under test that writes all over its instance, and looks whether another one has: whatever a request
//! leaves behind where the next could read it, this finds. See `serve.wat` for what it does at which path.
//!
//! It is in WebAssembly's text format, because no other language has tables, globals and arrays to write to.

use std::path::Path;

use anyhow::{Context, Result};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Which wasi:http the guest is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wasi {
    /// `wasi:http/incoming-handler@0.2`.
    V2,
    /// `wasi:http/handler@0.3`.
    V3,
}

/// The field of its answers that says which places were not as they are at first: the sum of their numbers.
pub const FIELD: &str = "found";

/// Where it looks, each with its number.
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
/// When its text or the interfaces in `wit` do not fit.
pub fn component(wasi: Wasi) -> Result<Vec<u8>> {
    let http = match wasi {
        Wasi::V2 => include_str!("http02.wat"),
        Wasi::V3 => include_str!("http03.wat"),
    };
    encode(&format!("(module\n{http}\n{}\n{})", include_str!("serve.wat"), include_str!("places.wat")), wasi)
}

/// A component of any module that uses the interfaces in `wit`.
///
/// # Errors
///
/// When the text or the interfaces do not fit.
pub fn encode(module: &str, wasi: Wasi) -> Result<Vec<u8>> {
    encode_for(module, wasi, None)
}

/// A component of any module that uses the interfaces in `wit` and those of another package, for the one world that
/// this has.
///
/// # Errors
///
/// When the text or the interfaces do not fit.
pub fn encode_for(module: &str, wasi: Wasi, package: Option<&str>) -> Result<Vec<u8>> {
    let (wit, world) = match wasi {
        Wasi::V2 => ("0.2", "http"),
        Wasi::V3 => ("0.3", "service"),
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

/// The names of the places that an answer's [`FIELD`] stands for.
///
/// # Errors
///
/// When it is not the number that this guest would send.
pub fn places(field: &str) -> Result<Vec<&'static str>> {
    let found: u32 = field.parse().with_context(|| format!("`{field}` is no sum of places"))?;
    Ok(PLACES.iter().filter(|(number, _)| found & number != 0).map(|(_, name)| *name).collect())
}
