//! Rewrites the component without the shim.

use wasm_encoder::ModuleSection;
use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, component_utils};
use wasm_encoder::{Alias, Component, ComponentAliasSection, ComponentSectionId, ExportKind, InstanceSection, Module};
use wasmparser::{ComponentAlias, Export, ExternalKind, Instance, Parser};

use super::module::{Rewriter, TABLE};
use super::plan::Plan;
use crate::component_link::{Result, Unfit, add_custom_section, add_unchanged};

pub(super) struct Relinker<'p, 'a> {
    plan: &'p Plan<'a>,
    modules: u32,
    instances: u32,
}

impl<'p, 'a> Relinker<'p, 'a> {
    pub(super) fn new(plan: &'p Plan<'a>) -> Self {
        Self { plan, modules: 0, instances: 0 }
    }

    fn is_shims(&self, export: &Export<'_>) -> bool {
        export.kind == ExternalKind::Func && self.plan.shim_functions.binary_search(&export.index).is_ok()
    }
}

impl Reencode for Relinker<'_, '_> {
    type Error = Unfit;

    /// The new index of a core function of the component. The shim's functions have none.
    fn function_index(&mut self, function: u32) -> Result<u32> {
        match self.plan.shim_functions.binary_search(&function) {
            Ok(_) => Err(Error::UserError(Unfit)),
            Err(before) => Ok(function - u32::try_from(before).map_err(|_| Error::UserError(Unfit))?),
        }
    }
}

impl ReencodeComponent for Relinker<'_, '_> {
    fn parse_component_submodule(&mut self, component: &mut Component, parser: Parser, module: &[u8]) -> Result<()> {
        let index = self.modules;
        self.modules += 1;
        if index == self.plan.shim.module {
            // An empty module keeps its index in use.
            component.section(&ModuleSection(&Module::new()));
        } else if index == self.plan.main.module {
            let mut rewritten = Module::new();
            Rewriter::new(self.plan).parse_core_module(&mut rewritten, parser, module)?;
            component.section(&ModuleSection(&rewritten));
        } else {
            add_unchanged(component, ComponentSectionId::CoreModule, module);
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
        // A nested component has its own index spaces.
        add_unchanged(component, ComponentSectionId::Component, subcomponent);
        Ok(())
    }

    fn parse_instance_section(
        &mut self,
        instances: &mut InstanceSection,
        section: wasmparser::InstanceSectionReader<'_>,
    ) -> Result<()> {
        for instance in section {
            let index = self.instances;
            self.instances += 1;
            let instance = match instance? {
                // An empty instance keeps its index in use.
                Instance::Instantiate { .. } if index == self.plan.shim.instance => Instance::FromExports(Box::new([])),
                Instance::FromExports(exports) => {
                    let kept = exports.into_iter().filter(|export| !self.is_shims(export));
                    Instance::FromExports(kept.collect())
                }
                other => other,
            };
            component_utils::parse_instance(self, instances, instance)?;
        }
        Ok(())
    }

    fn parse_component_alias_section(
        &mut self,
        aliases: &mut ComponentAliasSection,
        section: wasmparser::ComponentAliasSectionReader<'_>,
    ) -> Result<()> {
        for alias in section {
            match alias? {
                ComponentAlias::CoreInstanceExport { kind, instance_index, .. }
                    if instance_index == self.plan.shim.instance =>
                {
                    if kind == ExternalKind::Table {
                        let instance = self.plan.main.instance;
                        aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Table, name: TABLE });
                    }
                }
                alias => {
                    let alias = self.component_alias(alias)?;
                    aliases.alias(alias);
                }
            }
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
