//! The sections of a module or a component.

use wasmparser::{Parser, Payload};

/// The payloads of a module or a component, without the contents of nested ones.
pub(crate) fn top_level(bytes: &[u8]) -> impl Iterator<Item = wasmparser::Result<Payload<'_>>> {
    payloads(bytes).filter_map(|payload| match payload {
        Ok((depth, payload)) => (depth == 0).then_some(Ok(payload)),
        Err(error) => Some(Err(error)),
    })
}

/// The payloads of a module or a component including nested ones, each with its nesting depth.
pub(crate) fn payloads(bytes: &[u8]) -> impl Iterator<Item = wasmparser::Result<(u32, Payload<'_>)>> {
    // The payloads of a nested one are between its section's start and its `End`.
    let mut depth = 0_u32;
    Parser::new(0).parse_all(bytes).map(move |payload| {
        let payload = payload?;
        let nested_in = depth;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        Ok((nested_in, payload))
    })
}
