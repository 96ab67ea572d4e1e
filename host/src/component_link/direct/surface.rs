//! A component's interfaces: its imports, lifted functions and exports.

use std::collections::{HashMap, HashSet};

use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType, ResourceId};
use wasmparser::types::TypesRef;
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentTypeRef,
    Payload,
};

use crate::component_abi::{self, WitTypes};
use crate::component_link::payloads::top_level;

/// The index spaces of a component that concern its interfaces.
#[derive(Default)]
pub(crate) struct Surface<'a> {
    /// The names of the imported instances.
    pub(crate) imports: Vec<&'a str>,
    instances: Vec<InterfaceInstance<'a>>,
    functions: Vec<WitFunction<'a>>,
    components: Vec<Option<&'a [u8]>>,
    /// The exported instances.
    exports: Vec<(&'a str, u32)>,
}

#[derive(Clone)]
enum InterfaceInstance<'a> {
    Imported(&'a str),
    Made(ComponentInstance<'a>),
    Other,
}

/// A component-level function.
#[derive(Clone)]
pub(crate) enum WitFunction<'a> {
    /// A function of an imported interface.
    Imported {
        interface: &'a str,
        name: &'a str,
    },
    /// A lifted core function of the component.
    Lifted {
        core_function: u32,
        options: Box<[CanonicalOption]>,
    },
    Other,
}

impl<'a> Surface<'a> {
    /// None for a component that has a start function, instantiates nested components that do more than re-export
    /// functions, or imports anything other than instances and types.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut surface = Self::default();
        for payload in top_level(bytes) {
            surface.add(payload.ok()?, bytes)?;
        }
        let passes_on = |instance: &InterfaceInstance<'_>| match instance {
            InterfaceInstance::Made(ComponentInstance::Instantiate { component_index, .. }) => {
                surface.component(*component_index).and_then(passed_on).is_some()
            }
            _ => true,
        };
        surface.instances.iter().all(passes_on).then_some(surface)
    }

    fn component(&self, index: u32) -> Option<&'a [u8]> {
        *self.components.get(index as usize)?
    }

    fn add(&mut self, payload: Payload<'a>, bytes: &'a [u8]) -> Option<()> {
        match payload {
            Payload::ComponentStartSection { .. } => return None,
            Payload::ComponentSection { unchecked_range, .. } => self.components.push(bytes.get(unchecked_range)),
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import.ok()?;
                    match import.ty {
                        ComponentTypeRef::Instance(_) => {
                            self.imports.push(import.name.name);
                            self.instances.push(InterfaceInstance::Imported(import.name.name));
                        }
                        ComponentTypeRef::Type(_) => {}
                        _ => return None,
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    self.instances.push(InterfaceInstance::Made(instance.ok()?));
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.add_alias(&alias.ok()?);
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    if let CanonicalFunction::Lift { core_func_index: core_function, options, .. } = function.ok()? {
                        self.functions.push(WitFunction::Lifted { core_function, options });
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.ok()?;
                    self.add_export(export.name.name, export.kind, export.index);
                }
            }
            _ => {}
        }
        Some(())
    }

    fn add_alias(&mut self, alias: &ComponentAlias<'a>) {
        match *alias {
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Func, instance_index, name } => {
                let function = match self.instances.get(instance_index as usize) {
                    Some(InterfaceInstance::Imported(interface)) => WitFunction::Imported { interface, name },
                    _ => WitFunction::Other,
                };
                self.functions.push(function);
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Instance, .. } => {
                self.instances.push(InterfaceInstance::Other);
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. }
            | ComponentAlias::Outer { kind: wasmparser::ComponentOuterAliasKind::Component, .. } => {
                self.components.push(None);
            }
            _ => {}
        }
    }

    /// An export also adds an index to the index space of its kind.
    fn add_export(&mut self, name: &'a str, kind: ComponentExternalKind, index: u32) {
        let at = index as usize;
        match kind {
            ComponentExternalKind::Instance => {
                self.exports.push((name, index));
                self.instances.push(self.instances.get(at).cloned().unwrap_or(InterfaceInstance::Other));
            }
            ComponentExternalKind::Func => {
                self.functions.push(self.functions.get(at).cloned().unwrap_or(WitFunction::Other));
            }
            ComponentExternalKind::Component => {
                self.components.push(self.components.get(at).copied().flatten());
            }
            _ => {}
        }
    }

    /// The names of the exported instances.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = &'a str> {
        self.exports.iter().map(|(name, _)| *name)
    }

    pub(crate) fn function(&self, index: u32) -> Option<&WitFunction<'a>> {
        self.functions.get(index as usize)
    }

    /// The index of an exported interface's function: directly, or through a nested component that only re-exports it,
    /// as wit-component makes them.
    pub(crate) fn exported_function(&self, interface: &str, name: &str) -> Option<u32> {
        let (_, instance) = self.exports.iter().find(|(export, _)| *export == interface)?;
        let InterfaceInstance::Made(instance) = self.instances.get(*instance as usize)? else { return None };
        match instance {
            ComponentInstance::FromExports(exports) => {
                let is_it = |kind, of: &str| kind == ComponentExternalKind::Func && of == name;
                exports.iter().find(|export| is_it(export.kind, export.name.name)).map(|export| export.index)
            }
            ComponentInstance::Instantiate { component_index, args } => {
                let passed_on = passed_on(self.component(*component_index)?)?;
                let (_, import) = passed_on.into_iter().find(|(export, _)| *export == name)?;
                let is_it = |kind, of: &str| kind == ComponentExternalKind::Func && of == import;
                args.iter().find(|arg| is_it(arg.kind, arg.name)).map(|arg| arg.index)
            }
        }
    }

    /// The component's types, and the interface that defines each imported resource.
    pub(crate) fn wit_types<'t>(&self, types: TypesRef<'t>) -> Option<WitTypes<'t>>
    where
        'a: 't,
    {
        let mut resources: HashMap<ResourceId, (&str, &str)> = HashMap::new();
        let (mut interfaces, mut owners) = (HashSet::new(), HashSet::new());
        for name in &self.imports {
            if !interfaces.insert(component_abi::release(name)?) {
                // Two versions of one release would define the same resource type twice.
                return None;
            }
            let ComponentEntityType::Instance(id) = types.component_item_for_import(name)?.ty else { return None };
            for (export, item) in &types.get(id)?.exports {
                if let ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } = item.ty {
                    // The first mention of a resource defines it; later ones are aliases.
                    let owner = *resources.entry(id.resource()).or_insert((name, export.as_str()));
                    if owner == (*name, export.as_str()) && !owners.insert((name.split('@').next()?, owner.1)) {
                        // The resources of two releases differ in nothing but the interface's version.
                        return None;
                    }
                }
            }
        }
        Some(WitTypes::new(types, resources))
    }
}

/// The functions of a component that only re-exports its imports, by their exported and their imported names. None for
/// any other component.
fn passed_on(component: &[u8]) -> Option<Vec<(&str, &str)>> {
    let mut functions = Vec::new();
    let mut passed_on = Vec::new();
    for payload in top_level(component) {
        match payload.ok()? {
            Payload::Version { .. }
            | Payload::ComponentTypeSection(_)
            | Payload::CustomSection(_)
            | Payload::End(_) => {}
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import.ok()?;
                    if matches!(import.ty, ComponentTypeRef::Func(_)) {
                        functions.push(import.name.name);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.ok()?;
                    if export.kind == ComponentExternalKind::Func {
                        let function = *functions.get(export.index as usize)?;
                        functions.push(function);
                        passed_on.push((export.name.name, function));
                    }
                }
            }
            _ => return None,
        }
    }
    Some(passed_on)
}
