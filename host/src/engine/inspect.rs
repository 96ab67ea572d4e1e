//! What a file is, before anything is compiled: a component or not, and what it imports and exports.

use wasmparser::{Encoding, Parser, Payload};

use super::config::Flavour;

/// The outside of a component.
pub(super) struct Inspection {
    pub(super) flavour: Flavour,
    /// Which handler it exports; a component that exports both is asked through 0.3.
    pub(super) exports_v3: bool,
    /// The names of its imports, in order.
    pub(super) imports: Vec<String>,
}

/// Why a file cannot be served, whatever is linked to it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotServable {
    /// Neither a component nor a core module.
    #[error("it is not WebAssembly (a component starts with the bytes 00 61 73 6d 0d 00 01 00)")]
    NotWasm,
    /// A core module, which has no interface to speak HTTP through.
    #[error(
        "it is a core module, not a component; build it for the wasm32-wasip2 target, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// The file ends early or is damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// A component that answers no HTTP.
    #[error(
        "it exports no HTTP handler (wasi:http/incoming-handler@0.2.x or wasi:http/handler@0.3.x); it exports: {exports}"
    )]
    NoHandler {
        /// What it exports instead.
        exports: String,
    },
}

/// Reads the top level of a component.
pub(super) fn inspect(bytes: &[u8]) -> Result<Inspection, NotServable> {
    if !bytes.starts_with(b"\0asm") {
        return Err(NotServable::NotWasm);
    }
    let mut imports = Vec::new();
    let mut exports = Vec::new();
    for payload in top_level(bytes) {
        match payload.map_err(damaged)? {
            Payload::Version { encoding: Encoding::Module, .. } => return Err(NotServable::CoreModule),
            Payload::ComponentImportSection(section) => {
                for import in section {
                    imports.push(import.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    exports.push(export.map_err(damaged)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    let flavour = flavour(&imports, &exports).ok_or_else(|| NotServable::NoHandler { exports: list(&exports) })?;
    Ok(Inspection { flavour, exports_v3: exports_v3(&exports), imports })
}

/// What is in a module or a component, but for what is in those nested in it; they themselves are there.
pub(super) fn top_level(bytes: &[u8]) -> impl Iterator<Item = wasmparser::Result<Payload<'_>>> {
    // Payloads of what is nested come between a parser's start and end.
    let mut depth = 0_u32;
    Parser::new(0).parse_all(bytes).filter(move |payload| {
        let is_nested = depth > 0;
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            _ => {}
        }
        !is_nested || payload.is_err()
    })
}

/// 0.3 when it exports the 0.3 handler, or imports anything of 0.3 beside a 0.2 handler.
fn flavour(imports: &[String], exports: &[String]) -> Option<Flavour> {
    if exports_v3(exports) {
        return Some(Flavour::V3);
    }
    exports.iter().any(|name| name.starts_with("wasi:http/incoming-handler@0.2.")).then(|| {
        let needs_concurrency = imports.iter().any(|name| name.starts_with("wasi:") && name.contains("@0.3."));
        if needs_concurrency { Flavour::V3 } else { Flavour::V2 }
    })
}

fn exports_v3(exports: &[String]) -> bool {
    exports.iter().any(|name| name.starts_with("wasi:http/handler@0.3."))
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a map_err function")]
fn damaged(error: wasmparser::BinaryReaderError) -> NotServable {
    NotServable::Damaged(error.to_string())
}
