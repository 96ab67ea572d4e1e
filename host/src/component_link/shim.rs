//! The shim: a module that only has a table, and functions that call its elements.

use std::collections::BTreeMap;

use wasmparser::{ExternalKind, FunctionBody, Operator, Parser, Payload, TableInit, TableType};

use super::main_module::parameter_counts;

/// A shim module.
pub(super) struct Shim<'a> {
    pub(super) table: TableType,
    /// For each exported function: the table element that it calls.
    elements: BTreeMap<&'a str, u32>,
}

impl<'a> Shim<'a> {
    /// None if the module contains anything else.
    pub(super) fn read(module: &'a [u8]) -> Option<Self> {
        let mut parameters = Vec::new();
        let mut types = Vec::new();
        let mut tables = Vec::new();
        let mut exports = Vec::new();
        let mut called = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::Version { .. }
                | Payload::CodeSectionStart { .. }
                | Payload::CustomSection(_)
                | Payload::End(_) => {}
                Payload::TypeSection(section) => parameters = parameter_counts(section).ok()?,
                Payload::FunctionSection(section) => types = section.into_iter().collect::<Result<_, _>>().ok()?,
                Payload::TableSection(section) => tables = section.into_iter().collect::<Result<_, _>>().ok()?,
                Payload::ExportSection(section) => exports = section.into_iter().collect::<Result<_, _>>().ok()?,
                Payload::CodeSectionEntry(body) => {
                    let ty = *types.get(called.len())?;
                    let parameters = (*parameters.get(ty as usize)?)?;
                    called.push(called_element(&body, ty, parameters)?);
                }
                _ => return None,
            }
        }
        let [table] = tables.as_slice() else { return None };
        if !matches!(table.init, TableInit::RefNull) {
            return None;
        }
        let functions = exports.iter().filter(|export| export.kind == ExternalKind::Func);
        let elements = functions.map(|export| Some((export.name, *called.get(export.index as usize)?)));
        Some(Self { table: table.ty, elements: elements.collect::<Option<_>>()? })
    }

    pub(super) fn element(&self, function: &str) -> Option<u32> {
        self.elements.get(function).copied()
    }
}

/// The table element that a function calls with its own parameters. None if it does anything else.
fn called_element(body: &FunctionBody<'_>, ty: u32, parameters: u32) -> Option<u32> {
    if body.get_locals_reader().ok()?.get_count() > 0 {
        return None;
    }
    let mut operators = body.get_operators_reader().ok()?.into_iter().map(Result::ok);
    let mut next = || operators.next().flatten();
    for parameter in 0..parameters {
        if !matches!(next()?, Operator::LocalGet { local_index } if local_index == parameter) {
            return None;
        }
    }
    let Operator::I32Const { value } = next()? else { return None };
    if !matches!(next()?, Operator::CallIndirect { type_index, table_index: 0 } if type_index == ty) {
        return None;
    }
    matches!(next()?, Operator::End).then_some(u32::try_from(value).ok()?)
}
