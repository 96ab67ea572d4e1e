//! Inspection of a file before it is compiled: whether it is a component, and its imports and exports.

use daylily_core::excerpt::Excerpt;
use wasmparser::{Encoding, Payload};

use crate::component_link::payloads::{payloads, top_level};
use crate::engine::pool::{MAX_METADATA_BYTES, PoolKind, Reset, WHOLE_RESET_BYTES, WasiVersion};
use crate::wasi::link;

/// The result of the inspection of a component.
pub(crate) struct Inspection {
    pub(crate) pool: PoolKind,
    /// Whether it exports a P3 handler, which is used even if it exports a P2 handler as well.
    pub(crate) exports_p3: bool,
    /// Whether it imports the handler that follows it in a chain.
    pub(crate) imports_next: bool,
    /// The names of its imports, in order.
    pub(crate) imports: Vec<String>,
}

/// Why a file cannot be served, whatever imports are provided.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotServable {
    /// Neither a component nor a core module.
    #[error("it is not WebAssembly (a component starts with the bytes 00 61 73 6d 0d 00 01 00)")]
    NotWasm,
    /// A core module, which cannot export an HTTP handler.
    #[error(
        "it is a core module, not a component; build it for the wasm32-wasip2 target, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// The file ends in the middle of a section.
    #[error("it is truncated after {bytes} bytes; rebuild it or download it again")]
    Truncated { bytes: usize },
    /// The file is damaged.
    #[error("it is corrupt: {0}; rebuild it or download it again")]
    Damaged(Excerpt),
    /// A component for an unreleased version of WASI.
    #[error("its handler, {handler}, is from a draft of WASI {release}; rebuild it for the released WASI {release}")]
    Draft { handler: Excerpt, release: &'static str },
    /// A component without an HTTP handler.
    #[error(
        "it exports no HTTP handler (wasi:http/incoming-handler@0.2.x or wasi:http/handler@0.3.x); it exports: {exports}"
    )]
    NoHandler {
        /// What it exports instead.
        exports: String,
    },
}

/// Reads the top level of a component.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Inspection, NotServable> {
    if !bytes.starts_with(b"\0asm") {
        return Err(NotServable::NotWasm);
    }
    let mut imports = Vec::new();
    let mut exports = Vec::new();
    let damaged = |error: wasmparser::BinaryReaderError| match error.message() {
        // wasmparser has no error kind for it.
        message if message.starts_with("unexpected end") => NotServable::Truncated { bytes: bytes.len() },
        _ => NotServable::Damaged(Excerpt::display(error)),
    };
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
    let wasi_version = wasi_version(&imports, &exports).ok_or_else(|| no_handler(&exports))?;
    let is_small = Size::of(bytes).map_err(damaged)?.is_small();
    let pool = PoolKind { wasi_version, reset: if is_small { Reset::Whole } else { Reset::Written } };
    let imports_next = imports.iter().any(|name| is_of_release(name, HANDLER_P3));
    Ok(Inspection { pool, exports_p3: exports_p3(&exports), imports_next, imports })
}

/// The size of an instance.
#[derive(Default)]
struct Size {
    /// The initial size of the largest linear memory.
    memory_bytes: u64,
    /// Items for which a core instance in wasmtime has an entry: functions, globals, tables and so on, of all core
    /// modules.
    items: u64,
    /// Core instances of the component.
    instances: u64,
    /// Core instances of nested components, each of which may be instantiated several times.
    nested_instances: u64,
}

/// An upper bound of the size of an item's entry.
const ITEM_BYTES: u64 = 64;

impl Size {
    fn of(bytes: &[u8]) -> wasmparser::Result<Self> {
        let mut size = Self::default();
        for payload in payloads(bytes) {
            match payload? {
                (_, Payload::MemorySection(section)) => {
                    for memory in section {
                        let memory = memory?;
                        let page_bytes = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(16)).unwrap_or(u64::MAX);
                        size.memory_bytes = size.memory_bytes.max(memory.initial.saturating_mul(page_bytes));
                    }
                }
                (_, Payload::ImportSection(section)) => size.items += u64::from(section.count()),
                (_, Payload::FunctionSection(section)) => size.items += u64::from(section.count()),
                (_, Payload::TableSection(section)) => size.items += u64::from(section.count()),
                (_, Payload::GlobalSection(section)) => size.items += u64::from(section.count()),
                (_, Payload::TagSection(section)) => size.items += u64::from(section.count()),
                (0, Payload::InstanceSection(section)) => size.instances += u64::from(section.count()),
                (_, Payload::InstanceSection(section)) => size.nested_instances += u64::from(section.count()),
                _ => {}
            }
        }
        Ok(size)
    }

    /// Whether its instances fit into slots for small components. All others come from wasmtime's pool, which has its
    /// own limit for an instance's metadata.
    fn is_small(&self) -> bool {
        self.memory_bytes <= WHOLE_RESET_BYTES
            && self.nested_instances == 0
            && self.items.saturating_mul(ITEM_BYTES).saturating_mul(self.instances) <= MAX_METADATA_BYTES as u64
    }
}

/// P3 if it exports a P3 handler, or exports a P2 handler and imports anything of P3.
fn wasi_version(imports: &[String], exports: &[String]) -> Option<WasiVersion> {
    if exports_p3(exports) {
        return Some(WasiVersion::P3);
    }
    exports.iter().any(|name| is_of_release(name, HANDLER_P2)).then(|| {
        let needs_concurrency = imports.iter().any(|name| link::needs_p3(name));
        if needs_concurrency { WasiVersion::P3 } else { WasiVersion::P2 }
    })
}

fn exports_p3(exports: &[String]) -> bool {
    exports.iter().any(|name| is_of_release(name, HANDLER_P3))
}

/// The names of the handlers, up to the patch version.
const HANDLER_P2: &str = "wasi:http/incoming-handler@0.2.";
const HANDLER_P3: &str = "wasi:http/handler@0.3.";

/// Versions of drafts have a hyphen. They are compatible with no other version.
fn is_of_release(name: &str, interface: &str) -> bool {
    name.strip_prefix(interface).is_some_and(|patch| !patch.contains('-'))
}

fn no_handler(exports: &[String]) -> NotServable {
    let draft = |name: &String| {
        let is_of = |(interface, _): &(&str, &str)| name.starts_with(interface);
        let (_, release) = [(HANDLER_P2, "0.2"), (HANDLER_P3, "0.3")].into_iter().find(is_of)?;
        Some(NotServable::Draft { handler: Excerpt::of(name), release })
    };
    exports.iter().find_map(draft).unwrap_or_else(|| NotServable::NoHandler { exports: list(exports) })
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { String::from(Excerpt::of(&names.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A P2 component with this content.
    fn component(content: &str) -> Vec<u8> {
        let text = format!(
            r#"(component
              {content}
              (instance $empty)
              (export "wasi:http/incoming-handler@0.2.3" (instance $empty)))"#
        );
        wat::parse_str(text).expect("a component")
    }

    fn reset(content: &str) -> Reset {
        let PoolKind { wasi_version, reset } = inspect(&component(content)).expect("a handler").pool;
        assert_eq!(wasi_version, WasiVersion::P2);
        reset
    }

    #[test]
    fn the_largest_memory_decides_how_slots_are_reset() {
        for (memories, expected) in [
            ("", Reset::Whole),
            ("(memory 3 1000)", Reset::Whole),
            ("(memory 4)", Reset::Written),
            ("(memory 1) (memory 4)", Reset::Written),
            ("(memory 196608 (pagesize 1))", Reset::Whole),
            ("(memory 196609 (pagesize 1))", Reset::Written),
        ] {
            let content = format!("(core module (memory 1)) (component (core module {memories}))");
            assert_eq!(reset(&content), expected, "{memories}");
        }
    }

    #[test]
    fn what_wasmtime_keeps_of_an_instance_is_the_pools_to_limit() {
        // 2,600 globals in 100 instances are just below the pool's limit for one component.
        let module = |globals: usize| format!("(core module $m {})", "(global i32 i32.const 0)".repeat(globals));
        let instances = |count: usize| "(core instance (instantiate $m))".repeat(count);
        assert_eq!(reset(&(module(2_600) + &instances(100))), Reset::Whole);
        assert_eq!(reset(&(module(2_600) + &instances(101))), Reset::Written);
        assert_eq!(reset(&(module(2_700) + &instances(100))), Reset::Written);
        let nested = format!("(component $c {} {})", module(1), instances(1));
        assert_eq!(reset(&(nested + "(instance (instantiate $c))")), Reset::Written);
    }
}
