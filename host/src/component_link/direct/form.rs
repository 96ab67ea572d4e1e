//! Recognizes components that can be linked directly.

use std::collections::HashMap;

use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType};
use wasmparser::types::Types;
use wasmparser::{CanonicalFunction, CanonicalOption, ExternalKind, Parser, Payload};

use super::built_in::{self, BuiltInUse};
use super::fixups::Fixups;
use super::surface::{Surface, WitFunction};
use super::{HandlerInterface, HandlerTypes, MEMORY, OURS};
use crate::component_abi::{self, Function, WitTypes};
use crate::component_link::main_module::MainModule;
use crate::component_link::outline::{Alias, CoreFunction, ModuleInstance, Outline};
use crate::component_link::shim::Shim;
use crate::component_link::types;

/// A component that can be linked directly, as far as its main module needs it.
pub(crate) struct Layout<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) main: MainModule<'a>,
    /// The host function for each imported function.
    pub(crate) imports: Vec<Import>,
    /// The index of its function that handles requests.
    pub(crate) handle: u32,
    /// The index of the callback of a P3 handler, which is called after each wait.
    pub(crate) callback: Option<u32>,
    /// The index of its `realloc`.
    pub(crate) realloc: Option<u32>,
}

/// A host function.
pub(crate) struct Import {
    pub(crate) module: String,
    pub(crate) name: String,
    /// Whether its result may need memory.
    pub(crate) allocates: bool,
    /// Whether only asynchronous handlers may call it.
    is_concurrent: bool,
}

impl<T> From<&Function<T>> for Import {
    fn from(function: &Function<T>) -> Self {
        let (module, name) = function.import();
        Self { module, name, allocates: function.allocates, is_concurrent: function.is_concurrent() }
    }
}

impl<'a> Layout<'a> {
    pub(crate) fn of<T: HandlerTypes>(component: &'a [u8], functions: &[Function<T>]) -> Option<Self> {
        let types = types(component)?;
        let surface = Surface::read(component)?;
        let reader = Reader {
            outline: Outline::read(component).ok()?,
            wit_types: surface.wit_types(types.as_ref())?,
            types: &types,
            surface: &surface,
            known: functions.iter().map(|function| (function.import(), function)).collect(),
            functions,
        };
        if reader.provides_all() { reader.form() } else { None }
    }
}

/// Whether a module has a start function. That runs while the shim's table is still empty, so the calls that go through
/// the shim would trap.
fn starts(module: &[u8]) -> bool {
    Parser::new(0)
        .parse_all(module)
        .any(|payload| !matches!(payload, Ok(payload) if !matches!(payload, Payload::StartSection { .. })))
}

/// A component that is being examined.
struct Reader<'r, 'a, T> {
    outline: Outline<'a>,
    surface: &'r Surface<'a>,
    types: &'r Types,
    wit_types: WitTypes<'r>,
    /// The host functions, by the module and name under which they are imported.
    known: HashMap<(String, String), &'r Function<T>>,
    functions: &'r [Function<T>],
}

/// The core functions that a component lifts as its handler.
struct Lifted<'a> {
    handle: Alias<'a>,
    callback: Option<Alias<'a>>,
    /// The memory option of the lift, which that of [`BuiltIn::TaskReturn`](crate::component_abi::BuiltIn) must be equal
    /// to.
    memory: Option<u32>,
}

impl<'r, 'a, T: HandlerTypes> Reader<'r, 'a, T> {
    fn form(&self) -> Option<Layout<'a>> {
        let lifted = self.lifted()?;
        let (main, args) = self.outline.instantiations().find(|(place, _)| place.instance == lifted.handle.instance)?;
        if !lifted.memory.is_none_or(|memory| self.is_memory(memory, main)) {
            return None;
        }
        let bytes = self.outline.module(main.module)?;
        let main_module = MainModule::read(bytes)?;
        let exported = |name: &str, kind| main_module.export(name).filter(|export| export.kind == kind);
        let is_main = !main_module.imports_others
            && !starts(bytes)
            && exported(MEMORY, ExternalKind::Memory).is_some()
            && !main_module.exports.iter().any(|export| export.name.starts_with(OURS));
        if !is_main {
            return None;
        }
        let shim = self.shim(main)?;
        let mut realloc = None;
        let mut imports = Vec::new();
        for import in &main_module.imported_functions {
            let function = self.outline.imported(import, args)?;
            imports.push(Import::from(self.provided(function, main, shim.as_ref(), &mut realloc)?));
        }
        let function = |name| exported(name, ExternalKind::Func).map(|export| export.index);
        let realloc = match realloc {
            Some(name) => Some(function(name)?),
            None => None,
        };
        if realloc.is_none() && imports.iter().any(|import| import.allocates) {
            return None;
        }
        let callback = match lifted.callback {
            Some(callback) if callback.instance == main.instance => Some(function(callback.name)?),
            Some(_) => return None,
            None if imports.iter().any(|import| import.is_concurrent) => return None,
            None => None,
        };
        Some(Layout { bytes, handle: function(lifted.handle.name)?, callback, main: main_module, imports, realloc })
    }

    /// Whether all imports of the component are provided with the same types, whether they are used or not.
    fn provides_all(&self) -> bool {
        self.surface.imports.iter().all(|import| {
            let item = self.types.as_ref().component_item_for_import(import);
            let Some(ComponentEntityType::Instance(instance)) = item.map(|item| item.ty) else { return false };
            self.types[instance].exports.iter().all(|(name, item)| match item.ty {
                ComponentEntityType::Func(ty) => {
                    self.function(import, &**name).is_some_and(|known| known.is(&self.wit_types, &self.types[ty]))
                }
                ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } => self
                    .wit_types
                    .resource(id)
                    .is_some_and(|(import, name)| self.function(import, component_abi::drop_name(name)).is_some()),
                _ => true,
            })
        })
    }

    /// The host function of that interface and name.
    fn function(&self, interface: &str, name: impl Into<String>) -> Option<&'r Function<T>> {
        self.known.get(&(component_abi::release(interface)?.to_owned(), name.into())).copied()
    }

    /// The core functions that are lifted as the handler.
    fn lifted(&self) -> Option<Lifted<'a>> {
        let mut handlers = self.surface.interfaces().filter_map(|name| Some((name, HandlerInterface::of(name)?)));
        let (interface, handler) = handlers.next()?;
        if handlers.next().is_some() {
            return None;
        }
        let function = self.surface.exported_function(interface, "handle")?;
        let ty = &self.types[self.types.component_function_at(function)];
        if !T::is_handler(handler, &self.wit_types, ty) {
            return None;
        }
        let WitFunction::Lifted { core_function, options } = self.surface.function(function)? else { return None };
        let alias = |function: u32| self.outline.functions.get(function as usize)?.alias();
        let (mut callback, mut memory, mut is_async) = (None, None, false);
        for option in options {
            match *option {
                CanonicalOption::Async => is_async = true,
                CanonicalOption::Callback(function) => callback = Some(alias(function)?),
                CanonicalOption::Memory(index) => memory = Some(index),
                // The parameter is a request handle, which needs no allocation.
                CanonicalOption::UTF8 | CanonicalOption::Realloc(_) => {}
                _ => return None,
            }
        }
        // P3 handlers must be lifted with a callback, and P2 handlers synchronously.
        let fits = is_async == (handler == HandlerInterface::P3)
            && callback.is_some() == is_async
            && (memory.is_some() || !is_async);
        fits.then_some(Lifted { handle: alias(*core_function)?, callback, memory })
    }

    /// The host function that a core function of the component is a lowering of.
    fn provided(
        &self,
        index: u32,
        main: ModuleInstance,
        shim: Option<&FilledShim<'a>>,
        realloc: &mut Option<&'a str>,
    ) -> Option<&'r Function<T>> {
        match self.outline.functions.get(index as usize)? {
            CoreFunction::Exported(alias) => {
                let shim = shim.filter(|shim| shim.place.instance == alias.instance)?;
                let behind = *shim.filled_with.get(shim.shim.element(alias.name)? as usize)?;
                let types = self.types.as_ref();
                if types.core_function_at(index) != types.core_function_at(behind) {
                    // A call through the shim would trap because of the type mismatch.
                    return None;
                }
                // A shim must not lead to another shim function.
                self.provided(behind, main, None, realloc)
            }
            CoreFunction::Canonical(CanonicalFunction::Lower { func_index, options: with }) => {
                let WitFunction::Imported { interface, name } = *self.surface.function(*func_index)? else {
                    return None;
                };
                let is_async = with.contains(&CanonicalOption::Async);
                let name = if is_async { component_abi::async_name(name) } else { name.to_owned() };
                let function = self.function(interface, name)?;
                let ty = &self.types[self.types.component_function_at(*func_index)];
                let fits = function.is(&self.wit_types, ty) && self.fit(with, main, realloc);
                fits.then_some(function)
            }
            CoreFunction::Canonical(CanonicalFunction::ResourceDrop { resource }) => {
                let ComponentAnyTypeId::Resource(id) = self.types.component_any_type_at(*resource) else { return None };
                let (interface, name) = self.wit_types.resource(id)?;
                self.function(interface, component_abi::drop_name(name))
            }
            CoreFunction::Canonical(function) => {
                let BuiltInUse { built_in, payload, memory, options } = built_in::read(function, self.types)?;
                let is_ours = |memory: u32| self.is_memory(memory, main);
                if !memory.is_none_or(is_ours) || !self.fit(options, main, realloc) {
                    return None;
                }
                self.functions.iter().find(|function| function.is_built_in(&self.wit_types, built_in, payload))
            }
        }
    }

    fn is_memory(&self, index: u32, main: ModuleInstance) -> bool {
        let memory = self.outline.memories.get(index as usize);
        memory.is_some_and(|alias| alias.instance == main.instance && alias.name == MEMORY)
    }

    /// Whether a function's lowering options are those of the host functions: UTF-8, and the main module's memory, with
    /// one `realloc` for all functions.
    fn fit(&self, options: &[CanonicalOption], main: ModuleInstance, realloc: &mut Option<&'a str>) -> bool {
        options.iter().all(|option| match *option {
            CanonicalOption::UTF8 | CanonicalOption::Async => true,
            CanonicalOption::Memory(index) => self.is_memory(index, main),
            CanonicalOption::Realloc(index) => {
                let function = self.outline.functions.get(index as usize).and_then(CoreFunction::alias);
                let Some(alias) = function.filter(|alias| alias.instance == main.instance) else { return false };
                *realloc.get_or_insert(alias.name) == alias.name
            }
            _ => false,
        })
    }

    /// The component's other modules: none, or a shim and its fixups module.
    fn shim(&self, main: ModuleInstance) -> Option<Option<FilledShim<'a>>> {
        let mut shim = None;
        let mut filled = None;
        for (place, args) in self.outline.instantiations().filter(|(place, _)| place.instance != main.instance) {
            let module = self.outline.module(place.module)?;
            match args {
                [] if shim.is_none() => shim = Some((place, Shim::read(module)?)),
                [arg] if filled.is_none() => filled = Some((arg.index, Fixups::read(module)?)),
                _ => return None,
            }
        }
        match (shim, filled) {
            (None, None) => Some(None),
            (Some((place, shim)), Some((args, filling))) => {
                let given = |kind, name| self.outline.gathered_index(args, kind, name);
                let table = self.outline.tables.get(given(ExternalKind::Table, filling.table)? as usize)?;
                let filled_with = filling.functions.iter().map(|name| given(ExternalKind::Func, name));
                let filled_with = filled_with.collect::<Option<Vec<_>>>()?;
                let fits = table.instance == place.instance && filled_with.len() as u64 <= shim.table.initial;
                fits.then_some(Some(FilledShim { place, shim, filled_with }))
            }
            _ => None,
        }
    }
}

/// A shim, and the component's core functions in its table.
struct FilledShim<'a> {
    place: ModuleInstance,
    shim: Shim<'a>,
    filled_with: Vec<u32>,
}
