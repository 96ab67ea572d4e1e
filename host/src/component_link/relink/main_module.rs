//! Rewrites the main module, and adds the shim's table and functions to it.

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, ExportKind, ExportSection, Function, FunctionSection, ImportSection, TableSection};
use wasmparser::{CompositeInnerType, Export, Parser, Payload, TypeRef, TypeSectionReader};

use super::plan::Plan;
use super::{Result, Unfit};

/// The name under which the main module exports the table.
pub(super) const TABLE: &str = "daylily:shim";

/// Prefixes of custom sections that contain the offsets of instructions.
const LOCATING: [&str; 2] = [".debug_", "metadata.code."];

/// What must be known of a module before it can be rewritten.
pub(crate) struct MainModule<'a> {
    pub(crate) imported_functions: Vec<ImportedFunction<'a>>,
    /// Whether it imports anything else.
    pub(crate) imports_others: bool,
    pub(crate) types: u32,
    pub(crate) functions: u32,
    tables: u32,
    pub(crate) exports: Vec<Export<'a>>,
    has_tables: bool,
}

pub(crate) struct ImportedFunction<'a> {
    pub(crate) module: &'a str,
    pub(crate) name: &'a str,
    pub(crate) ty: u32,
    pub(crate) parameters: u32,
}

/// The number of parameters of each function type; None for other types.
pub(super) fn parameter_counts(section: TypeSectionReader<'_>) -> wasmparser::Result<Vec<Option<u32>>> {
    let mut counts = Vec::new();
    for group in section {
        counts.extend(group?.into_types().map(|ty| match ty.composite_type.inner {
            CompositeInnerType::Func(ty) => u32::try_from(ty.params().len()).ok(),
            _ => None,
        }));
    }
    Ok(counts)
}

impl<'a> MainModule<'a> {
    /// None for a module without the sections that are extended, and for a module with sections that contain the
    /// offsets of instructions: debug information, and hints for the compiler.
    pub(crate) fn read(module: &'a [u8]) -> Option<Self> {
        let mut read = Self {
            imported_functions: Vec::new(),
            imports_others: false,
            types: 0,
            functions: 0,
            tables: 0,
            exports: Vec::new(),
            has_tables: false,
        };
        let mut parameters = Vec::new();
        let mut sections = [false; 3];
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::TypeSection(section) => {
                    parameters = parameter_counts(section).ok()?;
                    read.types = u32::try_from(parameters.len()).ok()?;
                }
                Payload::ImportSection(section) => read.add_imports(section, &parameters)?,
                Payload::FunctionSection(section) => {
                    read.functions = read.functions.checked_add(section.count())?;
                    sections[0] = true;
                }
                Payload::TableSection(section) => {
                    read.tables = read.tables.checked_add(section.count())?;
                    read.has_tables = true;
                }
                Payload::ExportSection(section) => {
                    read.exports = section.into_iter().collect::<wasmparser::Result<_>>().ok()?;
                    sections[1] = true;
                }
                Payload::CodeSectionStart { .. } => sections[2] = true,
                Payload::CustomSection(section) if LOCATING.iter().any(|name| section.name().starts_with(name)) => {
                    return None;
                }
                _ => {}
            }
        }
        (sections == [true; 3] && read.export(TABLE).is_none()).then_some(read)
    }

    /// Whether it has a table section, to which another table can be added.
    pub(super) fn has_tables(&self) -> bool {
        self.has_tables
    }

    pub(crate) fn export(&self, name: &str) -> Option<&Export<'a>> {
        self.exports.iter().find(|export| export.name == name)
    }

    fn add_imports(&mut self, section: wasmparser::ImportSectionReader<'a>, parameters: &[Option<u32>]) -> Option<()> {
        for import in section.into_imports() {
            let import = import.ok()?;
            match import.ty {
                TypeRef::Func(ty) => {
                    let (module, name, parameters) = (import.module, import.name, (*parameters.get(ty as usize)?)?);
                    self.imported_functions.push(ImportedFunction { module, name, ty, parameters });
                    self.functions += 1;
                }
                TypeRef::FuncExact(_) => return None,
                other => {
                    self.tables += u32::from(matches!(other, TypeRef::Table(_)));
                    self.imports_others = true;
                }
            }
        }
        Some(())
    }
}

/// A function that was imported from the shim, and is now defined in the module.
struct Moved<'p> {
    slot: u32,
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
        let imports = plan.slots.iter().zip(&plan.main_module.imported_functions);
        let mut before = 0;
        let ranks = plan.slots.iter().map(|slot| {
            let rank = (slot.is_some(), before);
            before += u32::from(slot.is_some());
            rank
        });
        Self {
            ranks: ranks.collect(),
            moved: imports.filter_map(|(slot, import)| Some(Moved { slot: (*slot)?, import })).collect(),
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
        let mut slots = self.plan.slots.iter();
        for import in section.into_imports() {
            let import = import?;
            let is_moved = matches!(import.ty, TypeRef::Func(_)) && slots.next().is_some_and(Option::is_some);
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
        for Moved { slot, import } in &self.moved {
            let mut function = Function::new([]);
            let mut instructions = function.instructions();
            for parameter in 0..import.parameters {
                instructions.local_get(parameter);
            }
            instructions.i32_const(i32::try_from(*slot).map_err(|_| Error::UserError(Unfit))?);
            instructions.call_indirect(self.plan.main_module.tables, import.ty).end();
            code.function(&function);
        }
        Ok(())
    }
}
