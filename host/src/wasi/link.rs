//! The linkers: every interface that guests may import, independent of what a route grants.
//!
//! All of `wasi:cli`, clocks, random, io, filesystem and sockets is linked, because ordinary guests import interfaces
//! that they do not use. The grants of the route decide what the functions do.

use daylily_core::excerpt::Excerpt;
use wasmtime::Engine;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::p2::bindings::io;

use super::INTERFACES;
use super::files;
use super::http::{p2, p3};
use crate::engine::pool::WasiVersion;
use crate::wasi::state::State;

/// The 0.2 interfaces that [`linker`] provides, without their version.
const PROVIDED_P2: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// The 0.3 interfaces that [`linker`] provides to 0.3 components, beside the 0.2 ones.
const PROVIDED_P3: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/types",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/system-clock",
    "wasi:clocks/types",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/client",
    "wasi:http/types",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/types",
];

/// The longest part of an import's name that an error message shows.
const MAX_NAME_BYTES: usize = 256;

/// Links all interfaces for components of the WASI version `wasi_version`.
///
/// # Errors
///
/// When a name is defined twice, which does not happen in practice.
pub(crate) fn linker(engine: &Engine, wasi_version: WasiVersion) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    for interface in INTERFACES {
        (interface.add_to_linker)(&mut linker)?;
    }
    if wasi_version == WasiVersion::P3 {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    linker.allow_shadowing(true);
    add_io(&mut linker)?;
    files::amend(&mut linker, wasi_version)?;
    p2::amend(&mut linker)?;
    if wasi_version == WasiVersion::P3 {
        p3::amend(&mut linker)?;
    }
    linker.allow_shadowing(false);
    Ok(linker)
}

/// Links `wasi:io` with only the resource table as its state. The implementation in wasmtime-wasi needs the whole WASI
/// context, which a store creates only when a guest uses it, while every 0.2 response is written through a stream.
fn add_io(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<State, Table>(linker, State::table)?;
    io::poll::add_to_linker::<State, Table>(linker, State::table)?;
    io::streams::add_to_linker::<State, Table>(linker, State::table)
}

/// The marker type for which `wasi:io` is added to the linker.
struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// The imports of a component that [`linker`] does not provide, in order, each with a remedy.
pub(crate) fn unmet_imports(imports: &[String], wasi_version: WasiVersion) -> Vec<String> {
    imports.iter().filter(|name| !is_provided(name, wasi_version)).map(|name| describe(name)).collect()
}

fn is_provided(import: &str, wasi_version: WasiVersion) -> bool {
    let Some((interface, version)) = import.split_once('@') else { return false };
    if version.contains('-') {
        // A draft is compatible with no other version.
        return INTERFACES.iter().any(|provided| provided.is(import));
    }
    let p2 = version.starts_with("0.2.") && PROVIDED_P2.contains(&interface);
    let p3 = wasi_version == WasiVersion::P3 && version.starts_with("0.3.") && PROVIDED_P3.contains(&interface);
    p2 || p3
}

fn describe(import: &str) -> String {
    let import = Excerpt::within(import, MAX_NAME_BYTES);
    let import = import.as_str();
    if import.starts_with("wasi:http/handler@") || import.starts_with("wasi:http/incoming-handler@") {
        return format!(
            "{import} (a middleware's next handler; compose the components into one, for example with `wac plug`)"
        );
    }
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    if let Some(provided) = INTERFACES.iter().find(|provided| provided.name == interface) {
        return format!("{import} (this version of daylily provides {})", provided.import());
    }
    let release = if version.starts_with("0.2.") { "0.2" } else { "0.3" };
    if version.contains('-') && [PROVIDED_P2, PROVIDED_P3].iter().any(|provided| provided.contains(&interface)) {
        return format!(
            "{import} (from a draft of WASI {release}; rebuild the component for the released WASI {release})"
        );
    }
    if import.starts_with("wasi:") {
        return format!("{import} (this version of daylily does not provide it, and no configuration key grants it)");
    }
    format!("{import} (not a WASI interface; compose the component with one that exports it)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_is_provided() {
        for (import, p2, p3) in [
            ("wasi:cli/environment@0.2.0", true, true),
            ("wasi:http/types@0.2.12", true, true),
            ("wasi:http/types@0.3.0", false, true),
            ("wasi:http/client@0.3.1", false, true),
            ("wasi:http/handler@0.3.0", false, false),
            ("wasi:keyvalue/store@0.2.0-draft", false, false),
            ("wasi:random/random@0.3.0-rc-2026-03-15", false, false),
            ("wasi:cli/environment@0.2.0-rc-2023-12-05", false, false),
            ("wasi:config/store@0.2.0-rc.1", true, true),
            ("wasi:config/store@0.2.0-draft-2024-09-27", false, false),
            ("wasi:config/store@0.2.0", false, false),
            ("wasi:logging/logging@0.1.0-draft", true, true),
            ("wasi:logging/logging@0.1.0", false, false),
            ("wasi:logging/logging@0.1.0-draft2", false, false),
            ("wasi:logging/logging", false, false),
            ("wasi:cli/environment", false, false),
            ("example:missing/thing@0.2.0", false, false),
        ] {
            assert_eq!(is_provided(import, WasiVersion::P2), p2, "{import} for 0.2");
            assert_eq!(is_provided(import, WasiVersion::P3), p3, "{import} for 0.3");
        }
    }

    #[test]
    fn says_what_could_be_done() {
        for (import, said) in [
            ("wasi:random/random@0.3.0-rc-2025-09-16", "rebuild the component for the released WASI 0.3"),
            ("wasi:cli/environment@0.2.0-rc-2023-12-05", "rebuild the component for the released WASI 0.2"),
            ("wasi:config/store@0.2.0-draft-2024-09-27", "provides wasi:config/store@0.2.0-rc.1"),
            ("wasi:logging/logging@0.1.0", "provides wasi:logging/logging@0.1.0-draft"),
            ("wasi:logging/logging", "provides wasi:logging/logging@0.1.0-draft"),
            ("wasi:keyvalue/store@0.2.0-draft", "no configuration key grants it"),
            ("wasi:http/handler@0.3.0", "compose the components into one"),
            ("example:missing/thing@0.2.0", "compose the component with one that exports it"),
        ] {
            let description = describe(import);
            assert!(description.starts_with(import) && description.contains(said), "{description}");
        }
    }
}
