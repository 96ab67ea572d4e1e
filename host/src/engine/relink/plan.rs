//! What is to be changed.

use wasmparser::{Instance, InstantiationArg, TableType};

use super::main_module::MainModule;
use super::outline::Outline;
use super::shim::Shim;

/// How a component loses its shim.
pub(super) struct Plan<'a> {
    pub(super) shim: Place,
    /// The only one that the shim's functions are given to.
    pub(super) main: Place,
    pub(super) main_module: MainModule<'a>,
    /// For each function that the main module imports, the element of the table that it calls through the shim.
    pub(super) slots: Vec<Option<u32>>,
    pub(super) table: TableType,
    /// The component's core functions that are the shim's, by their index.
    pub(super) shim_functions: Vec<u32>,
}

/// A core module, and its only instance.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) module: u32,
    pub(super) instance: u32,
}

impl<'a> Plan<'a> {
    /// None when the component has no shim, or uses it as wit-component does not.
    pub(super) fn of(outline: &Outline<'a>) -> Option<Self> {
        let (shim_place, shim) = instantiations(outline).find_map(|(place, args)| {
            let shim = args.is_empty().then(|| outline.modules.get(place.module as usize).copied().flatten())?;
            Some((place, Shim::read(shim?)?))
        })?;
        let alias = |function: u32| {
            let alias = outline.functions.get(function as usize).copied().flatten()?;
            (alias.instance == shim_place.instance).then_some(alias)
        };
        let is_given = |arg: &InstantiationArg<'_>| {
            let gathers = outline.gathered(arg.index).iter();
            arg.index == shim_place.instance
                || gathers.filter(|export| is_function(export)).any(|export| alias(export.index).is_some())
        };
        let mut given = instantiations(outline).filter(|(_, args)| args.iter().any(is_given));
        let (main, args) = given.next()?;
        if given.next().is_some() || !is_only(outline, main) || !is_only(outline, shim_place) {
            return None;
        }
        // Its table is asked of the main instance instead, which must be there by then.
        let mut tables = outline.tables.iter().filter(|table| table.instance == shim_place.instance);
        if !tables.all(|table| table.after_instances > main.instance as usize) {
            return None;
        }
        let main_module = MainModule::read(outline.modules.get(main.module as usize).copied().flatten()?)?;
        let slot = |module: &str, name: &str| {
            let arg = args.iter().find(|arg| arg.name == module)?;
            let export = outline.gathered(arg.index).iter().find(|export| export.name == name)?;
            shim.slot(alias(export.index).filter(|_| is_function(export))?.name)
        };
        let slots: Vec<_> =
            main_module.imported_functions.iter().map(|import| slot(import.module, import.name)).collect();
        let shim_functions = (0..u32::try_from(outline.functions.len()).ok()?).filter(|f| alias(*f).is_some());
        let shim_functions = shim_functions.collect();
        Some(Self { shim: shim_place, main, main_module, slots, table: shim.table, shim_functions })
    }
}

fn is_function(export: &wasmparser::Export<'_>) -> bool {
    export.kind == wasmparser::ExternalKind::Func
}

fn instantiations<'o, 'a>(
    outline: &'o Outline<'a>,
) -> impl Iterator<Item = (Place, &'o [InstantiationArg<'a>])> + use<'o, 'a> {
    (0..).zip(&outline.instances).filter_map(|(instance, defined)| match defined {
        Instance::Instantiate { module_index, args } => Some((Place { module: *module_index, instance }, &**args)),
        Instance::FromExports(_) => None,
    })
}

/// Whether its module has no other instance.
fn is_only(outline: &Outline<'_>, of: Place) -> bool {
    instantiations(outline).filter(|(place, _)| place.module == of.module).count() == 1
}
