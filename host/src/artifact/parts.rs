//! Compiles a component in parts, for developers: an edit of a component in JavaScript or Python changes the data of one
//! module, and not its code.
//!
//! Each part has a key and an entry in the cache of its own. A part that the previous generation has is not even read
//! again.

use std::hash::Hash as _;
use std::sync::Arc;

use daylily_core::excerpt::Excerpt;
use daylily_core::log_target;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::cache::Key;
use super::compile::{Blake3, Compiler, LARGE_BYTES};
use super::inspect::Inspection;
use super::{Artifact, Facts, Part, SourceName};
use crate::component_link::parts::{self, MIN_PART_BYTES, Parts};
use crate::engine::pool::{PoolKind, compiler};
use crate::sys::sealed::sealed;

/// A component in parts, compiled.
pub(super) struct Compiled {
    pub(super) facts: Facts,
    pub(super) component: Part,
    pub(super) modules: Vec<Part>,
}

/// What the parts of one component have in common.
struct Compilation<'a> {
    compiler: &'a Compiler,
    engine: Engine,
    pool: PoolKind,
    known: &'a [Artifact],
    name: &'a SourceName,
    /// How many parts were compiled and not found, and the bytes of WebAssembly in them.
    compiled: usize,
    compiled_bytes: usize,
}

impl Compiler {
    /// The component `bytes`, compiled in parts. None if it has no parts, or they do not compile: then it must be
    /// compiled as a whole, and errors refer to the whole.
    pub(super) fn in_parts(
        &self,
        name: &SourceName,
        bytes: &[u8],
        inspection: &Inspection,
        known: &[Artifact],
    ) -> Option<Compiled> {
        if !self.is_for_developers() {
            return None;
        }
        match self.compile_parts(name, parts::parts(bytes)?, inspection, known) {
            Ok(compiled) => Some(compiled),
            Err(error) => {
                tracing::debug!(
                    target: log_target::COMPONENT,
                    "component {name} is not compiled in parts: {}", Excerpt::display(format_args!("{error:#}"))
                );
                None
            }
        }
    }

    fn compile_parts(
        &self,
        name: &SourceName,
        parts: Parts<'_>,
        inspection: &Inspection,
        known: &[Artifact],
    ) -> wasmtime::Result<Compiled> {
        let pool = inspection.pool;
        let engine = compiler(pool, self.detail())?;
        let mut compilation = Compilation { compiler: self, engine, pool, known, name, compiled: 0, compiled_bytes: 0 };
        let component =
            compilation.part(&parts.component, true, |engine, bytes| Component::new(engine, bytes)?.serialize())?;
        let modules = parts.modules.iter().map(|module| {
            let has_code = module.code_bytes >= MIN_PART_BYTES;
            compilation.part(&module.bytes, has_code, |engine, bytes| Module::new(engine, bytes)?.serialize())
        });
        let modules = modules.collect::<wasmtime::Result<Vec<_>>>()?;
        tracing::debug!(
            target: log_target::COMPONENT,
            "component {name} has {} parts; compiled now: {}, with {} bytes",
            modules.len() + 1, compilation.compiled, compilation.compiled_bytes
        );
        Ok(Compiled { facts: Facts::of_parts(&parts, inspection), component, modules })
    }
}

impl Compilation<'_> {
    /// A part that the previous generation has, or from the cache, or newly compiled. Only parts that `has_code` are
    /// in the cache: all others are compiled faster than they are read, and are different after each edit.
    fn part(
        &mut self,
        bytes: &[u8],
        has_code: bool,
        compile: impl FnOnce(&Engine, &[u8]) -> wasmtime::Result<Vec<u8>>,
    ) -> wasmtime::Result<Part> {
        let key = self.key(bytes);
        let mut known = self.known.iter().flat_map(Artifact::parts);
        if let Some(known) = known.find(|part| part.key == Some(key)) {
            return Ok(known.clone());
        }
        let cached = self.compiler.cache().filter(|_| has_code).and_then(|cache| cache.get(&key));
        let code = match cached {
            Some(entry) => entry.code,
            None => {
                if has_code && bytes.len() >= LARGE_BYTES {
                    tracing::info!(target: log_target::COMPONENT, "compiling component {}", self.name);
                }
                self.compiled += 1;
                self.compiled_bytes += bytes.len();
                let code = compile(&self.engine, bytes)?;
                if has_code {
                    self.compiler.store(&key, &[], &code, self.name);
                }
                code
            }
        };
        Ok(Part { key: Some(key), code: Arc::new(sealed("daylily-code", &code)?) })
    }

    /// A digest of everything that determines the part's compiled code. Never that of a whole component, which starts
    /// as WebAssembly does.
    fn key(&self, bytes: &[u8]) -> Key {
        let mut digest = Blake3(self.compiler.settings().clone());
        ("part", parts::VERSION, self.pool).hash(&mut digest);
        Key(*digest.0.update(bytes).finalize().as_bytes())
    }
}
