//! Comparison of a component's types with the host's.

use std::collections::HashMap;

use wasmparser::PrimitiveValType;
use wasmparser::component_types::{AliasableResourceId, ComponentDefinedType, ComponentValType, ResourceId};
use wasmparser::types::TypesRef;

use super::HostResource;

/// A component's types, and the origin of each imported resource type.
pub(crate) struct WitTypes<'a> {
    types: TypesRef<'a>,
    /// The interface with its version, and the resource's name in it.
    resources: HashMap<ResourceId, (&'a str, &'a str)>,
}

type Is = fn(&WitTypes<'_>, ComponentValType) -> bool;

impl<'a> WitTypes<'a> {
    pub(crate) fn new(types: TypesRef<'a>, resources: HashMap<ResourceId, (&'a str, &'a str)>) -> Self {
        Self { types, resources }
    }

    pub(super) fn defined(&self, ty: ComponentValType) -> Option<&'a ComponentDefinedType> {
        match ty {
            ComponentValType::Type(id) => self.types.get(id),
            ComponentValType::Primitive(_) => None,
        }
    }

    pub(super) fn is_primitive(&self, ty: ComponentValType, is: PrimitiveValType) -> bool {
        match ty {
            ComponentValType::Primitive(primitive) => primitive == is,
            ComponentValType::Type(_) => {
                matches!(self.defined(ty), Some(ComponentDefinedType::Primitive(primitive)) if *primitive == is)
            }
        }
    }

    pub(crate) fn is_resource<T: HostResource>(&self, id: AliasableResourceId) -> bool {
        let is_it =
            |(interface, name): (&str, &str)| interface.split('@').next() == Some(T::INTERFACE) && name == T::NAME;
        self.resource(id).is_some_and(is_it)
    }

    /// The interface that defines a resource, with its version, and the resource's name in it.
    pub(crate) fn resource(&self, id: AliasableResourceId) -> Option<(&'a str, &'a str)> {
        self.resources.get(&id.resource()).copied()
    }

    pub(crate) fn is_record(&self, ty: ComponentValType, fields: &[(&str, Is)]) -> bool {
        let Some(ComponentDefinedType::Record(record)) = self.defined(ty) else { return false };
        record.fields.len() == fields.len()
            && record
                .fields
                .iter()
                .zip(fields)
                .all(|((name, ty), (is_name, is))| name.as_str() == *is_name && is(self, *ty))
    }

    pub(crate) fn is_variant(&self, ty: ComponentValType, cases: &[(&str, Option<Is>)]) -> bool {
        let Some(ComponentDefinedType::Variant(variant)) = self.defined(ty) else { return false };
        variant.cases.len() == cases.len()
            && variant.cases.iter().zip(cases).all(|((name, case), (is_name, is))| {
                let is_payload = match (case.ty, is) {
                    (None, None) => true,
                    (Some(ty), Some(is)) => is(self, ty),
                    _ => false,
                };
                name.as_str() == *is_name && is_payload
            })
    }

    pub(crate) fn is_enum(&self, ty: ComponentValType, cases: &[&str]) -> bool {
        let Some(ComponentDefinedType::Enum(names)) = self.defined(ty) else { return false };
        names.len() == cases.len() && names.iter().zip(cases).all(|(name, case)| name.as_str() == *case)
    }
}
