//! The changes to a component.

use wasmparser::{Export, ExternalKind, Instance, InstantiationArg, TableType};

use super::main_module::MainModule;
use super::outline::{Alias, Outline};
use super::shim::Shim;

/// What is needed to remove a component's shim.
pub(super) struct Plan<'a> {
    pub(super) shim: ModuleInstance,
    /// The only module that imports the shim's functions.
    pub(super) main: ModuleInstance,
    pub(super) main_module: MainModule<'a>,
    /// For each function that the main module imports: the table element that it calls through the shim, if any.
    pub(super) slots: Vec<Option<u32>>,
    pub(super) table: TableType,
    /// The indices of the component's core functions that are the shim's.
    pub(super) shim_functions: Vec<u32>,
}

/// A core module, and its only instance.
#[derive(Clone, Copy)]
pub(crate) struct ModuleInstance {
    pub(crate) module: u32,
    pub(crate) instance: u32,
}

impl<'a> Plan<'a> {
    /// None if the component has no shim, or uses it differently from wit-component.
    pub(super) fn of(outline: &Outline<'a>) -> Option<Self> {
        let (shim_place, shim) = instantiations(outline)
            .filter(|(_, args)| args.is_empty())
            .find_map(|(place, _)| Some((place, Shim::read(outline.module(place.module)?)?)))?;
        let of_shim = |alias: &Alias<'_>| alias.instance == shim_place.instance;
        // The export's function, if it is one of the shim's.
        let shims = |export: &Export<'_>| {
            let alias = outline.functions.get(export.index as usize)?.alias();
            alias.filter(|alias| export.kind == ExternalKind::Func && of_shim(alias))
        };
        let is_given = |arg: &InstantiationArg<'_>| {
            arg.index == shim_place.instance || outline.gathered(arg.index).iter().any(|export| shims(export).is_some())
        };
        let mut given = instantiations(outline).filter(|(_, args)| args.iter().any(is_given));
        let (main, args) = given.next()?;
        if given.next().is_some() || !is_only(outline, main) || !is_only(outline, shim_place) {
            return None;
        }
        // The table becomes an export of the main instance, which must be defined before every alias of the table.
        let mut tables = outline.tables.iter().filter(|table| of_shim(table));
        if !tables.all(|table| table.after_instances > main.instance as usize) {
            return None;
        }
        let main_module = MainModule::read(outline.module(main.module)?).filter(MainModule::has_tables)?;
        let slot = |module: &str, name: &str| {
            let arg = args.iter().find(|arg| arg.name == module)?;
            let export = outline.gathered(arg.index).iter().find(|export| export.name == name)?;
            shim.slot(shims(export)?.name)
        };
        let slots = main_module.imported_functions.iter().map(|import| slot(import.module, import.name)).collect();
        let functions = (0..).zip(&outline.functions);
        let shim_functions = functions
            .filter(|(_, function)| function.alias().as_ref().is_some_and(of_shim))
            .map(|(index, _)| index)
            .collect();
        Some(Self { shim: shim_place, main, main_module, slots, table: shim.table, shim_functions })
    }
}

pub(crate) fn instantiations<'o, 'a>(
    outline: &'o Outline<'a>,
) -> impl Iterator<Item = (ModuleInstance, &'o [InstantiationArg<'a>])> + use<'o, 'a> {
    (0..).zip(&outline.instances).filter_map(|(instance, defined)| match defined {
        Instance::Instantiate { module_index, args } => {
            Some((ModuleInstance { module: *module_index, instance }, &**args))
        }
        Instance::FromExports(_) => None,
    })
}

/// Whether the module has no other instance.
fn is_only(outline: &Outline<'_>, of: ModuleInstance) -> bool {
    instantiations(outline).filter(|(place, _)| place.module == of.module).count() == 1
}
