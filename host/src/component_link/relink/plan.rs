//! The changes to a component.

use wasmparser::{ExternalKind, InstantiationArg, TableType};

use super::module::TABLE;
use crate::component_link::main_module::MainModule;
use crate::component_link::outline::{Alias, ModuleInstance, Outline};
use crate::component_link::shim::Shim;

/// What is needed to remove a component's shim.
pub(super) struct Plan<'a> {
    pub(super) shim: ModuleInstance,
    /// The only module that imports the shim's functions.
    pub(super) main: ModuleInstance,
    pub(super) main_module: MainModule<'a>,
    /// For each function that the main module imports: the table element that it calls through the shim, if any.
    pub(super) elements: Vec<Option<u32>>,
    pub(super) table: TableType,
    /// The indices of the component's core functions that are the shim's.
    pub(super) shim_functions: Vec<u32>,
}

impl<'a> Plan<'a> {
    /// None if the component has no shim, or uses it differently from wit-component.
    pub(super) fn of(outline: &Outline<'a>) -> Option<Self> {
        let (shim_place, shim) = outline
            .instantiations()
            .filter(|(_, args)| args.is_empty())
            .find_map(|(place, _)| Some((place, Shim::read(outline.module(place.module)?)?)))?;
        let of_shim = |alias: &Alias<'_>| alias.instance == shim_place.instance;
        // The name of a core function in the shim, if it is one of the shim's.
        let in_shim = |function: u32| {
            let alias = outline.functions.get(function as usize)?.alias();
            alias.filter(of_shim).map(|alias| alias.name)
        };
        let is_given = |arg: &InstantiationArg<'_>| {
            let mut functions = outline.gathered(arg.index).iter().filter(|export| export.kind == ExternalKind::Func);
            arg.index == shim_place.instance || functions.any(|export| in_shim(export.index).is_some())
        };
        let mut given = outline.instantiations().filter(|(_, args)| args.iter().any(is_given));
        let (main, args) = given.next()?;
        if given.next().is_some() || !is_only(outline, main) || !is_only(outline, shim_place) {
            return None;
        }
        // The table becomes an export of the main instance, which must be defined before every alias of the table.
        let mut tables = outline.tables.iter().filter(|table| of_shim(table));
        if !tables.all(|table| table.after_instances > main.instance as usize) {
            return None;
        }
        let main_module = MainModule::read(outline.module(main.module)?)?;
        if !main_module.has_table_section || main_module.export(TABLE).is_some() {
            return None;
        }
        let imports = main_module.imported_functions.iter();
        let elements = imports.map(|import| shim.element(in_shim(outline.imported(import, args)?)?)).collect();
        let functions = (0..).zip(&outline.functions);
        let shim_functions = functions
            .filter(|(_, function)| function.alias().as_ref().is_some_and(of_shim))
            .map(|(index, _)| index)
            .collect();
        Some(Self { shim: shim_place, main, main_module, elements, table: shim.table, shim_functions })
    }
}

/// Whether the module has no other instance.
fn is_only(outline: &Outline<'_>, of: ModuleInstance) -> bool {
    outline.instantiations().filter(|(place, _)| place.module == of.module).count() == 1
}
