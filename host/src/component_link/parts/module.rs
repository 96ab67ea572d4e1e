//! A core module: its type, and its division into code and memory.

use std::borrow::Cow;

use wasm_encoder::reencode::{Reencode as _, RoundtripReencoder};
use wasm_encoder::{
    EntityType, ExportKind, ExportSection, ImportSection, MemoryType, Module as NewModule, ModuleType, RawSection,
    SectionId,
};
use wasmparser::{
    CompositeInnerType, DataKind, DataSectionReader, ExternalKind, FuncType, Operator, Parser, Payload, TypeRef,
    TypeSectionReader,
};

use super::Resources;

/// The import of a module whose memory is defined in another one, and the name under which that module exports it.
pub(super) const MEMORY_MODULE: &str = "daylily:memory";
const MEMORY: &str = "memory";

/// A module, as far as it must be known to be imported or divided.
pub(super) struct Module<'a> {
    bytes: &'a [u8],
    /// The contents of each section, after its id.
    sections: Vec<(u8, &'a [u8])>,
    /// None if a type is something else than a function.
    types: Option<Vec<FuncType>>,
    imports: Vec<(&'a str, &'a str, EntityType)>,
    exports: Vec<(&'a str, ExternalKind, u32)>,
    entities: Entities,
    resources: Resources,
    imports_memory: bool,
    /// The number of data segments, if the module states it before its code.
    data_count: Option<u32>,
    /// Whether all data segments are copied into the only memory, at fixed places.
    has_plain_data: bool,
    pub(super) code_bytes: usize,
    pub(super) data_bytes: usize,
}

/// The index spaces of what a module can export.
#[derive(Default)]
struct Entities {
    functions: Vec<EntityType>,
    tables: Vec<EntityType>,
    memories: Vec<EntityType>,
    globals: Vec<EntityType>,
    tags: Vec<EntityType>,
}

impl Entities {
    fn space(&mut self, of: &EntityType) -> &mut Vec<EntityType> {
        match of {
            EntityType::Function(_) | EntityType::FunctionExact(_) => &mut self.functions,
            EntityType::Table(_) => &mut self.tables,
            EntityType::Memory(_) => &mut self.memories,
            EntityType::Global(_) => &mut self.globals,
            EntityType::Tag(_) => &mut self.tags,
        }
    }

    fn add(&mut self, ty: EntityType) {
        self.space(&ty).push(ty);
    }

    fn get(&self, kind: ExternalKind, index: u32) -> Option<EntityType> {
        let space = match kind {
            ExternalKind::Func | ExternalKind::FuncExact => &self.functions,
            ExternalKind::Table => &self.tables,
            ExternalKind::Memory => &self.memories,
            ExternalKind::Global => &self.globals,
            ExternalKind::Tag => &self.tags,
        };
        space.get(index as usize).copied()
    }
}

fn entity(ty: TypeRef) -> Option<EntityType> {
    RoundtripReencoder.entity_type(ty).ok()
}

impl<'a> Module<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut read = Self {
            bytes,
            sections: Vec::new(),
            types: Some(Vec::new()),
            imports: Vec::new(),
            exports: Vec::new(),
            entities: Entities::default(),
            resources: Resources::default(),
            imports_memory: false,
            data_count: None,
            has_plain_data: false,
            code_bytes: 0,
            data_bytes: 0,
        };
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.ok()?;
            if let Some((id, range)) = payload.as_section() {
                read.sections.push((id, bytes.get(range)?));
            }
            read.add(payload)?;
        }
        Some(read)
    }

    fn add(&mut self, payload: Payload<'a>) -> Option<()> {
        match payload {
            Payload::TypeSection(section) => self.types = function_types(section),
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.ok()?;
                    let ty = entity(import.ty)?;
                    self.imports_memory |= matches!(ty, EntityType::Memory(_));
                    self.imports.push((import.module, import.name, ty));
                    self.entities.add(ty);
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.entities.add(EntityType::Function(ty.ok()?));
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let ty = table.ok()?.ty;
                    self.resources.add(&Resources {
                        tables: 1,
                        max_initial_table_elements: ty.initial,
                        ..<_>::default()
                    });
                    self.entities.add(entity(TypeRef::Table(ty))?);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let ty = memory.ok()?;
                    self.resources.add(&Resources {
                        memories: 1,
                        max_initial_memory_pages: ty.initial,
                        ..<_>::default()
                    });
                    self.entities.add(entity(TypeRef::Memory(ty))?);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    self.entities.add(entity(TypeRef::Global(global.ok()?.ty))?);
                }
            }
            Payload::TagSection(section) => {
                for tag in section {
                    self.entities.add(entity(TypeRef::Tag(tag.ok()?))?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.ok()?;
                    self.exports.push((export.name, export.kind, export.index));
                }
            }
            Payload::DataCountSection { count, .. } => self.data_count = Some(count),
            Payload::CodeSectionStart { size, .. } => self.code_bytes = size as usize,
            Payload::DataSection(section) => {
                self.data_bytes = section.range().len();
                let count = section.count();
                self.has_plain_data = is_plain(section)? && self.data_count.is_none_or(|stated| stated == count);
            }
            _ => {}
        }
        Some(())
    }

    pub(super) fn resources(&self) -> Resources {
        self.resources
    }

    pub(super) fn bytes(&self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self.bytes)
    }

    /// Whether a component that imports it can state its type.
    pub(super) fn has_type(&self) -> bool {
        self.types.is_some()
    }

    /// Whether it can be divided into its code and its memory.
    pub(super) fn can_be_halved(&self) -> bool {
        self.has_type() && self.has_plain_data && !self.imports_memory && self.memory().is_some()
    }

    /// The only memory, as the half with the code imports it. The smallest type that any memory has: so the half does
    /// not depend on the initial size, which is that of the snapshot.
    fn memory(&self) -> Option<EntityType> {
        match self.entities.memories[..] {
            [EntityType::Memory(memory)] if !memory.shared => {
                Some(EntityType::Memory(MemoryType { minimum: 0, maximum: None, ..memory }))
            }
            _ => None,
        }
    }

    /// The type of the module.
    pub(super) fn module_type(&self) -> Option<ModuleType> {
        self.type_with(None)
    }

    /// The type of the half with the code.
    pub(super) fn code_type(&self) -> Option<ModuleType> {
        self.type_with(Some(self.memory()?))
    }

    fn type_with(&self, imported_memory: Option<EntityType>) -> Option<ModuleType> {
        let mut module = ModuleType::new();
        for ty in self.types.as_ref()? {
            let ty = RoundtripReencoder.func_type(ty.clone()).ok()?;
            module.ty().function(ty.params().iter().copied(), ty.results().iter().copied());
        }
        for (from, name, ty) in &self.imports {
            module.import(from, name, *ty);
        }
        if let Some(memory) = imported_memory {
            module.import(MEMORY_MODULE, MEMORY, memory);
        }
        for (name, kind, index) in &self.exports {
            let ty = self.entities.get(*kind, *index)?;
            let is_moved = matches!(ty, EntityType::Memory(_)) && imported_memory.is_some();
            module.export(name, imported_memory.filter(|_| is_moved).unwrap_or(ty));
        }
        Some(module)
    }

    /// The type of the half with the memory, also independent of its initial size.
    pub(super) fn memory_type(&self) -> Option<ModuleType> {
        let mut module = ModuleType::new();
        module.export(MEMORY, self.memory()?);
        Some(module)
    }

    /// The half with the code: it imports its memory. The functions are not changed, so neither are the places of their
    /// instructions.
    pub(super) fn code_half(&self) -> Option<Vec<u8>> {
        let mut half = NewModule::new();
        let mut imports = ImportSection::new();
        for (from, name, ty) in &self.imports {
            imports.import(from, name, *ty);
        }
        imports.import(MEMORY_MODULE, MEMORY, self.memory()?);
        let mut imports = Some(imports);
        for (id, data) in &self.sections {
            if !is_one_of(*id, &[SectionId::Custom, SectionId::Type])
                && let Some(imports) = imports.take()
            {
                half.section(&imports);
            }
            if is_one_of(*id, &[SectionId::Import, SectionId::Memory]) {
                continue;
            }
            if is_one_of(*id, &[SectionId::Data]) {
                self.empty_data(&mut half);
                continue;
            }
            half.section(&RawSection { id: *id, data });
        }
        Some(half.finish())
    }

    /// Functions may name data segments, if the module states how many there are. One that was copied into the memory
    /// is empty from then on, as one is that has never had any data.
    fn empty_data(&self, half: &mut NewModule) {
        if let Some(count) = self.data_count {
            let mut data = wasm_encoder::DataSection::new();
            for _ in 0..count {
                data.passive([]);
            }
            half.section(&data);
        }
    }

    /// The half with the memory and its data.
    pub(super) fn memory_half(&self) -> Vec<u8> {
        let mut half = NewModule::new();
        for (id, data) in &self.sections {
            if is_one_of(*id, &[SectionId::Data]) {
                let mut exports = ExportSection::new();
                exports.export(MEMORY, ExportKind::Memory, 0);
                half.section(&exports);
            }
            if is_one_of(*id, &[SectionId::Memory, SectionId::Data]) {
                half.section(&RawSection { id: *id, data });
            }
        }
        half.finish()
    }
}

fn is_one_of(id: u8, sections: &[SectionId]) -> bool {
    sections.iter().any(|section| u8::from(*section) == id)
}

/// All types, if each is a function without relations to others.
fn function_types(section: TypeSectionReader<'_>) -> Option<Vec<FuncType>> {
    let mut types = Vec::new();
    for group in section {
        let group = group.ok()?;
        if group.is_explicit_rec_group() {
            return None;
        }
        for ty in group.into_types() {
            let composite = ty.composite_type;
            match composite.inner {
                CompositeInnerType::Func(function)
                    if ty.is_final && ty.supertype_idx.is_none() && !composite.shared =>
                {
                    types.push(function);
                }
                _ => return None,
            }
        }
    }
    Some(types)
}

/// Whether all segments are copied to constant places of the first memory when the module is instantiated.
fn is_plain(section: DataSectionReader<'_>) -> Option<bool> {
    for segment in section {
        let DataKind::Active { memory_index: 0, offset_expr } = segment.ok()?.kind else { return Some(false) };
        let mut operators = offset_expr.get_operators_reader();
        if !matches!(operators.read().ok()?, Operator::I32Const { .. } | Operator::I64Const { .. })
            || !matches!(operators.read().ok()?, Operator::End)
        {
            return Some(false);
        }
    }
    Some(true)
}
