//! A component's compiled code, and what an instance of it needs.

pub(crate) mod cache;
pub(crate) mod compile;
pub(crate) mod inspect;
mod misnamed;
mod parts;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use daylily_core::config::{Diagnostics, RouteLimits};
use daylily_core::excerpt::Excerpt;
use daylily_core::units::format_size;
use serde::{Deserialize, Serialize};
use wasmtime::component::Component;
use wasmtime::{Module, ResourcesRequired};

use self::cache::Key;
use self::inspect::{Inspection, NotServable};
use crate::component_link::parts::Parts;
use crate::engine::pool::{Needs, PoolKind, WasiVersion};
use crate::sys::limits::address_space_remedy;
use crate::sys::sealed::sealed;

const WASM_PAGE_BYTES: u64 = 64 << 10;

/// Where a component comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// The component that is embedded in this binary.
    HelloWorld,
    /// A file.
    File(PathBuf),
}

/// A component's compiled code, and what an instance of it needs. The code is in a sealed file that all workers map:
/// they share its pages, and run exactly what was checked.
#[derive(Clone)]
pub(crate) struct Artifact {
    pub(crate) source: Source,
    pub(crate) facts: Facts,
    /// None in a worker: only the supervisor compares keys.
    pub(crate) key: Option<Key>,
    /// Of the component's file, for the access log. None in a worker.
    digest: Option<blake3::Hash>,
    code: Part,
    /// The modules that were taken out of the component, in the order of their imports.
    modules: Vec<Part>,
}

/// Compiled code in a sealed file.
#[derive(Clone)]
pub(crate) struct Part {
    /// Of the part itself. None in a worker, and for a component that is compiled as a whole.
    key: Option<Key>,
    code: Arc<File>,
}

/// What is known of a component besides its code.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// The pool that its instances come from; its code is compiled for that pool.
    pub(crate) pool: PoolKind,
    pub(crate) form: Form,
    pub(crate) exports_p3: bool,
    /// Whether it imports the handler that follows it in a chain.
    pub(crate) imports_next: bool,
    declared: Declared,
}

/// What is compiled of a component.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Form {
    /// The whole component.
    Component,
    /// Only its main module, which is linked directly.
    Module,
    /// The component, and modules that were taken out of it, each on its own.
    Parts {
        /// The number of these modules.
        modules: u32,
        /// The number of core instances that it has for this reason.
        more_instances: u32,
    },
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "as a component",
            Self::Module => "directly",
            Self::Parts { .. } => "as a component in parts",
        })
    }
}

/// What a component declares, regardless of any limit.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Declared {
    memories: u32,
    max_initial_memory_bytes: u64,
    tables: u32,
    max_initial_table_elements: u64,
}

/// Why a component cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("failed to read component {component}: {error}; {}", misnamed::unreadable(component, error))]
    Unreadable { error: std::io::Error, component: SourceName },
    #[error("failed to load component {component}: {reason}{}", misnamed::not_servable(component, reason))]
    NotServable { reason: NotServable, component: SourceName },
    #[error(
        "failed to load component {component}: daylily does not provide these imports:\n{list}\nIf the component never calls \
         them, as with SDKs that import all they know, set missing_imports = \"trap\" (--missing-imports trap)",
        list = lines(imports)
    )]
    Unmet { imports: Vec<String>, component: SourceName },
    /// The file makes it what it cannot be.
    #[error("{0}")]
    InFile(Box<Diagnostics>),
    #[error("failed to load component {component}: {reason}")]
    OverLimit { reason: String, component: SourceName },
    #[error("failed to load component {component}: {}", Excerpt::display(format_args!("{error:#}")))]
    Refused { error: wasmtime::Error, component: SourceName },
    #[error("failed to copy the compiled code of component {component} into memory: {error}")]
    Memory { error: io::Error, component: SourceName },
    #[error(
        "failed to map the compiled code of component {component}: {error:#}; does the service manager forbid executable \
         memory (MemoryDenyWriteExecute=)?"
    )]
    Unmappable { error: wasmtime::Error, component: SourceName },
    #[error(
        "failed to reserve memory for instances: {error:#}; {}",
        address_space_remedy().as_deref().unwrap_or("lower max_concurrency or max_memory")
    )]
    Pool { error: wasmtime::Error },
    #[error("failed to open the directory `{dir}` that route `{route}` grants: {error}; check `dirs`", dir = dir.display())]
    Directory { dir: PathBuf, route: String, error: std::io::Error },
    #[error("failed to open the static files of route `{route}` in `{dir}`: {error}; check `files`", dir = dir.display())]
    Files { dir: PathBuf, route: String, error: std::io::Error },
}

impl LoadError {
    /// For a route whose component was left out of the compilation. Never reported to users.
    pub(crate) fn not_compiled(source: &Source) -> Self {
        Self::Refused { error: wasmtime::format_err!("it was not compiled"), component: source.name() }
    }

    /// sysexits.h: 65 bad data, 66 no input, 71 system error, 78 bad configuration.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Unreadable { .. } => 66,
            Self::NotServable { .. } | Self::Unmet { .. } | Self::Refused { .. } => 65,
            Self::Memory { .. } | Self::Unmappable { .. } => 71,
            Self::InFile(_)
            | Self::OverLimit { .. }
            | Self::Pool { .. }
            | Self::Directory { .. }
            | Self::Files { .. } => 78,
        }
    }
}

/// A [`Source`] as messages name it.
#[derive(Clone, Debug)]
pub(crate) struct SourceName(String);

impl SourceName {
    /// The path, if it is a file.
    pub(crate) fn path(&self) -> &str {
        self.0.trim_matches('`')
    }
}

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

impl Facts {
    pub(crate) fn of_component(component: &Component, inspection: &Inspection) -> Self {
        // None only for components that import core modules, which are never provided.
        let declared = component.resources_required();
        Self::new(Form::Component, inspection.pool, declared.as_ref(), inspection)
    }

    pub(crate) fn of_module(module: &Module, pool: PoolKind, inspection: &Inspection) -> Self {
        Self::new(Form::Module, pool, Some(&module.resources_required()), inspection)
    }

    fn of_parts(parts: &Parts<'_>, inspection: &Inspection) -> Self {
        let modules = u32::try_from(parts.modules.len()).unwrap_or(u32::MAX);
        let form = Form::Parts { modules, more_instances: parts.more_instances };
        let declared = Declared {
            memories: parts.resources.memories,
            max_initial_memory_bytes: parts.resources.max_initial_memory_pages.saturating_mul(WASM_PAGE_BYTES),
            tables: parts.resources.tables,
            max_initial_table_elements: parts.resources.max_initial_table_elements,
        };
        let Inspection { pool, exports_p3, imports_next, .. } = *inspection;
        Self { pool, form, exports_p3, imports_next, declared }
    }

    fn new(form: Form, pool: PoolKind, declared: Option<&ResourcesRequired>, inspection: &Inspection) -> Self {
        let Inspection { exports_p3, imports_next, .. } = *inspection;
        Self { pool, form, exports_p3, imports_next, declared: Declared::of(declared) }
    }

    /// The number of modules whose code is in files of their own.
    pub(crate) fn modules(&self) -> u32 {
        match self.form {
            Form::Parts { modules, .. } => modules,
            Form::Component | Form::Module => 0,
        }
    }

    /// The limit of an instance's core instances under `limits`, with those that daylily has added.
    pub(crate) fn max_instances(&self, limits: &RouteLimits) -> u32 {
        match self.form {
            Form::Parts { more_instances, .. } => limits.max_instances.saturating_add(more_instances),
            Form::Component | Form::Module => limits.max_instances,
        }
    }
}

impl Artifact {
    /// Writes compiled code to a sealed file that workers can map.
    pub(crate) fn new(source: &Source, file: &[u8], key: Key, facts: Facts, code: &[u8]) -> io::Result<Self> {
        let code = Part { key: None, code: Arc::new(sealed("daylily-code", code)?) };
        let digest = Some(blake3::hash(file));
        Ok(Self { source: source.clone(), facts, key: Some(key), digest, code, modules: Vec::new() })
    }

    fn in_parts(source: &Source, file: &[u8], key: Key, compiled: parts::Compiled) -> Self {
        let parts::Compiled { facts, component, modules } = compiled;
        let digest = Some(blake3::hash(file));
        Self { source: source.clone(), facts, key: Some(key), digest, code: component, modules }
    }

    /// An artifact that a worker has received from its supervisor.
    pub(crate) fn handed_over(source: Source, facts: Facts, code: File, modules: Vec<File>) -> Self {
        let part = |code| Part { key: None, code: Arc::new(code) };
        let modules = modules.into_iter().map(part).collect();
        Self { source, facts, key: None, digest: None, code: part(code), modules }
    }

    /// The same code for another source.
    pub(crate) fn of(&self, source: &Source) -> Self {
        Self {
            source: source.clone(),
            facts: self.facts,
            key: self.key,
            digest: self.digest,
            code: self.code.clone(),
            modules: self.modules.clone(),
        }
    }

    /// The BLAKE3 digest of the component's file, as `b3sum` prints it; empty in a worker.
    pub(crate) fn digest(&self) -> String {
        self.digest.map(|digest| digest.to_string()).unwrap_or_default()
    }

    /// The compiled code, as [`Component::serialize`] returns it.
    pub(crate) fn code(&self) -> &File {
        &self.code.code
    }

    /// The compiled code of the modules that were taken out of the component, as [`Module::serialize`] returns it.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &File> {
        self.modules.iter().map(|module| &*module.code)
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.code).chain(&self.modules)
    }

    /// The capacity that a slot needs for this component under `limits`.
    ///
    /// # Errors
    ///
    /// If the component declares more than the limits allow: no instance of it could ever start.
    pub(crate) fn needs(&self, limits: &RouteLimits) -> Result<Needs, LoadError> {
        let declared = self.facts.declared;
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
            core_instances: self.facts.max_instances(limits),
            // A P3 component runs each of its tasks on its own stack.
            stacks: if self.facts.pool.wasi_version == WasiVersion::P3 { 8 } else { 1 },
        })
    }
}

impl Declared {
    fn of(declared: Option<&ResourcesRequired>) -> Self {
        let of = |get: fn(&ResourcesRequired) -> u64| declared.map_or(0, get);
        Self {
            memories: u32::try_from(of(|needs| needs.num_memories.into())).unwrap_or(u32::MAX),
            max_initial_memory_bytes: of(|needs| needs.max_initial_memory_size.unwrap_or(0)) * WASM_PAGE_BYTES,
            tables: u32::try_from(of(|needs| needs.num_tables.into())).unwrap_or(u32::MAX),
            max_initial_table_elements: of(|needs| needs.max_initial_table_size.unwrap_or(0)),
        }
    }
}

/// Maximum of missing imports that an error lists. A component can have any number of them.
const MAX_LISTED_IMPORTS: usize = 50;

fn lines(imports: &[String]) -> String {
    let more = imports.len().saturating_sub(MAX_LISTED_IMPORTS);
    let listed = imports.iter().take(MAX_LISTED_IMPORTS).map(|import| format!("  - {import}"));
    listed.chain((more > 0).then(|| format!("  … and {more} more"))).collect::<Vec<_>>().join("\n")
}
