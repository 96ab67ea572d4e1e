//! What a file is, before anything is compiled: a component or not, and what it imports and exports.

use wasmparser::{Encoding, Parser, Payload};

use super::config::{Flavour, PoolKind, Reset, WHOLE_RESET_BYTES};

/// The outside of a component.
pub(super) struct Inspection {
    pub(super) pool: PoolKind,
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
    let is_small = max_initial_memory(bytes).map_err(damaged)? <= WHOLE_RESET_BYTES;
    let pool = PoolKind { flavour, reset: if is_small { Reset::Whole } else { Reset::Written } };
    Ok(Inspection { pool, exports_v3: exports_v3(&exports), imports })
}

/// What the largest linear memory of all core modules starts with, in bytes.
fn max_initial_memory(bytes: &[u8]) -> wasmparser::Result<u64> {
    let mut most = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::MemorySection(section) = payload? {
            for memory in section {
                let memory = memory?;
                let page_bytes = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(16)).unwrap_or(u64::MAX);
                most = most.max(memory.initial.saturating_mul(page_bytes));
            }
        }
    }
    Ok(most)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A component of 0.2 with two core modules; `memories` are what the second declares.
    fn component(memories: &str) -> Vec<u8> {
        let text = format!(
            r#"(component
              (core module (memory 1))
              (component (core module {memories}))
              (instance $empty)
              (export "wasi:http/incoming-handler@0.2.3" (instance $empty)))"#
        );
        wat::parse_str(text).expect("a component")
    }

    #[test]
    fn the_largest_memory_decides_how_slots_are_reset() {
        for (memories, reset) in [
            ("", Reset::Whole),
            ("(memory 3 1000)", Reset::Whole),
            ("(memory 4)", Reset::Written),
            ("(memory 1) (memory 4)", Reset::Written),
            ("(memory 196608 (pagesize 1))", Reset::Whole),
            ("(memory 196609 (pagesize 1))", Reset::Written),
        ] {
            let inspection = inspect(&component(memories)).expect("a handler");
            assert_eq!(inspection.pool, PoolKind { flavour: Flavour::V2, reset }, "{memories}");
        }
    }
}
