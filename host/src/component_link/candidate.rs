//! Components that were built with a release candidate of WASI 0.3 whose interfaces are those of 0.3.0.
//!
//! A candidate's version is compatible with no other, neither here nor in wasmtime's linker. So the imports and exports
//! of such a component are renamed to the release's names first of all. Names within the component, such as those of
//! its core modules' imports, only refer to each other, and are left unchanged.

use std::borrow::Cow;

use wasmparser::{BinaryReader, Chunk, Parser, Payload};

use super::payloads::top_level;

/// Must be incremented with every change to this module's output: it is a part of the cache key.
pub(crate) const VERSION: u32 = 2;

/// The suffix of the names of WASI interfaces that are identical in the release. SDKs of Spin were built with it.
const CANDIDATE: &str = "@0.3.0-rc-2026-03-15";
const RELEASE: &str = "@0.3.0";

/// Another version that is compatible with the release, for imports of a component that also imports the release: their
/// names must differ.
const COMPATIBLE: &str = "@0.3.99";

/// Section IDs of a component's imports and exports.
const IMPORTS: u8 = 10;
const EXPORTS: u8 = 11;

/// The component with the release's names. It is returned unchanged if it has no name of the candidate, or is
/// malformed.
pub(crate) fn released(component: &[u8]) -> Cow<'_, [u8]> {
    let has_candidate = component.windows(CANDIDATE.len()).any(|bytes| bytes == CANDIDATE.as_bytes());
    has_candidate.then(|| renamed(component)).flatten().map_or(Cow::Borrowed(component), Cow::Owned)
}

fn renamed(component: &[u8]) -> Option<Vec<u8>> {
    let imported = if imports_release(component)? { COMPATIBLE } else { RELEASE };
    let mut written = Vec::with_capacity(component.len());
    let mut parser = Parser::new(0);
    let mut rest = component;
    loop {
        let Chunk::Parsed { consumed, payload } = parser.parse(rest, true).ok()? else { return None };
        let (section, after) = rest.split_at_checked(consumed)?;
        // The offsets, within the whole file, of the names of the section's items.
        let (id, version, items): (u8, &str, Vec<usize>) = match payload {
            Payload::End(_) => return Some(written),
            Payload::ComponentImportSection(reader) => (
                IMPORTS,
                imported,
                reader.into_iter_with_offsets().map(|item| item.map(|(at, _)| at)).collect::<Result<_, _>>().ok()?,
            ),
            Payload::ComponentExportSection(reader) => (
                EXPORTS,
                RELEASE,
                reader.into_iter_with_offsets().map(|item| item.map(|(at, _)| at)).collect::<Result<_, _>>().ok()?,
            ),
            payload => {
                written.extend_from_slice(section);
                rest = after;
                if let Payload::ModuleSection { unchecked_range, .. }
                | Payload::ComponentSection { unchecked_range, .. } = payload
                {
                    // A nested module or component is copied unchanged.
                    let (nested, after) = rest.split_at_checked(unchecked_range.len())?;
                    written.extend_from_slice(nested);
                    rest = after;
                }
                continue;
            }
        };
        let start = component.len() - rest.len();
        let contents = with_version(version, component, start + header_bytes(section)?..start + consumed, &items)?;
        written.push(id);
        write_u32(&mut written, contents.len())?;
        written.extend(contents);
        rest = after;
    }
}

/// Whether an interface of WASI is imported in the release's version.
fn imports_release(component: &[u8]) -> Option<bool> {
    for payload in top_level(component) {
        if let Payload::ComponentImportSection(section) = payload.ok()? {
            for import in section {
                let name = import.ok()?.name.name;
                if name.starts_with("wasi:") && name.ends_with(RELEASE) {
                    return Some(true);
                }
            }
        }
    }
    Some(false)
}

/// The number of bytes of a section's header: its ID and its length.
fn header_bytes(section: &[u8]) -> Option<usize> {
    let mut reader = BinaryReader::new(section, 0);
    reader.read_u8().ok()?;
    reader.read_var_u32().ok()?;
    Some(reader.original_position())
}

/// The contents of a section, with names that have this version. Each offset in `items` is that of a name: a byte for
/// its kind, its length, and the text.
fn with_version(version: &str, component: &[u8], range: std::ops::Range<usize>, items: &[usize]) -> Option<Vec<u8>> {
    let mut contents = Vec::with_capacity(range.len());
    let mut copied = range.start;
    for item in items {
        let length_at = item + 1;
        let mut reader = BinaryReader::new(component.get(length_at..range.end)?, length_at);
        let name = reader.read_string().ok()?;
        let Some(interface) = name.strip_suffix(CANDIDATE).filter(|name| name.starts_with("wasi:")) else { continue };
        contents.extend_from_slice(component.get(copied..length_at)?);
        write_u32(&mut contents, interface.len() + version.len())?;
        contents.extend_from_slice(interface.as_bytes());
        contents.extend_from_slice(version.as_bytes());
        copied = reader.original_position();
    }
    contents.extend_from_slice(component.get(copied..range.end)?);
    Some(contents)
}

/// Appends an unsigned LEB128.
fn write_u32(to: &mut Vec<u8>, value: usize) -> Option<()> {
    let mut value = u32::try_from(value).ok()?;
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            to.push(low & 0x7f);
            return Some(());
        }
        to.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_of_the_candidate_becomes_one_of_the_release() {
        let component = residue_guest::component(residue_guest::Wasi::P3).expect("a component");
        let text = wasmprinter::print_bytes(&component).expect("its text");
        let of_candidate = wat::parse_str(text.replace(RELEASE, CANDIDATE)).expect("a component");
        let released = released(&of_candidate);
        wasmparser::Validator::new().validate_all(&released).expect("a valid component");
        let names = |component: &[u8]| {
            let mut names = Vec::new();
            for payload in crate::component_link::payloads::top_level(component) {
                match payload.expect("a payload") {
                    Payload::ComponentImportSection(section) => {
                        names.extend(section.into_iter().map(|import| import.expect("an import").name.name.to_owned()));
                    }
                    Payload::ComponentExportSection(section) => {
                        names.extend(section.into_iter().map(|export| export.expect("an export").name.name.to_owned()));
                    }
                    _ => {}
                }
            }
            names
        };
        assert_eq!(names(&released), names(&component));
        assert!(names(&of_candidate).iter().any(|name| name.ends_with(CANDIDATE)));
    }

    #[test]
    fn what_is_not_of_the_candidate_stays_as_it_is() {
        let text = |name: &str| format!(r#"(component (import "{name}" (instance)))"#);
        for name in
            ["wasi:cli/stdin@0.3.0", "wasi:cli/stdin@0.3.0-rc-2025-09-16", "other:cli/stdin@0.3.0-rc-2026-03-15"]
        {
            let component = wat::parse_str(text(name)).expect("a component");
            assert_eq!(released(&component), component, "{name}");
        }
        let component = wat::parse_str(text("wasi:cli/stdin@0.3.0-rc-2026-03-15")).expect("a component");
        for end in 0..component.len() {
            // Truncation at any offset must not panic.
            let _ = released(&component[..end]);
        }
        let of_release = wat::parse_str(text("wasi:cli/stdin@0.3.0")).expect("a component");
        assert_eq!(released(&component), of_release);
    }

    #[test]
    fn a_component_may_import_both() {
        let text = |version: &str| {
            let imports =
                ["@0.3.0", version].map(|version| format!(r#"(import "wasi:cli/stdin{version}" (instance))"#));
            wat::parse_str(format!("(component {})", imports.concat())).expect("a component")
        };
        assert_eq!(released(&text(CANDIDATE)), text(COMPATIBLE));
    }
}
