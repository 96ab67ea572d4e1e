//! A component's core definitions.

use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentTypeRef, Export,
    ExternalKind, Instance, InstantiationArg, Payload,
};

use super::main_module::ImportedFunction;
use super::payloads::top_level;

/// The index spaces of a component that concern its core modules.
#[derive(Default)]
pub(super) struct Outline<'a> {
    /// Core modules. None for those that are defined elsewhere.
    modules: Vec<Option<&'a [u8]>>,
    /// Core instances.
    pub(super) instances: Vec<Instance<'a>>,
    pub(super) functions: Vec<CoreFunction<'a>>,
    /// Tables of core instances for which the component has an alias.
    pub(super) tables: Vec<Alias<'a>>,
    /// Memories likewise: a component has no other core memories.
    pub(super) memories: Vec<Alias<'a>>,
}

/// The origin of a core function of the component.
#[derive(Debug)]
pub(super) enum CoreFunction<'a> {
    Exported(Alias<'a>),
    Canonical(CanonicalFunction),
}

impl<'a> CoreFunction<'a> {
    pub(super) fn alias(&self) -> Option<Alias<'a>> {
        match self {
            Self::Exported(alias) => Some(*alias),
            Self::Canonical(_) => None,
        }
    }
}

/// An export of a core instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alias<'a> {
    pub(super) instance: u32,
    pub(super) name: &'a str,
    /// The number of core instances that are defined before this alias.
    pub(super) after_instances: usize,
}

/// A core module, and one of its instances.
#[derive(Clone, Copy)]
pub(super) struct ModuleInstance {
    pub(super) module: u32,
    pub(super) instance: u32,
}

impl<'a> Outline<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> wasmparser::Result<Self> {
        let mut outline = Self::default();
        for payload in top_level(bytes) {
            match payload? {
                Payload::ModuleSection { unchecked_range, .. } => outline.modules.push(bytes.get(unchecked_range)),
                payload => outline.add(payload)?,
            }
        }
        Ok(outline)
    }

    fn add(&mut self, payload: Payload<'a>) -> wasmparser::Result<()> {
        match payload {
            Payload::InstanceSection(section) => {
                for instance in section {
                    self.instances.push(instance?);
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.add_alias(&alias?);
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    match function? {
                        CanonicalFunction::Lift { .. } => {}
                        function => self.functions.push(CoreFunction::Canonical(function)),
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    if matches!(import?.ty, ComponentTypeRef::Module(_)) {
                        self.modules.push(None);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Module {
                        // An export also adds an index to the index space of its kind.
                        self.modules.push(self.module(export.index));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn add_alias(&mut self, alias: &ComponentAlias<'a>) {
        match *alias {
            ComponentAlias::CoreInstanceExport { kind, instance_index: instance, name } => {
                let alias = Alias { instance, name, after_instances: self.instances.len() };
                match kind {
                    ExternalKind::Func | ExternalKind::FuncExact => {
                        self.functions.push(CoreFunction::Exported(alias));
                    }
                    ExternalKind::Table => self.tables.push(alias),
                    ExternalKind::Memory => self.memories.push(alias),
                    _ => {}
                }
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. }
            | ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } => self.modules.push(None),
            _ => {}
        }
    }

    /// The number of indices of core modules.
    pub(super) fn module_count(&self) -> usize {
        self.modules.len()
    }

    /// The bytes of a core module that is defined in this component.
    pub(super) fn module(&self, index: u32) -> Option<&'a [u8]> {
        *self.modules.get(index as usize)?
    }

    /// The core instances that are made from modules, with their arguments.
    pub(super) fn instantiations<'o>(
        &'o self,
    ) -> impl Iterator<Item = (ModuleInstance, &'o [InstantiationArg<'a>])> + use<'o, 'a> {
        (0..).zip(&self.instances).filter_map(|(instance, defined)| match defined {
            Instance::Instantiate { module_index, args } => {
                Some((ModuleInstance { module: *module_index, instance }, &**args))
            }
            Instance::FromExports(_) => None,
        })
    }

    /// The exports of a core instance that is made from exports of others. Empty for instances of modules.
    pub(super) fn gathered(&self, instance: u32) -> &[Export<'a>] {
        match self.instances.get(instance as usize) {
            Some(Instance::FromExports(exports)) => exports,
            _ => &[],
        }
    }

    /// The index of the definition that such an instance exports.
    pub(super) fn gathered_index(&self, instance: u32, kind: ExternalKind, name: &str) -> Option<u32> {
        let mut exports = self.gathered(instance).iter();
        exports.find(|export| export.kind == kind && export.name == name).map(|export| export.index)
    }

    /// The index of the core function of the component that a module gets for an import, if it is instantiated with
    /// `args`.
    pub(super) fn imported(&self, import: &ImportedFunction<'_>, args: &[InstantiationArg<'_>]) -> Option<u32> {
        let arg = args.iter().find(|arg| arg.name == import.module)?;
        self.gathered_index(arg.index, ExternalKind::Func, import.name)
    }
}
