//! What is read of a main module before it is rewritten.

use wasmparser::{CompositeInnerType, Export, Parser, Payload, TypeRef, TypeSectionReader};

/// Prefixes of custom sections that contain the offsets of instructions.
const LOCATING: [&str; 2] = [".debug_", "metadata.code."];

/// What must be known of a module before it can be rewritten.
pub(super) struct MainModule<'a> {
    pub(super) imported_functions: Vec<ImportedFunction<'a>>,
    /// Whether it imports anything else.
    pub(super) imports_others: bool,
    pub(super) types: u32,
    pub(super) functions: u32,
    pub(super) tables: u32,
    pub(super) exports: Vec<Export<'a>>,
    /// Whether it has a table section, to which another table can be added.
    pub(super) has_table_section: bool,
}

pub(super) struct ImportedFunction<'a> {
    pub(super) module: &'a str,
    pub(super) name: &'a str,
    pub(super) ty: u32,
    pub(super) parameters: u32,
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
    pub(super) fn read(module: &'a [u8]) -> Option<Self> {
        let mut read = Self {
            imported_functions: Vec::new(),
            imports_others: false,
            types: 0,
            functions: 0,
            tables: 0,
            exports: Vec::new(),
            has_table_section: false,
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
                    read.has_table_section = true;
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
        (sections == [true; 3]).then_some(read)
    }

    pub(super) fn export(&self, name: &str) -> Option<&Export<'a>> {
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
