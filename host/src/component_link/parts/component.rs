//! Rewrites the component, so that it imports its large modules.

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, component_utils};
use wasm_encoder::{
    Component, ComponentImportSection, ComponentSectionId, ComponentTypeRef, CoreTypeSection, InstanceSection,
    ModuleArg, ModuleType,
};
use wasmparser::{Instance, Parser};

use super::module::MEMORY_MODULE;
use super::{Plan, TakenOut, Treatment, import_name};
use crate::component_link::{Result, Unfit, add_custom_section, add_unchanged};

pub(super) struct Rewriter<'p, 'a> {
    plan: &'p Plan<'a>,
    modules: usize,
    instances: u32,
    taken_out: Vec<TakenOut<'a>>,
}

impl<'p, 'a> Rewriter<'p, 'a> {
    pub(super) fn new(plan: &'p Plan<'a>) -> Self {
        Self { plan, modules: 0, instances: 0, taken_out: Vec::new() }
    }

    /// The modules that the component imports.
    pub(super) fn into_modules(self) -> Vec<TakenOut<'a>> {
        self.taken_out
    }

    /// Imports a module. Its type is the only core type of the component that has its index.
    fn import(&mut self, component: &mut Component, ty: Option<ModuleType>, module: TakenOut<'a>) -> Result<()> {
        let index = self.taken_out.len();
        let mut types = CoreTypeSection::new();
        types.ty().module(&ty.ok_or(Error::UserError(Unfit))?);
        component.section(&types);
        let mut imports = ComponentImportSection::new();
        let type_index = u32::try_from(index).map_err(|_| Error::UserError(Unfit))?;
        imports.import(import_name(index), ComponentTypeRef::Module(type_index));
        component.section(&imports);
        self.taken_out.push(module);
        Ok(())
    }
}

/// The number of indices that are not greater than `index`: so many modules or instances were added before it.
fn added_before(added: &[u32], index: u32) -> u32 {
    u32::try_from(added.partition_point(|of| *of <= index)).unwrap_or(u32::MAX)
}

impl Reencode for Rewriter<'_, '_> {
    type Error = Unfit;
}

impl ReencodeComponent for Rewriter<'_, '_> {
    /// A module with a memory precedes the one with the code.
    fn module_index(&mut self, module: u32) -> u32 {
        module.saturating_add(added_before(&self.plan.halved, module))
    }

    /// And so do their instances.
    fn instance_index(&mut self, instance: u32) -> u32 {
        instance.saturating_add(added_before(&self.plan.halved_instances, instance))
    }

    fn parse_component_submodule(&mut self, component: &mut Component, _parser: Parser, bytes: &[u8]) -> Result<()> {
        let treatment = self.plan.treatments.get(self.modules).ok_or(Error::UserError(Unfit))?;
        self.modules += 1;
        match treatment {
            Treatment::Stays => {
                add_unchanged(component, ComponentSectionId::CoreModule, bytes);
            }
            Treatment::TakenOut(module) => {
                let whole = TakenOut { bytes: module.bytes(), code_bytes: module.code_bytes };
                self.import(component, module.module_type(), whole)?;
            }
            Treatment::Halved(module) => {
                let memory = TakenOut { bytes: module.memory_half().into(), code_bytes: 0 };
                let code = module.code_half().ok_or(Error::UserError(Unfit))?;
                self.import(component, module.memory_type(), memory)?;
                let code = TakenOut { bytes: code.into(), code_bytes: module.code_bytes };
                self.import(component, module.code_type(), code)?;
            }
        }
        Ok(())
    }

    fn parse_component_subcomponent(
        &mut self,
        component: &mut Component,
        _parser: Parser,
        subcomponent: &[u8],
        _whole_component: &[u8],
    ) -> Result<()> {
        // A nested component has its own index spaces, and refers to no module.
        add_unchanged(component, ComponentSectionId::Component, subcomponent);
        Ok(())
    }

    fn parse_instance_section(
        &mut self,
        instances: &mut InstanceSection,
        section: wasmparser::InstanceSectionReader<'_>,
    ) -> Result<()> {
        for instance in section {
            let (index, instance) = (self.instances, instance?);
            self.instances += 1;
            let Instance::Instantiate { module_index, args } = &instance else {
                component_utils::parse_instance(self, instances, instance)?;
                continue;
            };
            if self.plan.halved_instances.binary_search(&index).is_err() {
                component_utils::parse_instance(self, instances, instance)?;
                continue;
            }
            let (module, new_index) = (self.module_index(*module_index), self.instance_index(index));
            let no_arguments: [(&str, ModuleArg); 0] = [];
            instances.instantiate(module.saturating_sub(1), no_arguments);
            let memory = (MEMORY_MODULE, ModuleArg::Instance(new_index.saturating_sub(1)));
            let args = args.iter().map(|arg| (arg.name, ModuleArg::Instance(self.instance_index(arg.index))));
            let args: Vec<_> = args.chain([memory]).collect();
            instances.instantiate(module, args);
        }
        Ok(())
    }

    fn parse_component_custom_section(
        &mut self,
        component: &mut Component,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Result<()> {
        add_custom_section(self, component, section)
    }
}
