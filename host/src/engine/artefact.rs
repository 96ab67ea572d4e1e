//! From a component file to compiled code, ready to be loaded into a pool.

use std::cell::OnceCell;
use std::fmt;
use std::path::{Path, PathBuf};

use daylily_core::config::RouteLimits;
use daylily_core::units::format_size;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::config::{Flavour, compiler};
use super::inspect::{NotServable, inspect};
use crate::host_api::link;

/// The Hello World of the README, served when nothing else is asked for.
static HELLO_WORLD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello.wasm"));

const WASM_PAGE_BYTES: u64 = 64 << 10;

/// Where a component comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// The component in this binary.
    HelloWorld,
    /// A file.
    File(PathBuf),
}

/// Compiled code of one component, and what an instance of it takes.
pub(crate) struct Artefact {
    pub(crate) source: Source,
    pub(crate) flavour: Flavour,
    pub(super) exports_v3: bool,
    pub(super) code: Vec<u8>,
    declared: Declared,
}

/// What a component declares, before any limit.
#[derive(Clone, Copy)]
struct Declared {
    memories: u32,
    max_initial_memory_bytes: u64,
    tables: u32,
    max_initial_table_elements: u64,
}

/// What a slot of the pool must have room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub(super) memories: u32,
    pub(super) memory_bytes: u64,
    pub(super) tables: u32,
    pub(super) table_elements: usize,
    pub(super) core_instances: u32,
    pub(super) stacks: u32,
}

impl Needs {
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            memories: self.memories.max(other.memories),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            tables: self.tables.max(other.tables),
            table_elements: self.table_elements.max(other.table_elements),
            core_instances: self.core_instances.max(other.core_instances),
            stacks: self.stacks.max(other.stacks),
        }
    }
}

/// Why a component cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("failed to read component {component}: {error}; check the path and its permissions")]
    Unreadable { error: std::io::Error, component: SourceName },
    #[error("failed to load component {component}: {reason}")]
    NotServable { reason: NotServable, component: SourceName },
    #[error("failed to load component {component}: nothing provides what it imports:\n{list}", list = lines(imports))]
    Unmet { imports: Vec<String>, component: SourceName },
    #[error("failed to load component {component}: {reason}")]
    OverLimit { reason: String, component: SourceName },
    #[error("failed to load component {component}: {error:#}")]
    Refused { error: wasmtime::Error, component: SourceName },
    #[error("failed to make room for instances: {error:#}; lower max_concurrency or max_memory")]
    Pool { error: wasmtime::Error },
    #[error("failed to open the directory `{dir}` that route `{route}` grants: {error}; check `dirs`", dir = dir.display())]
    Directory { dir: PathBuf, route: String, error: std::io::Error },
}

impl LoadError {
    /// A route whose component was left out; not to be seen.
    pub(crate) fn not_compiled(source: &Source) -> Self {
        Self::Refused { error: wasmtime::format_err!("it was not compiled"), component: source.name() }
    }

    /// sysexits.h: bad data, no input, bad configuration.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Unreadable { .. } => 66,
            Self::NotServable { .. } | Self::Unmet { .. } | Self::Refused { .. } => 65,
            Self::OverLimit { .. } | Self::Pool { .. } | Self::Directory { .. } => 78,
        }
    }
}

/// A [`Source`] as messages name it.
#[derive(Clone, Debug)]
pub(crate) struct SourceName(String);

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Source {
    pub(crate) fn name(&self) -> SourceName {
        SourceName(match self {
            Self::HelloWorld => "(the built-in Hello World)".to_owned(),
            Self::File(path) => format!("`{}`", path.display()),
        })
    }
}

/// Compiles components. Engines are made when the first component of their flavour comes.
#[derive(Default)]
pub(crate) struct Compiler {
    v2: OnceCell<Engine>,
    v3: OnceCell<Engine>,
}

impl Compiler {
    /// Reads, checks and compiles one component.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is not a component that answers HTTP, imports something that
    /// nothing provides (all such imports are named), or does not compile.
    pub(crate) fn compile(&self, source: &Source) -> Result<Artefact, LoadError> {
        let name = source.name();
        let file;
        let bytes = match source {
            Source::HelloWorld => HELLO_WORLD,
            Source::File(path) => {
                file = read(path).map_err(|error| LoadError::Unreadable { error, component: name.clone() })?;
                &file
            }
        };
        let inspection = inspect(bytes).map_err(|reason| LoadError::NotServable { reason, component: name.clone() })?;
        let unmet = link::unmet_imports(&inspection.imports, inspection.flavour);
        if !unmet.is_empty() {
            return Err(LoadError::Unmet { imports: unmet, component: name });
        }
        let refused = |error| LoadError::Refused { error, component: name.clone() };
        let engine = self.engine(inspection.flavour).map_err(refused)?;
        let component = Component::new(engine, bytes).map_err(refused)?;
        let code = component.serialize().map_err(refused)?;
        Ok(Artefact {
            source: source.clone(),
            flavour: inspection.flavour,
            exports_v3: inspection.exports_v3,
            code,
            declared: Declared::of(&component),
        })
    }

    fn engine(&self, flavour: Flavour) -> wasmtime::Result<&Engine> {
        let cell = match flavour {
            Flavour::V2 => &self.v2,
            Flavour::V3 => &self.v3,
        };
        if let Some(engine) = cell.get() {
            return Ok(engine);
        }
        let engine = compiler(flavour)?;
        Ok(cell.get_or_init(|| engine))
    }
}

impl Artefact {
    /// What a slot must have room for when this component runs under `limits`.
    ///
    /// # Errors
    ///
    /// When the component declares more than the limits allow, so that no instance could ever start.
    pub(crate) fn needs(&self, limits: &RouteLimits) -> Result<Needs, LoadError> {
        let declared = self.declared;
        let over = |reason| Err(LoadError::OverLimit { reason, component: self.source.name() });
        if declared.max_initial_memory_bytes > limits.max_memory_bytes {
            return over(format!(
                "it starts with {} of memory, more than max_memory = {}; raise max_memory",
                format_size(declared.max_initial_memory_bytes),
                format_size(limits.max_memory_bytes),
            ));
        }
        for (what, declared, key, limit) in [
            ("memories", u64::from(declared.memories), "max_memories", limits.max_memories),
            ("tables", u64::from(declared.tables), "max_tables", limits.max_tables),
            (
                "elements in a table",
                declared.max_initial_table_elements,
                "max_table_elements",
                limits.max_table_elements,
            ),
        ] {
            if declared > u64::from(limit) {
                return over(format!("it has {declared} {what}, more than {key} = {limit}; raise {key}"));
            }
        }
        Ok(Needs {
            memories: declared.memories.max(1),
            memory_bytes: limits.max_memory_bytes,
            tables: declared.tables.max(1),
            table_elements: usize::try_from(declared.max_initial_table_elements).unwrap_or(usize::MAX),
            core_instances: limits.max_instances,
            // A 0.3 component runs each of its tasks on a stack of its own.
            stacks: if self.flavour == Flavour::V3 { 8 } else { 1 },
        })
    }
}

impl Declared {
    fn of(component: &Component) -> Self {
        // None only for components that import core modules, which nothing provides.
        let declared = component.resources_required();
        let of = |get: fn(&wasmtime::ResourcesRequired) -> u64| declared.as_ref().map_or(0, get);
        Self {
            memories: u32::try_from(of(|needs| needs.num_memories.into())).unwrap_or(u32::MAX),
            max_initial_memory_bytes: of(|needs| needs.max_initial_memory_size.unwrap_or(0)) * WASM_PAGE_BYTES,
            tables: u32::try_from(of(|needs| needs.num_tables.into())).unwrap_or(u32::MAX),
            max_initial_table_elements: of(|needs| needs.max_initial_table_size.unwrap_or(0)),
        }
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    std::fs::read(path)
}

fn lines(imports: &[String]) -> String {
    imports.iter().map(|import| format!("  - {import}")).collect::<Vec<_>>().join("\n")
}
