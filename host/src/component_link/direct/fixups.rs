//! The fixups module, which fills the table of a shim module.

use wasmparser::{ConstExpr, ElementItems, ElementKind, Operator, Parser, Payload, TypeRef};

/// A fixups module: it does nothing except write imported functions to an imported table, from its first element on.
pub(crate) struct Fixups<'a> {
    pub(crate) table: &'a str,
    /// In the order of the table's elements.
    pub(crate) functions: Vec<&'a str>,
}

impl<'a> Fixups<'a> {
    /// None if the module contains anything else.
    pub(crate) fn read(module: &'a [u8]) -> Option<Self> {
        let (mut imported, mut table, mut functions) = (Vec::new(), None, None);
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::Version { .. } | Payload::TypeSection(_) | Payload::CustomSection(_) | Payload::End(_) => {}
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.ok()?;
                        match import.ty {
                            TypeRef::Func(_) => imported.push(import.name),
                            TypeRef::Table(_) if table.is_none() => table = Some(import.name),
                            _ => return None,
                        }
                    }
                }
                Payload::ElementSection(section) if functions.is_none() && section.count() == 1 => {
                    let element = section.into_iter().next()?.ok()?;
                    let ElementKind::Active { table_index, offset_expr } = element.kind else { return None };
                    let ElementItems::Functions(items) = element.items else { return None };
                    if table_index.unwrap_or(0) != 0 || !is_zero(&offset_expr) {
                        return None;
                    }
                    let names = items.into_iter().map(|index| imported.get(index.ok()? as usize).copied());
                    functions = Some(names.collect::<Option<Vec<_>>>()?);
                }
                _ => return None,
            }
        }
        Some(Self { table: table?, functions: functions? })
    }
}

fn is_zero(expression: &ConstExpr<'_>) -> bool {
    let mut operators = expression.get_operators_reader();
    matches!(operators.read(), Ok(Operator::I32Const { value: 0 })) && matches!(operators.read(), Ok(Operator::End))
}
