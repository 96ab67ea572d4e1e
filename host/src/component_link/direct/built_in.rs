//! The canonical ABI's built-in functions as a component defines them for its core modules.

use wasmparser::component_types::{ComponentAnyTypeId, ComponentDefinedType, ComponentValType};
use wasmparser::types::Types;
use wasmparser::{CanonicalFunction, CanonicalOption, ValType};

use crate::component_abi::{BuiltIn, Kind};

/// A built-in function with its type and options.
pub(crate) struct BuiltInUse<'c> {
    pub(crate) built_in: BuiltIn,
    /// The payload type of its stream or future; the result type of `task.return`.
    pub(crate) payload: Option<ComponentValType>,
    pub(crate) memory: Option<u32>,
    pub(crate) options: &'c [CanonicalOption],
}

/// None for built-ins that are not provided.
pub(crate) fn read<'c>(function: &'c CanonicalFunction, types: &Types) -> Option<BuiltInUse<'c>> {
    let of_none = |built_in| Some(BuiltInUse { built_in, payload: None, memory: None, options: &[] });
    let of_memory = |built_in, memory| Some(BuiltInUse { built_in, payload: None, memory: Some(memory), options: &[] });
    let of_type = |built_in: fn(Kind) -> BuiltIn, ty| {
        let (kind, payload) = payload(types, ty)?;
        Some(BuiltInUse { built_in: built_in(kind), payload, memory: None, options: &[] })
    };
    // Only the async-lowered forms of reads and writes are provided; the sync-lowered ones block until completion.
    let copying = |built_in, ty, options: &'c [CanonicalOption]| {
        let used = of_type(built_in, ty)?;
        options.contains(&CanonicalOption::Async).then_some(BuiltInUse { options, ..used })
    };
    match function {
        CanonicalFunction::TaskReturn { result, options } => {
            let built_in = BuiltIn::TaskReturn;
            let payload = match result {
                Some(ty) => Some(val_type(types, *ty)?),
                None => None,
            };
            Some(BuiltInUse { built_in, payload, memory: None, options })
        }
        CanonicalFunction::TaskCancel => of_none(BuiltIn::TaskCancel),
        CanonicalFunction::ContextGet { ty: ValType::I32, slot } => of_none(BuiltIn::ContextGet(*slot)),
        CanonicalFunction::ContextSet { ty: ValType::I32, slot } => of_none(BuiltIn::ContextSet(*slot)),
        CanonicalFunction::BackpressureInc => of_none(BuiltIn::BackpressureInc),
        CanonicalFunction::BackpressureDec => of_none(BuiltIn::BackpressureDec),
        CanonicalFunction::ThreadYield { .. } => of_none(BuiltIn::ThreadYield),
        CanonicalFunction::WaitableSetNew => of_none(BuiltIn::WaitableSetNew),
        CanonicalFunction::WaitableSetWait { memory, .. } => of_memory(BuiltIn::WaitableSetWait, *memory),
        CanonicalFunction::WaitableSetPoll { memory, .. } => of_memory(BuiltIn::WaitableSetPoll, *memory),
        CanonicalFunction::WaitableSetDrop => of_none(BuiltIn::WaitableSetDrop),
        CanonicalFunction::WaitableJoin => of_none(BuiltIn::WaitableJoin),
        CanonicalFunction::SubtaskDrop => of_none(BuiltIn::SubtaskDrop),
        CanonicalFunction::SubtaskCancel { async_: false } => of_none(BuiltIn::SubtaskCancel),
        CanonicalFunction::StreamNew { ty } | CanonicalFunction::FutureNew { ty } => of_type(BuiltIn::New, *ty),
        CanonicalFunction::StreamRead { ty, options } | CanonicalFunction::FutureRead { ty, options } => {
            copying(BuiltIn::Read, *ty, options)
        }
        CanonicalFunction::StreamWrite { ty, options } | CanonicalFunction::FutureWrite { ty, options } => {
            copying(BuiltIn::Write, *ty, options)
        }
        CanonicalFunction::StreamCancelRead { ty, async_: false }
        | CanonicalFunction::FutureCancelRead { ty, async_: false } => of_type(BuiltIn::CancelRead, *ty),
        CanonicalFunction::StreamCancelWrite { ty, async_: false }
        | CanonicalFunction::FutureCancelWrite { ty, async_: false } => of_type(BuiltIn::CancelWrite, *ty),
        CanonicalFunction::StreamDropReadable { ty } | CanonicalFunction::FutureDropReadable { ty } => {
            of_type(BuiltIn::DropReadable, *ty)
        }
        CanonicalFunction::StreamDropWritable { ty } | CanonicalFunction::FutureDropWritable { ty } => {
            of_type(BuiltIn::DropWritable, *ty)
        }
        _ => None,
    }
}

fn payload(types: &Types, ty: u32) -> Option<(Kind, Option<ComponentValType>)> {
    let ComponentAnyTypeId::Defined(id) = types.component_any_type_at(ty) else { return None };
    match &types[id] {
        ComponentDefinedType::Stream { ty, .. } => Some((Kind::Stream, *ty)),
        ComponentDefinedType::Future { ty, .. } => Some((Kind::Future, *ty)),
        _ => None,
    }
}

fn val_type(types: &Types, ty: wasmparser::ComponentValType) -> Option<ComponentValType> {
    match ty {
        wasmparser::ComponentValType::Primitive(ty) => Some(ComponentValType::Primitive(ty)),
        wasmparser::ComponentValType::Type(index) => match types.component_any_type_at(index) {
            ComponentAnyTypeId::Defined(id) => Some(ComponentValType::Type(id)),
            _ => None,
        },
    }
}
