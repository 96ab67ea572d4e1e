//! The form of a component that is linked directly.

use std::collections::HashMap;

use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType};
use wasmparser::types::Types;
use wasmparser::{CanonicalFunction, CanonicalOption, ExternalKind, Parser, ValidPayload, Validator, WasmFeatures};
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::types::{IncomingRequest, ResponseOutparam};

use super::filling::Filling;
use super::surface::{Surface, WitFunction, without_version};
use super::{MEMORY, is_handle, is_handler};
use crate::canonical::{self, Function, WitTypes};
use crate::engine::relink::main_module::MainModule;
use crate::engine::relink::outline::{Alias, CoreFunction, Outline};
use crate::engine::relink::plan::{Place, instantiations};
use crate::engine::relink::shim::Shim;

/// A component of that form, as far as its main module needs it.
pub(super) struct Form<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) main: MainModule<'a>,
    /// For each function that it imports: does its result need memory.
    pub(super) allocates: Vec<bool>,
    /// The function of it that allocates.
    pub(super) realloc: Option<u32>,
}

impl<'a> Form<'a> {
    pub(super) fn of<T>(component: &'a [u8], functions: &[Function<T>]) -> Option<Self> {
        let types = types(component)?;
        let surface = Surface::read(component)?;
        let reader = Reader {
            outline: Outline::read(component).ok()?,
            wit_types: surface.wit_types(types.as_ref())?,
            types: &types,
            surface: &surface,
            known: functions.iter().map(|function| ((function.interface, &*function.name), function)).collect(),
        };
        if reader.provides_all() { reader.form() } else { None }
    }
}

/// A component's types, checked; what is in its core modules is checked when they are compiled.
fn types(component: &[u8]) -> Option<Types> {
    // What is of 0.3 is linked as a component.
    let mut validator = Validator::new_with_features(WasmFeatures::default().difference(WasmFeatures::CM_ASYNC));
    let mut types = None;
    for payload in Parser::new(0).parse_all(component) {
        if let ValidPayload::End(of) = validator.payload(&payload.ok()?).ok()? {
            // The component's own come last.
            types = Some(of);
        }
    }
    types
}

/// A component that is looked at.
struct Reader<'r, 'a, T> {
    outline: Outline<'a>,
    surface: &'r Surface<'a>,
    types: &'r Types,
    wit_types: WitTypes<'r>,
    known: HashMap<(&'r str, &'r str), &'r Function<T>>,
}

impl<'a, T> Reader<'_, 'a, T> {
    fn form(&self) -> Option<Form<'a>> {
        let handle = self.handle()?;
        let (main, args) = instantiations(&self.outline).find(|(place, _)| place.instance == handle.instance)?;
        let bytes = self.outline.module(main.module)?;
        let main_module = MainModule::read(bytes)?;
        let is_main = !main_module.imports_others
            && main_module.export(MEMORY)?.kind == ExternalKind::Memory
            // The one that is lifted is the only one that can be taken for it.
            && main_module.exports.iter().filter(|export| is_handle(export.name)).count() == 1;
        if !is_main {
            return None;
        }
        let shim = self.shim(main)?;
        let mut realloc = None;
        let mut allocates = Vec::new();
        for import in &main_module.imported_functions {
            let arg = args.iter().find(|arg| arg.name == import.module)?;
            let exports = self.outline.gathered(arg.index);
            let export =
                exports.iter().find(|export| export.name == import.name && export.kind == ExternalKind::Func)?;
            // The module may have been linked from parts that name other versions than the component.
            let module = without_version(import.module)?;
            let is_named = |interface: &str, name: &str| interface == module && name == import.name;
            let function = self.provided(export.index, &is_named, main, shim.as_ref(), &mut realloc)?;
            allocates.push(function.allocates);
        }
        let realloc = match realloc {
            Some(name) => Some(main_module.export(name).filter(|export| export.kind == ExternalKind::Func)?.index),
            None => None,
        };
        if realloc.is_none() && allocates.contains(&true) {
            return None;
        }
        Some(Form { bytes, main: main_module, allocates, realloc })
    }

    /// Whether all that the component imports is there and of the types that it means, used or not.
    fn provides_all(&self) -> bool {
        self.surface.imports.iter().all(|import| {
            let item = self.types.as_ref().component_item_for_import(import);
            let (Some(interface), Some(ComponentEntityType::Instance(instance))) =
                (without_version(import), item.map(|item| item.ty))
            else {
                return false;
            };
            self.types[instance].exports.iter().all(|(name, item)| match item.ty {
                ComponentEntityType::Func(ty) => self
                    .known
                    .get(&(interface, &**name))
                    .is_some_and(|known| known.is(&self.wit_types, &self.types[ty])),
                ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } => {
                    self.wit_types.resource(id).is_some_and(|(import, name)| {
                        let interface = without_version(import).unwrap_or(import);
                        self.known.contains_key(&(interface, &*canonical::drop_name(name)))
                    })
                }
                _ => true,
            })
        })
    }

    /// The core function that answers requests.
    fn handle(&self) -> Option<Alias<'a>> {
        let mut handlers = self.surface.interfaces().filter(|name| is_handler(name));
        let interface = handlers.next()?;
        if handlers.next().is_some() {
            return None;
        }
        let function = self.surface.exported_function(interface, "handle")?;
        let ty = &self.types[self.types.component_function_at(function)];
        if !canonical::is::<(Resource<IncomingRequest>, Resource<ResponseOutparam>), ()>(&self.wit_types, ty) {
            return None;
        }
        let WitFunction::Lifted { core_function, options } = self.surface.function(function)? else { return None };
        if options.iter().any(|option| matches!(option, CanonicalOption::PostReturn(_) | CanonicalOption::Async)) {
            return None;
        }
        let alias = self.outline.functions.get(*core_function as usize)?.alias()?;
        is_handle(alias.name).then_some(alias)
    }

    /// Which function of ours a core function of the component is. The linker knows it by its names.
    fn provided(
        &self,
        index: u32,
        is_named: &dyn Fn(&str, &str) -> bool,
        main: Place,
        shim: Option<&FilledShim<'a>>,
        realloc: &mut Option<&'a str>,
    ) -> Option<&Function<T>> {
        match self.outline.functions.get(index as usize)? {
            CoreFunction::Exported(alias) => {
                let shim = shim.filter(|shim| shim.place.instance == alias.instance)?;
                let behind = *shim.filled_with.get(shim.shim.slot(alias.name)? as usize)?;
                let types = self.types.as_ref();
                if types.core_function_at(index) != types.core_function_at(behind) {
                    // Calling it would trap.
                    return None;
                }
                // What is behind a shim is not a shim.
                self.provided(behind, is_named, main, None, realloc)
            }
            CoreFunction::Canonical(CanonicalFunction::Lower { func_index, options: with }) => {
                let WitFunction::Imported { interface, name } = *self.surface.function(*func_index)? else {
                    return None;
                };
                let interface = without_version(interface)?;
                let function = *self.known.get(&(interface, name))?;
                let ty = &self.types[self.types.component_function_at(*func_index)];
                let fits = function.is(&self.wit_types, ty) && self.fit(with, main, realloc);
                (fits && is_named(interface, name)).then_some(function)
            }
            CoreFunction::Canonical(CanonicalFunction::ResourceDrop { resource }) => {
                let ComponentAnyTypeId::Resource(id) = self.types.component_any_type_at(*resource) else { return None };
                let (interface, name) = self.wit_types.resource(id)?;
                let (interface, name) = (without_version(interface)?, canonical::drop_name(name));
                let function = *self.known.get(&(interface, &*name))?;
                is_named(interface, &name).then_some(function)
            }
            CoreFunction::Canonical(_) => None,
        }
    }

    /// Whether a function is lowered as ours are: UTF-8, into the main module's memory, which one function allocates.
    fn fit(&self, options: &[CanonicalOption], main: Place, realloc: &mut Option<&'a str>) -> bool {
        let of_main = |alias: &Alias<'a>| (alias.instance == main.instance).then_some(alias.name);
        options.iter().all(|option| match *option {
            CanonicalOption::UTF8 => true,
            CanonicalOption::Memory(index) => {
                self.outline.memories.get(index as usize).and_then(of_main) == Some(MEMORY)
            }
            CanonicalOption::Realloc(index) => {
                let function = self.outline.functions.get(index as usize).and_then(CoreFunction::alias);
                let Some(name) = function.as_ref().and_then(of_main) else { return false };
                *realloc.get_or_insert(name) == name
            }
            _ => false,
        })
    }

    /// The component's other modules: none, or a shim and what fills its table.
    fn shim(&self, main: Place) -> Option<Option<FilledShim<'a>>> {
        let mut shim = None;
        let mut filled = None;
        for (place, args) in instantiations(&self.outline).filter(|(place, _)| place.instance != main.instance) {
            let module = self.outline.module(place.module)?;
            match args {
                [] if shim.is_none() => shim = Some((place, Shim::read(module)?)),
                [arg] if filled.is_none() => filled = Some((arg.index, Filling::read(module)?)),
                _ => return None,
            }
        }
        match (shim, filled) {
            (None, None) => Some(None),
            (Some((place, shim)), Some((args, filling))) => {
                let given = |kind, name| {
                    let exports = self.outline.gathered(args).iter();
                    exports
                        .copied()
                        .find(|export| export.kind == kind && export.name == name)
                        .map(|export| export.index)
                };
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

/// A shim, and the core functions of the component that are in its table.
struct FilledShim<'a> {
    place: Place,
    shim: Shim<'a>,
    filled_with: Vec<u32>,
}
