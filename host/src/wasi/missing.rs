//! Imports that daylily does not provide, of components that are served nevertheless: their functions trap.

use std::borrow::Cow;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType};
use wasmtime::{Engine, format_err};

use super::link::is_provided;
use super::state::State;
use crate::engine::pool::WasiVersion;

/// What stands for a resource of an interface that is not provided. There never is one.
struct Missing;

/// The linker for a component: one of its own if it has imports that are not provided.
///
/// # Errors
///
/// When a name is defined twice, which does not happen in practice.
pub(crate) fn with_traps<'a>(
    linker: &'a Linker<State>,
    component: &Component,
    engine: &Engine,
    wasi_version: WasiVersion,
) -> wasmtime::Result<Cow<'a, Linker<State>>> {
    let mut linker = Cow::Borrowed(linker);
    let mut resources = Vec::new();
    for (name, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = import.ty else { continue };
        let is_missing = !is_provided(name, wasi_version);
        if is_missing {
            linker.to_mut().instance(name)?;
        }
        for (item, export) in interface.exports(engine) {
            // One that an interface uses of an earlier one needs no definition, and must not have another.
            if let ComponentItem::Resource(resource) = export.ty {
                if resources.contains(&resource) {
                    continue;
                }
                resources.push(resource);
            }
            if is_missing {
                define(&mut linker.to_mut().instance(name)?, name, item, &export.ty)?;
            }
        }
    }
    Ok(linker)
}

fn define(
    instance: &mut LinkerInstance<'_, State>,
    interface: &str,
    name: &str,
    item: &ComponentItem,
) -> wasmtime::Result<()> {
    let called = format!("the component called `{name}` of {interface}, which daylily does not provide");
    match item {
        ComponentItem::ComponentFunc(function) if function.async_() => {
            instance.func_new_concurrent(name, move |_, _, _, _| {
                let error = format_err!("{called}");
                Box::pin(async move { Err(error) })
            })
        }
        ComponentItem::ComponentFunc(_) => instance.func_new(name, move |_, _, _, _| Err(format_err!("{called}"))),
        ComponentItem::Resource(_) => instance.resource(name, ResourceType::host::<Missing>(), |_, _| Ok(())),
        // Types need no definition. The instances of WIT's interfaces have nothing else.
        _ => Ok(()),
    }
}
