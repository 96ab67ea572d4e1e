//! Rewrites the main module, and adds the shim's table and functions to it.

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, ExportKind, ExportSection, Function, FunctionSection, ImportSection, TableSection};
use wasmparser::TypeRef;

use super::plan::Plan;
use crate::component_link::main_module::ImportedFunction;
use crate::component_link::{Result, Unfit};

/// The name under which the main module exports the table.
pub(super) const TABLE: &str = "daylily:shim";

/// A function that was imported from the shim, and is now defined in the module.
struct Moved<'p> {
    element: u32,
    import: &'p ImportedFunction<'p>,
}

pub(super) struct Rewriter<'p> {
    /// In the order of their imports, which is also that of their new indices.
    moved: Vec<Moved<'p>>,
    /// For each imported function: whether it is moved, and how many moved functions precede it.
    ranks: Vec<(bool, u32)>,
    plan: &'p Plan<'p>,
}

impl<'p> Rewriter<'p> {
    pub(super) fn new(plan: &'p Plan<'p>) -> Self {
        let imports = plan.elements.iter().zip(&plan.main_module.imported_functions);
        let mut before = 0;
        let ranks = plan.elements.iter().map(|element| {
            let rank = (element.is_some(), before);
            before += u32::from(element.is_some());
            rank
        });
        Self {
            ranks: ranks.collect(),
            moved: imports.filter_map(|(element, import)| Some(Moved { element: (*element)?, import })).collect(),
            plan,
        }
    }

    fn moved_count(&self) -> Result<u32> {
        u32::try_from(self.moved.len()).map_err(|_| Error::UserError(Unfit))
    }
}

impl Reencode for Rewriter<'_> {
    type Error = Unfit;

    /// The new order: the remaining imports, the module's own functions, then those of the shim.
    fn function_index(&mut self, function: u32) -> Result<u32> {
        let moved = self.moved_count()?;
        Ok(match self.ranks.get(function as usize) {
            Some((true, before)) => self.plan.main_module.functions - moved + before,
            Some((false, before)) => function - before,
            None => function - moved,
        })
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<()> {
        let mut elements = self.plan.elements.iter();
        for import in section.into_imports() {
            let import = import?;
            let is_moved = matches!(import.ty, TypeRef::Func(_)) && elements.next().is_some_and(Option::is_some);
            if !is_moved {
                self.parse_import(imports, import)?;
            }
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<()> {
        utils::parse_function_section(self, functions, section)?;
        for moved in &self.moved {
            functions.function(moved.import.ty);
        }
        Ok(())
    }

    fn parse_table_section(
        &mut self,
        tables: &mut TableSection,
        section: wasmparser::TableSectionReader<'_>,
    ) -> Result<()> {
        utils::parse_table_section(self, tables, section)?;
        let ty = self.table_type(self.plan.table)?;
        tables.table(ty);
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result<()> {
        utils::parse_export_section(self, exports, section)?;
        exports.export(TABLE, ExportKind::Table, self.plan.main_module.tables);
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, section: wasmparser::CodeSectionReader<'_>) -> Result<()> {
        utils::parse_code_section(self, code, section)?;
        for Moved { element, import } in &self.moved {
            let mut function = Function::new([]);
            let mut instructions = function.instructions();
            for parameter in 0..import.parameters {
                instructions.local_get(parameter);
            }
            instructions.i32_const(i32::try_from(*element).map_err(|_| Error::UserError(Unfit))?);
            instructions.call_indirect(self.plan.main_module.tables, import.ty).end();
            code.function(&function);
        }
        Ok(())
    }
}
