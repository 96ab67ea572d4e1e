//! From a component file to its artifact: a known one, one from the cache, or a newly compiled one.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};

use daylily_core::config::MissingImports;
use daylily_core::excerpt::Excerpt;
use daylily_core::log_target;
use wasmtime::Module;
use wasmtime::component::Component;

use super::cache::{Cache, Key};
use super::inspect::{Inspection, inspect};
use super::{Artifact, Facts, LoadError, Source, SourceName};
use crate::component_abi::Function;
use crate::component_link::candidate::{self, released};
use crate::component_link::direct;
use crate::component_link::relink::{self, relink};
use crate::engine::pool::{KINDS, MAX_METADATA_BYTES, PoolKind, StackDetail, WHOLE_RESET_BYTES, WasiVersion, compiler};
use crate::sys::read_file::{MAX_COMPONENT_BYTES, read_file};
use crate::wasi::link;
use crate::wasi::state::State;

/// The Hello World of the README, which is served if no component is given.
static HELLO_WORLD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello.wasm"));

/// Components of at least this size are logged before they are compiled, since that takes a noticeable time.
pub(super) const LARGE_BYTES: usize = 1 << 20;

/// The imports, and the bytes of each, in the log line about those that are not provided.
const MAX_LOGGED_IMPORTS: usize = 100;
const MAX_IMPORT_BYTES: usize = 256;

/// The imports of a component.
///
/// # Errors
///
/// If the file cannot be read, or is not a component with an HTTP handler.
pub(crate) fn imports(source: &Source) -> Result<Vec<String>, LoadError> {
    let refused = |reason| LoadError::NotServable { reason, component: source.name() };
    Ok(inspect(&released(&read(source)?)).map_err(refused)?.imports)
}

/// Checks a component as far as possible without compiling it.
///
/// # Errors
///
/// If the file cannot be read, is not a component with an HTTP handler, or has an import that is not provided.
pub(crate) fn check(source: &Source, missing: MissingImports) -> Result<Inspection, LoadError> {
    inspected(source, &released(&read(source)?), missing)
}

fn read(source: &Source) -> Result<Cow<'static, [u8]>, LoadError> {
    match source {
        Source::HelloWorld => Ok(HELLO_WORLD.into()),
        Source::File(path) => read_file(path, MAX_COMPONENT_BYTES)
            .map(Cow::from)
            .map_err(|error| LoadError::Unreadable { error, component: source.name() }),
    }
}

fn inspected(source: &Source, bytes: &[u8], missing: MissingImports) -> Result<Inspection, LoadError> {
    let refused = |reason| LoadError::NotServable { reason, component: source.name() };
    let inspection = inspect(bytes).map_err(refused)?;
    let unmet = link::unmet_imports(&inspection.imports, inspection.pool.wasi_version);
    if unmet.is_empty() {
        return Ok(inspection);
    }
    if missing == MissingImports::Refuse {
        let imports = unmet.into_iter().map(link::describe).collect();
        return Err(LoadError::Unmet { imports, component: source.name() });
    }
    let more = unmet.len().saturating_sub(MAX_LOGGED_IMPORTS);
    let listed = unmet.into_iter().take(MAX_LOGGED_IMPORTS).map(|import| Excerpt::within(import, MAX_IMPORT_BYTES));
    let mut listed: Vec<_> = listed.map(|import| import.as_str().to_owned()).collect();
    listed.extend((more > 0).then(|| format!("and {more} more")));
    tracing::warn!(
        target: log_target::COMPONENT,
        "component {} has imports that daylily does not provide; a call of one ends its request: {}",
        source.name(),
        listed.join(", ")
    );
    Ok(inspection)
}

/// Compiles components that are not compiled yet.
pub(crate) struct Compiler {
    /// A digest of everything that determines a component's compiled code and its facts.
    settings: blake3::Hasher,
    cache: Option<Cache>,
    detail: StackDetail,
    missing: MissingImports,
    /// The host functions that directly linked modules may import.
    functions: Vec<Function<State>>,
}

impl Compiler {
    /// # Errors
    ///
    /// If wasmtime does not support this machine.
    pub(crate) fn new(cache: Option<Cache>, detail: StackDetail, missing: MissingImports) -> wasmtime::Result<Self> {
        let mut settings = Blake3(blake3::Hasher::new());
        (
            env!("CARGO_PKG_VERSION"),
            relink::VERSION,
            direct::VERSION,
            candidate::VERSION,
            WHOLE_RESET_BYTES,
            MAX_METADATA_BYTES,
            missing == MissingImports::Trap,
        )
            .hash(&mut settings);
        let functions = link::functions();
        for function in &functions {
            (function.import(), function.allocates).hash(&mut settings);
        }
        for kind in KINDS {
            // wasmtime's version, its settings (which depend on `detail`), and the CPU's features.
            compiler(kind, detail)?.precompile_compatibility_hash().hash(&mut settings);
        }
        Ok(Self { settings: settings.0, cache, detail, missing, functions })
    }

    /// Reads a component and returns its artifact: from `known` if possible, else from the cache, else it is checked
    /// and compiled.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not a component with an HTTP handler, has imports that are not provided (all of
    /// them are named), or does not compile.
    pub(crate) fn artifact(&self, source: &Source, known: &[Artifact]) -> Result<Artifact, LoadError> {
        let bytes = &*read(source)?;
        // What is accepted is logged at each start and reload, also if the code is known.
        let accepted = match self.missing {
            MissingImports::Trap => Some(inspected(source, &released(bytes), self.missing)?),
            MissingImports::Refuse => None,
        };
        let key = self.key(bytes);
        if let Some(same) = known.iter().find(|artifact| artifact.key == Some(key)) {
            return Ok(same.of(source));
        }
        let (facts, code) = match self.cached(&key) {
            Some(cached) => cached,
            None => {
                let released = released(bytes);
                let inspection = match accepted {
                    Some(inspection) => inspection,
                    None => inspected(source, &released, self.missing)?,
                };
                if let Some(compiled) = self.in_parts(&source.name(), &released, &inspection, known) {
                    note_form(source, &compiled.facts);
                    return Ok(Artifact::in_parts(source, bytes, key, compiled));
                }
                self.compile(source, &released, &inspection, &key)?
            }
        };
        note_form(source, &facts);
        Artifact::new(source, bytes, key, facts, &code)
            .map_err(|error| LoadError::Memory { error, component: source.name() })
    }

    /// Whether edits should cost little, and instances may cost more.
    pub(super) fn is_for_developers(&self) -> bool {
        self.detail == StackDetail::Places
    }

    pub(super) fn detail(&self) -> StackDetail {
        self.detail
    }

    pub(super) fn settings(&self) -> &blake3::Hasher {
        &self.settings
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    fn key(&self, bytes: &[u8]) -> Key {
        Key(*self.settings.clone().update(bytes).finalize().as_bytes())
    }

    fn cached(&self, key: &Key) -> Option<(Facts, Vec<u8>)> {
        let entry = self.cache.as_ref()?.get(key)?;
        // The digest was correct, so this cannot fail. If it does, the component is compiled.
        Some((postcard::from_bytes(&entry.facts).ok()?, entry.code))
    }

    fn compile(
        &self,
        source: &Source,
        bytes: &[u8],
        inspection: &Inspection,
        key: &Key,
    ) -> Result<(Facts, Vec<u8>), LoadError> {
        let name = source.name();
        if bytes.len() >= LARGE_BYTES {
            tracing::info!(target: log_target::COMPONENT, "compiling component {name}");
        }
        let refused = |error| LoadError::Refused { error, component: name.clone() };
        let (facts, code) = compiled(bytes, inspection, &self.functions, self.detail).map_err(refused)?;
        if let Ok(facts) = postcard::to_stdvec(&facts) {
            self.store(key, &facts, &code, &name);
        }
        Ok((facts, code))
    }

    /// Stores an entry in the cache, if there is one.
    pub(super) fn store(&self, key: &Key, facts: &[u8], code: &[u8], name: &SourceName) {
        let Some(cache) = &self.cache else { return };
        if let Err(error) = cache.put(key, facts, code) {
            tracing::warn!(
                target: log_target::COMPONENT,
                "failed to store the code of component {name} in the cache: {error}; the next start compiles it again"
            );
        }
    }
}

fn note_form(source: &Source, facts: &Facts) {
    tracing::debug!(target: log_target::COMPONENT, "component {} is linked {}", source.name(), facts.form);
}

/// Compiles a component: only its main module if that can be linked directly; else the whole component, without its
/// shim module if that is possible. Errors refer to the original bytes.
fn compiled(
    bytes: &[u8],
    inspection: &Inspection,
    functions: &[Function<State>],
    detail: StackDetail,
) -> wasmtime::Result<(Facts, Vec<u8>)> {
    if let Some(module) = direct::main_module(bytes, functions) {
        // A module does not use wasmtime's component runtime, so it needs no concurrency support, whatever its WASI
        // version.
        let pool = PoolKind { wasi_version: WasiVersion::P2, ..inspection.pool };
        match Module::new(&compiler(pool, detail)?, module) {
            Ok(module) => return Ok((Facts::of_module(&module, pool, inspection), module.serialize()?)),
            Err(error) => {
                tracing::debug!(
                    target: log_target::COMPONENT,
                    "a component is not linked directly: {}", Excerpt::display(format_args!("{error:#}"))
                )
            }
        }
    }
    let engine = &compiler(inspection.pool, detail)?;
    let component = match relink(bytes).map(|relinked| Component::new(engine, relinked)) {
        Some(Ok(component)) => component,
        Some(Err(error)) => {
            tracing::debug!(
                target: log_target::COMPONENT,
                "a component is compiled with its shim: {}", Excerpt::display(format_args!("{error:#}"))
            );
            Component::new(engine, bytes)?
        }
        None => Component::new(engine, bytes)?,
    };
    Ok((Facts::of_component(&component, inspection), component.serialize()?))
}

/// A [`Hasher`] that updates a cryptographic digest.
pub(super) struct Blake3(pub(super) blake3::Hasher);

impl Hasher for Blake3 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.finalize();
        digest.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }
}
