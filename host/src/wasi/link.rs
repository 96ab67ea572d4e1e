//! The linkers: one for components and one for directly linked modules, both made from the table [`PACKAGES`].
//!
//! All interfaces are linked, independent of what a route grants, because ordinary guests import interfaces that they do
//! not use. The grants of the route decide what the functions do.

use daylily_core::config::Grants;
use daylily_core::excerpt::Excerpt;
use wasmtime::component::Linker;
use wasmtime::{Engine, Linker as CoreLinker};

use super::state::State;
use super::{Access, PACKAGES, Version, direct};
use crate::component_abi::{self, Function, NEXT_ALLOCATION};
use crate::engine::pool::WasiVersion;

/// The longest part of an import's name that an error message shows.
const MAX_NAME_BYTES: usize = 256;

/// Links all interfaces for components of the WASI version `wasi_version`.
///
/// # Errors
///
/// When a name is defined twice, which does not happen in practice.
pub(crate) fn linker(engine: &Engine, wasi_version: WasiVersion) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    for package in PACKAGES.iter().filter(|package| package.version.is_in(wasi_version)) {
        (package.add_to_linker)(&mut linker)?;
    }
    Ok(linker)
}

/// A linker for directly linked modules, with none of their [`functions`] defined yet.
pub(crate) fn core_linker(engine: &Engine) -> wasmtime::Result<CoreLinker<State>> {
    let mut linker = CoreLinker::new(engine);
    let (module, name) = NEXT_ALLOCATION;
    linker.func_wrap(module, name, component_abi::next_allocation::<State>)?;
    Ok(linker)
}

/// All functions that a directly linked module may import.
pub(crate) fn functions() -> Vec<Function<State>> {
    let of_packages = PACKAGES.iter().flat_map(|package| {
        let functions = (package.functions)();
        functions.into_iter().map(|function| function.of_release(package.version.release()))
    });
    of_packages.chain(direct::p3::built_in()).collect()
}

/// The imports of a component that [`linker`] does not provide, in order.
pub(crate) fn unmet_imports(imports: &[String], wasi_version: WasiVersion) -> Vec<&str> {
    imports.iter().filter(|name| !is_provided(name, wasi_version)).map(String::as_str).collect()
}

/// The imports of a component through which it reaches nothing, because its route grants nothing by the key that each
/// has.
pub(crate) fn not_granted<'a>(imports: &'a [String], grants: &Grants) -> Vec<(&'a str, &'static str)> {
    let key = |import: &str| {
        let interface = import.split_once('@')?.0;
        let package = PACKAGES.iter().find(|package| package.has(interface))?;
        let Access::GrantedBy(key) = package.access else { return None };
        let (_, name) = interface.split_once('/')?;
        (key.reached_through.contains(&name) && (key.grants_nothing)(grants)).then_some(key.name)
    };
    imports.iter().filter_map(|import| Some((import.as_str(), key(import)?))).collect()
}

pub(super) fn is_provided(import: &str, wasi_version: WasiVersion) -> bool {
    let Some((interface, version)) = import.split_once('@') else { return false };
    let mut packages = PACKAGES.iter().filter(|package| package.has(interface));
    packages.any(|package| package.version.is_in(wasi_version) && package.version.provides(version))
}

/// Whether it is provided, and its functions need what WASI 0.3 has.
pub(crate) fn needs_p3(import: &str) -> bool {
    is_provided(import, WasiVersion::P3) && !is_provided(import, WasiVersion::P2)
}

/// An import that is not provided, with a remedy.
pub(crate) fn describe(import: &str) -> String {
    let import = Excerpt::within(import, MAX_NAME_BYTES);
    let import = import.as_str();
    if import.starts_with("wasi:http/handler@") || import.starts_with("wasi:http/incoming-handler@") {
        return format!(
            "{import} (a middleware's next handler; compose the components into one, for example with `wac plug`)"
        );
    }
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let packages = || PACKAGES.iter().filter(|package| package.has(interface));
    let exact = packages().filter_map(|package| match package.version {
        Version::Exact(_, exact) => Some(exact),
        Version::Release(..) => None,
    });
    let exact: Vec<&str> = exact.collect();
    if exact.contains(&version) {
        return format!("{import} (it needs a component of WASI 0.3)");
    }
    if !exact.is_empty() {
        return format!("{import} (this version of daylily provides {interface}@{})", exact.join(" and @"));
    }
    for package in packages() {
        match package.version {
            Version::Release(..) if version.contains('-') => {
                let release = if version.starts_with("0.2.") { "0.2" } else { "0.3" };
                return format!(
                    "{import} (from a draft of WASI {release}; rebuild the component for the released WASI {release})"
                );
            }
            Version::Release(..) | Version::Exact(..) => {}
        }
    }
    if import.starts_with("wasi:") {
        return format!("{import} (this version of daylily does not provide it, and no configuration key grants it)");
    }
    format!("{import} (not a WASI interface; compose the component with one that exports it)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pool::{KINDS, PoolKind, StackDetail, compiler};

    #[test]
    fn tells_what_is_provided() {
        for (import, p2, p3) in [
            ("wasi:cli/environment@0.2.0", true, true),
            ("wasi:http/types@0.2.12", true, true),
            ("wasi:http/types@0.3.0", false, true),
            ("wasi:http/client@0.3.1", false, true),
            ("wasi:http/handler@0.3.0", false, true),
            ("wasi:http/handler@0.3.0-rc-2026-03-15", false, false),
            ("wasi:keyvalue/store@0.2.0-draft", true, true),
            ("wasi:keyvalue/batch@0.2.0-draft2", true, true),
            ("wasi:keyvalue/store@0.2.0-draft3", false, false),
            ("fermyon:spin/key-value@2.0.0", true, true),
            ("fermyon:spin/key-value@1.0.0", false, false),
            ("wasi:blobstore/blobstore@0.2.0-draft", false, false),
            ("wasi:random/random@0.3.0-rc-2026-03-15", false, false),
            ("wasi:cli/environment@0.2.0-rc-2023-12-05", false, false),
            ("wasi:config/store@0.2.0-rc.1", true, true),
            ("wasi:config/store@0.2.0-draft-2024-09-27", true, true),
            ("fermyon:spin/variables@2.0.0", true, true),
            ("spin:variables/variables@3.0.0", false, true),
            ("spin:key-value/key-value@3.0.0", false, true),
            ("spin:key-value/key-value@3.0.1", false, false),
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
            ("wasi:config/store@0.2.0", "provides wasi:config/store@0.2.0-rc.1 and @0.2.0-draft-2024-09-27"),
            ("spin:variables/variables@3.0.0", "needs a component of WASI 0.3"),
            ("wasi:logging/logging@0.1.0", "provides wasi:logging/logging@0.1.0-draft"),
            ("wasi:logging/logging", "provides wasi:logging/logging@0.1.0-draft"),
            ("wasi:keyvalue/store@0.2.0-draft3", "provides wasi:keyvalue/store@0.2.0-draft2"),
            ("wasi:blobstore/blobstore@0.2.0-draft", "no configuration key grants it"),
            ("wasi:http/handler@0.3.0", "compose the components into one"),
            ("example:missing/thing@0.2.0", "compose the component with one that exports it"),
        ] {
            let description = describe(import);
            assert!(description.starts_with(import) && description.contains(said), "{description}");
        }
    }

    #[test]
    fn the_linker_has_every_package() {
        for wasi_version in [WasiVersion::P2, WasiVersion::P3] {
            let engine = compiler(PoolKind { wasi_version, ..KINDS[0] }, StackDetail::Names).expect("an engine");
            let mut linker = linker(&engine, wasi_version).expect("a linker");
            for package in PACKAGES.iter().filter(|package| package.version.is_in(wasi_version)) {
                let again = (package.add_to_linker)(&mut linker).expect_err(package.name).to_string();
                assert!(again.contains("defined twice"), "{}: {again}", package.name);
            }
        }
    }

    /// A function that a directly linked module may import is one of the package's interfaces, and components have it,
    /// too, under the exact version of the table.
    #[test]
    fn components_have_the_functions_of_directly_linked_modules() {
        let wasi_version = WasiVersion::P3;
        let engine = compiler(PoolKind { wasi_version, ..KINDS[0] }, StackDetail::Names).expect("an engine");
        let mut linker = linker(&engine, wasi_version).expect("a linker");
        for package in PACKAGES {
            let (Version::Release(_, version) | Version::Exact(_, version)) = package.version;
            for function in (package.functions)() {
                let (module, name) = function.import();
                let (interface, _) = module.split_once('@').expect("a version");
                assert!(package.has(interface), "{interface} is not listed in {}", package.name);
                assert!(is_provided(&format!("{interface}@{version}"), wasi_version), "{interface}@{version}");
                if name.starts_with("[resource-drop]") || name.starts_with("[async-lower]") {
                    continue;
                }
                let mut instance = linker.instance(&format!("{interface}@{version}")).expect("an instance");
                let again = instance.func_new(&name, |_, _, _, _| Ok(())).expect_err(&name).to_string();
                assert!(again.contains("defined twice"), "{interface} {name}: {again}");
            }
        }
    }

    /// The table of docs/guests.md has a row for each package: its name, its versions and what it provides.
    #[test]
    fn the_documentation_lists_every_package() {
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guests.md");
        let guide = std::fs::read_to_string(guide).expect("the guide");
        let rows: Vec<Vec<&str>> = guide
            .lines()
            .skip_while(|line| *line != "## What a guest may import")
            .skip_while(|line| !line.starts_with("| `"))
            .take_while(|line| line.starts_with("| `"))
            .map(|line| line.split(" | ").collect())
            .collect();
        let mut documented = 0;
        for package in PACKAGES {
            // Of a whole package, or of its interface.
            let of = |row: &&Vec<&str>| {
                let name = row[0].trim_start_matches("| `").trim_end_matches('`');
                name == package.name || package.has(name)
            };
            let row = rows.iter().find(of).unwrap_or_else(|| panic!("no row for {}", package.name));
            let [_, versions, provides] = row[..] else { panic!("{row:?} has no three columns") };
            let version = package.version.release();
            assert!(versions.split(", ").any(|known| known == version), "no {version} of {}", package.name);
            let says = match package.access {
                Access::Always => String::new(),
                Access::GrantedBy(key) => format!("`{}`", key.name),
                Access::Never => "no access".to_owned(),
            };
            assert!(provides.contains(&says), "the row of {} does not say {says}", package.name);
            documented += 1;
        }
        let listed: usize = rows.iter().map(|row| row[1].split(", ").count()).sum();
        assert_eq!(listed, documented, "rows of packages that are not provided");
    }
}
