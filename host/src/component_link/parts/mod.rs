//! Takes the modules of a component out of it, so that each can be compiled on its own.
//!
//! A component in JavaScript or Python consists of a language's engine, whose code is the same in every component, and
//! of a snapshot of the memory of that engine after it has read the source. The snapshot is in the data segments. This
//! module makes of such a component:
//!
//! - the component itself, which imports its large modules (`component`),
//! - each of these modules, without its memory if it has a large code and data: it imports that memory,
//! - for each of the latter, a module with that memory and its data, and nothing else.
//!
//! After an edit of the source, only modules with data have changed, and they have little code. The behaviour of an
//! instance is the same: the memory and its data exist before the code that uses them. It has one more core instance
//! for each memory, and code accesses an imported memory a little more slowly, so this is for developers.

use std::borrow::Cow;

use wasm_encoder::Component;
use wasm_encoder::reencode::ReencodeComponent as _;
use wasmparser::{ComponentAlias, ComponentOuterAliasKind, Instance, Parser, Payload, Validator, WasmFeatures};

use self::module::Module;
use super::outline::Outline;
use super::payloads::payloads;
use super::relink;

mod component;
mod module;
#[cfg(test)]
mod tests;

/// Must be incremented with every change to this module's output: it is a part of the cache key.
pub(crate) const VERSION: u32 = 1;

/// Components with less data than this are left whole: the data of a program without a snapshot is smaller.
const MIN_DATA_BYTES: usize = 1 << 20;

/// Modules with less code and less data than this stay in the component. Compiling that much takes a tenth of a second.
pub(crate) const MIN_PART_BYTES: usize = 32 << 10;

/// Maximum number of modules that are taken out. Each takes a file descriptor.
const MAX_PARTS: usize = 100;

/// A component, and the modules that were taken out of it.
pub(crate) struct Parts<'a> {
    /// The component, which imports the modules.
    pub(crate) component: Vec<u8>,
    /// In the order of their [`import_name`]s.
    pub(crate) modules: Vec<TakenOut<'a>>,
    /// The number of core instances that the component has more than it would have as a whole: those of memories, and
    /// that of the shim, which is only removed from whole components.
    pub(crate) more_instances: u32,
    pub(crate) resources: Resources,
}

/// A module that was taken out of a component.
pub(crate) struct TakenOut<'a> {
    pub(crate) bytes: Cow<'a, [u8]>,
    /// The size of its code section.
    pub(crate) code_bytes: usize,
}

/// What the core instances of a component declare together, as [`wasmtime::ResourcesRequired`] has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) memories: u32,
    pub(crate) max_initial_memory_pages: u64,
    pub(crate) tables: u32,
    pub(crate) max_initial_table_elements: u64,
}

/// The name under which the component imports the module with this index.
pub(crate) fn import_name(index: usize) -> String {
    format!("daylily-module{index}")
}

/// The component in parts. None if it has no snapshot, or its form is not supported.
pub(crate) fn parts(bytes: &[u8]) -> Option<Parts<'_>> {
    let plan = Plan::of(bytes)?;
    if !is_valid(bytes) {
        return None;
    }
    let mut rewriter = component::Rewriter::new(&plan);
    let mut component = Component::new();
    rewriter.parse_component(&mut component, Parser::new(0), bytes).ok()?;
    let modules = rewriter.into_modules();
    let more_instances = u32::try_from(plan.halved_instances.len()).ok()? + u32::from(plan.has_shim);
    (!modules.is_empty() && modules.len() <= MAX_PARTS).then(|| Parts {
        component: component.finish(),
        modules,
        more_instances,
        resources: plan.resources,
    })
}

/// What is done with a module.
enum Treatment<'a> {
    Stays,
    TakenOut(Module<'a>),
    /// Also divided into its code and its memory.
    Halved(Module<'a>),
}

struct Plan<'a> {
    /// For each module.
    treatments: Vec<Treatment<'a>>,
    /// The indices of the modules that are divided, and of their instances, both in ascending order.
    halved: Vec<u32>,
    halved_instances: Vec<u32>,
    has_shim: bool,
    resources: Resources,
}

impl<'a> Plan<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let modules = own_modules(bytes)?;
        let outline = Outline::read(bytes).ok()?;
        let read = (0..modules).map(|index| Module::read(outline.module(index)?));
        let read: Vec<Module<'a>> = read.collect::<Option<_>>()?;
        if read.iter().map(|module| module.data_bytes).sum::<usize>() < MIN_DATA_BYTES {
            return None;
        }
        let mut plan = Self {
            treatments: Vec::new(),
            halved: Vec::new(),
            halved_instances: Vec::new(),
            has_shim: relink::has_shim(&outline),
            resources: Resources::default(),
        };
        for (index, module) in (0..).zip(read) {
            let instances = outline.instantiations().filter(|(instance, _)| instance.module == index);
            let instances: Vec<u32> = instances.map(|(instance, _)| instance.instance).collect();
            for _ in &instances {
                plan.resources.add(&module.resources());
            }
            let is_large = module.code_bytes.max(module.data_bytes) >= MIN_PART_BYTES;
            plan.treatments.push(match instances[..] {
                // A memory of its own for each of several instances would take several modules.
                [instance] if module.code_bytes >= MIN_PART_BYTES && module.can_be_halved() => {
                    plan.halved.push(index);
                    plan.halved_instances.push(instance);
                    Treatment::Halved(module)
                }
                [_, ..] if is_large && module.has_type() => Treatment::TakenOut(module),
                _ => Treatment::Stays,
            });
        }
        plan.halved_instances.sort_unstable();
        Some(plan)
    }
}

/// The number of core modules of a component. None if there are others than those defined in the component itself, or
/// if a nested component has to do with modules.
fn own_modules(bytes: &[u8]) -> Option<u32> {
    let mut own = 0;
    for payload in payloads(bytes) {
        match payload.ok()? {
            (0, Payload::ModuleSection { .. }) => own += 1,
            (_, Payload::ModuleSection { .. } | Payload::CoreTypeSection(_)) => return None,
            (1.., Payload::InstanceSection(section))
                if section.clone().into_iter().any(|instance| !matches!(instance, Ok(Instance::FromExports(_)))) =>
            {
                return None;
            }
            (1.., Payload::ComponentAliasSection(section)) => {
                for alias in section {
                    if let ComponentAlias::Outer { kind, .. } = alias.ok()?
                        && !matches!(kind, ComponentOuterAliasKind::Type | ComponentOuterAliasKind::Component)
                    {
                        return None;
                    }
                }
            }
            _ => {}
        }
    }
    // Imports, aliases and exports of modules also have indices.
    (Outline::read(bytes).ok()?.module_count() == own).then(|| u32::try_from(own).ok())?
}

/// Whether a component is valid apart from the bodies of its functions. An invalid one could become valid, since its
/// modules are encoded again; the bodies are not.
fn is_valid(bytes: &[u8]) -> bool {
    let mut validator = Validator::new_with_features(WasmFeatures::default());
    let mut parser = Parser::new(0);
    parser.set_features(*validator.features());
    parser.parse_all(bytes).all(|payload| payload.and_then(|payload| validator.payload(&payload)).is_ok())
}

impl Resources {
    fn add(&mut self, of_instance: &Self) {
        self.memories = self.memories.saturating_add(of_instance.memories);
        self.tables = self.tables.saturating_add(of_instance.tables);
        self.max_initial_memory_pages = self.max_initial_memory_pages.max(of_instance.max_initial_memory_pages);
        self.max_initial_table_elements = self.max_initial_table_elements.max(of_instance.max_initial_table_elements);
    }
}
