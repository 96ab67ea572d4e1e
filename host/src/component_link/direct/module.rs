//! Rewrites the main module, and adds the loops that allocate memory for results.

use wasm_encoder::reencode::{Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection, Module,
    TypeSection, ValType,
};
use wasmparser::Parser;

use super::form::Layout;
use super::{CALLBACK, HANDLE, REALLOC};
use crate::component_abi::{NEXT_ALLOCATION, NOTHING_TO_ALLOCATE};
use crate::component_link::main_module::ImportedFunction;
use crate::component_link::{Result, Unfit};

/// None if the module has a feature that is not supported.
pub(crate) fn with_allocations(form: &Layout<'_>) -> Option<Vec<u8>> {
    let mut module = Module::new();
    Rewriter::new(form)?.parse_core_module(&mut module, Parser::new(0), form.bytes).ok()?;
    Some(module.finish())
}

/// The order of the new functions: imports, [`NEXT_ALLOCATION`], the module's own, then the wrappers that allocate.
struct Rewriter<'f> {
    form: &'f Layout<'f>,
    imports: u32,
    /// For each imported function: the number of the wrapper that is called instead, if its result may need memory.
    ranks: Vec<Option<u32>>,
}

impl<'f> Rewriter<'f> {
    fn new(form: &'f Layout<'f>) -> Option<Self> {
        let mut rank = 0;
        let ranks = form.imports.iter().map(|import| {
            let this = rank;
            rank += u32::from(import.allocates);
            import.allocates.then_some(this)
        });
        Some(Self { form, imports: u32::try_from(form.main.imported_functions.len()).ok()?, ranks: ranks.collect() })
    }

    /// The imports whose result may need memory, with their indices.
    fn allocating(&self) -> impl Iterator<Item = (u32, &'f ImportedFunction<'f>)> {
        let imports = (0..).zip(&self.form.main.imported_functions);
        imports.zip(&self.form.imports).filter_map(|(import, ours)| ours.allocates.then_some(import))
    }

    fn allocates(&self) -> bool {
        self.form.imports.iter().any(|import| import.allocates)
    }
}

impl Reencode for Rewriter<'_> {
    type Error = Unfit;

    fn function_index(&mut self, function: u32) -> Result<u32> {
        Ok(match self.ranks.get(function as usize) {
            Some(Some(rank)) => self.form.main.functions + u32::from(self.allocates()) + rank,
            Some(None) => function,
            None => function + u32::from(self.allocates()),
        })
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<()> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([ValType::I32], [ValType::I64]);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        _: wasmparser::ImportSectionReader<'_>,
    ) -> Result<()> {
        for (import, ours) in self.form.main.imported_functions.iter().zip(&self.form.imports) {
            imports.import(&ours.module, &ours.name, EntityType::Function(import.ty));
        }
        if self.allocates() {
            let (module, name) = NEXT_ALLOCATION;
            imports.import(module, name, EntityType::Function(self.form.main.types));
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result<()> {
        utils::parse_export_section(self, exports, section)?;
        let Layout { handle, callback, realloc, .. } = self.form;
        for (name, function) in [(HANDLE, Some(*handle)), (CALLBACK, *callback), (REALLOC, *realloc)] {
            if let Some(function) = function {
                let function = self.function_index(function)?;
                exports.export(name, ExportKind::Func, function);
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
        for (_, import) in self.allocating() {
            functions.function(import.ty);
        }
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, section: wasmparser::CodeSectionReader<'_>) -> Result<()> {
        utils::parse_code_section(self, code, section)?;
        let Some(realloc) = self.form.realloc else { return Ok(()) };
        let realloc = self.function_index(realloc)?;
        for (index, import) in self.allocating() {
            code.function(&allocating(index, import.parameters, self.imports, realloc));
        }
        Ok(())
    }
}

/// A wrapper that calls a host function, then allocates memory for its result until that is complete.
fn allocating(function: u32, parameters: u32, next_allocation: u32, realloc: u32) -> Function {
    let (pointer, wanted) = (parameters, parameters + 1);
    let mut allocating = Function::new([(1, ValType::I32), (1, ValType::I64)]);
    let mut code = allocating.instructions();
    for parameter in 0..parameters {
        code.local_get(parameter);
    }
    code.call(function);
    code.loop_(BlockType::Empty);
    code.local_get(pointer).call(next_allocation).local_tee(wanted);
    code.i64_const(NOTHING_TO_ALLOCATE.cast_signed()).i64_ne();
    code.if_(BlockType::Empty);
    // The arguments of `realloc`: no old memory, the alignment, the size.
    code.i32_const(0).i32_const(0);
    code.local_get(wanted).i64_const(32).i64_shr_u().i32_wrap_i64();
    code.local_get(wanted).i32_wrap_i64();
    code.call(realloc).local_set(pointer).br(1);
    code.end().end().end();
    allocating
}
