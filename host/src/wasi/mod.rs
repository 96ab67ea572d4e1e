//! The interfaces that guests may import: the table [`PACKAGES`], and the functions of each.

mod config;
pub(crate) mod direct;
mod error_codes;
pub(crate) mod file_threads;
mod files;
mod from_wasmtime;
pub(crate) mod host_memory;
pub(crate) mod http;
mod interfaces;
pub(crate) mod keyvalue;
pub(crate) mod link;
mod logging;
pub(crate) mod missing;
pub(crate) mod output;
pub(crate) mod settings;
pub(crate) mod state;

use daylily_core::config::Grants;
use wasmtime::component::Linker;

use self::state::State;
use crate::component_abi::Function;
use crate::engine::pool::WasiVersion;

/// Everything that guests may import. To add an interface, write its module and add a row here.
const PACKAGES: &[Package] = &[
    Package {
        name: "wasi:cli",
        version: P2,
        interfaces: &[
            "environment",
            "exit",
            "stderr",
            "stdin",
            "stdout",
            "terminal-input",
            "terminal-output",
            "terminal-stderr",
            "terminal-stdin",
            "terminal-stdout",
        ],
        access: Access::GrantedBy(&ENV),
        add_to_linker: from_wasmtime::cli_p2,
        functions: direct::wasi::cli,
    },
    Package {
        name: "wasi:clocks",
        version: P2,
        interfaces: &["monotonic-clock", "wall-clock"],
        access: Access::Always,
        add_to_linker: from_wasmtime::clocks_p2,
        functions: direct::wasi::clocks,
    },
    Package {
        name: "wasi:filesystem",
        version: P2,
        interfaces: &["preopens", "types"],
        access: Access::GrantedBy(&DIRS),
        add_to_linker: files::p2::add_to_linker,
        functions: Vec::new,
    },
    Package {
        name: "wasi:http",
        version: P2,
        interfaces: &["outgoing-handler", "types"],
        access: Access::GrantedBy(&ALLOW_HTTP),
        add_to_linker: http::add_to_linker_p2,
        functions: direct::http_p2,
    },
    Package {
        name: "wasi:io",
        version: P2,
        interfaces: &["error", "poll", "streams"],
        access: Access::Always,
        add_to_linker: from_wasmtime::io_p2,
        functions: direct::io::functions,
    },
    Package {
        name: "wasi:random",
        version: P2,
        interfaces: &["insecure", "insecure-seed", "random"],
        access: Access::Always,
        add_to_linker: from_wasmtime::random_p2,
        functions: direct::wasi::random,
    },
    Package {
        name: "wasi:sockets",
        version: P2,
        interfaces: &[
            "instance-network",
            "ip-name-lookup",
            "network",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
        access: Access::Never,
        add_to_linker: from_wasmtime::sockets_p2,
        functions: Vec::new,
    },
    Package {
        name: "wasi:cli",
        version: P3,
        interfaces: &[
            "environment",
            "exit",
            "stderr",
            "stdin",
            "stdout",
            "terminal-input",
            "terminal-output",
            "terminal-stderr",
            "terminal-stdin",
            "terminal-stdout",
            "types",
        ],
        access: Access::GrantedBy(&ENV),
        add_to_linker: wasmtime_wasi::p3::cli::add_to_linker,
        functions: direct::p3::wasi::cli,
    },
    Package {
        name: "wasi:clocks",
        version: P3,
        interfaces: &["monotonic-clock", "system-clock", "types"],
        access: Access::Always,
        add_to_linker: wasmtime_wasi::p3::clocks::add_to_linker,
        functions: direct::p3::wasi::clocks,
    },
    Package {
        name: "wasi:filesystem",
        version: P3,
        interfaces: &["preopens", "types"],
        access: Access::GrantedBy(&DIRS),
        add_to_linker: files::p3::add_to_linker,
        functions: Vec::new,
    },
    Package {
        name: "wasi:http",
        version: P3,
        interfaces: &["client", "handler", "types"],
        access: Access::GrantedBy(&ALLOW_HTTP),
        add_to_linker: http::add_to_linker_p3,
        functions: direct::p3::http,
    },
    Package {
        name: "wasi:random",
        version: P3,
        interfaces: &["insecure", "insecure-seed", "random"],
        access: Access::Always,
        add_to_linker: wasmtime_wasi::p3::random::add_to_linker,
        functions: direct::p3::wasi::random,
    },
    Package {
        name: "wasi:sockets",
        version: P3,
        interfaces: &["ip-name-lookup", "types"],
        access: Access::Never,
        add_to_linker: wasmtime_wasi::p3::sockets::add_to_linker,
        functions: Vec::new,
    },
    Package {
        name: "wasi:config",
        version: Version::Exact(WasiVersion::P2, config::rc1::VERSION),
        interfaces: &["store"],
        access: Access::GrantedBy(&VARS),
        add_to_linker: config::rc1::add_to_linker,
        functions: config::rc1::functions,
    },
    Package {
        name: "wasi:config",
        version: Version::Exact(WasiVersion::P2, config::draft::VERSION),
        interfaces: &["store"],
        access: Access::GrantedBy(&VARS),
        add_to_linker: config::draft::add_to_linker,
        functions: config::draft::functions,
    },
    Package {
        name: "wasi:keyvalue",
        version: Version::Exact(WasiVersion::P2, keyvalue::draft2::VERSION),
        interfaces: &["atomics", "batch", "store"],
        access: Access::GrantedBy(&STORES),
        add_to_linker: keyvalue::draft2::add_to_linker,
        functions: keyvalue::draft2::functions,
    },
    Package {
        name: "wasi:keyvalue",
        version: Version::Exact(WasiVersion::P2, keyvalue::draft::VERSION),
        interfaces: &["atomics", "batch", "store"],
        access: Access::GrantedBy(&STORES),
        add_to_linker: keyvalue::draft::add_to_linker,
        functions: keyvalue::draft::functions,
    },
    Package {
        name: "fermyon:spin",
        version: Version::Exact(WasiVersion::P2, keyvalue::spin2::VERSION),
        interfaces: &["key-value"],
        access: Access::GrantedBy(&STORES),
        add_to_linker: keyvalue::spin2::add_to_linker,
        functions: keyvalue::spin2::functions,
    },
    Package {
        name: "fermyon:spin",
        version: Version::Exact(WasiVersion::P2, config::spin2::VERSION),
        interfaces: &["variables"],
        access: Access::GrantedBy(&VARS),
        add_to_linker: config::spin2::add_to_linker,
        functions: config::spin2::functions,
    },
    Package {
        name: "spin:key-value",
        version: Version::Exact(WasiVersion::P3, keyvalue::spin3::VERSION),
        interfaces: &["key-value"],
        access: Access::GrantedBy(&STORES),
        add_to_linker: keyvalue::spin3::add_to_linker,
        functions: keyvalue::spin3::functions,
    },
    Package {
        name: "spin:variables",
        version: Version::Exact(WasiVersion::P3, config::spin3::VERSION),
        interfaces: &["variables"],
        access: Access::GrantedBy(&VARS),
        add_to_linker: config::spin3::add_to_linker,
        functions: config::spin3::functions,
    },
    Package {
        name: "wasi:logging",
        version: Version::Exact(WasiVersion::P2, "0.1.0-draft"),
        interfaces: &["logging"],
        access: Access::Always,
        add_to_linker: logging::add_to_linker,
        functions: logging::functions,
    },
];

/// The versions of wasmtime-wasi and wasmtime-wasi-http.
const P2: Version = Version::Release(WasiVersion::P2, "0.2.12");
const P3: Version = Version::Release(WasiVersion::P3, "0.3.0");

/// A WIT package: some of its interfaces, in one version.
struct Package {
    name: &'static str,
    version: Version,
    /// Those of its interfaces that are provided.
    interfaces: &'static [&'static str],
    access: Access,
    /// Adds the functions to the linker of components.
    add_to_linker: fn(&mut Linker<State>) -> wasmtime::Result<()>,
    /// The functions for directly linked modules. A guest that imports a function that is not among them is linked as a
    /// component.
    functions: fn() -> Vec<Function<State>>,
}

/// Who may use what a package gives access to. All guests may import it.
enum Access {
    /// All guests.
    Always,
    /// The guests of a route whose configuration has a key.
    GrantedBy(&'static Key),
    /// No guest: every call fails.
    Never,
}

/// A key of the configuration that grants something.
struct Key {
    name: &'static str,
    grants_nothing: fn(&Grants) -> bool,
    /// The interfaces through which guests reach what it grants; others have only types, or belong to the same package.
    reached_through: &'static [&'static str],
}

const ENV: Key = Key {
    name: "env",
    grants_nothing: |grants| grants.env.is_empty() && grants.env_file.is_none(),
    reached_through: &["environment"],
};
const DIRS: Key = Key { name: "dirs", grants_nothing: |grants| grants.dirs.is_empty(), reached_through: &["preopens"] };
const ALLOW_HTTP: Key = Key {
    name: "allow_http",
    grants_nothing: |grants| grants.allow_http.is_empty(),
    reached_through: &["outgoing-handler", "client"],
};
const VARS: Key =
    Key { name: "vars", grants_nothing: |grants| grants.vars.is_empty(), reached_through: &["store", "variables"] };
const STORES: Key =
    Key { name: "stores", grants_nothing: |grants| grants.stores.is_empty(), reached_through: &["store", "key-value"] };

#[derive(Clone, Copy)]
enum Version {
    /// A version of a WASI release, with which guests of all its patch versions are compatible.
    Release(WasiVersion, &'static str),
    /// A version with which only guests of the same version are compatible. Its functions need what this version of WASI
    /// has.
    Exact(WasiVersion, &'static str),
}

impl Version {
    /// The release, as in the names that core modules import; an exact version as a whole.
    fn release(self) -> &'static str {
        match self {
            Self::Release(_, version) => version.rsplit_once('.').map_or(version, |(release, _patch)| release),
            Self::Exact(_, version) => version,
        }
    }

    /// Whether it is this one, or compatible with it.
    fn provides(self, version: &str) -> bool {
        match self {
            Self::Release(..) => {
                let patch = version.strip_prefix(self.release()).and_then(|rest| rest.strip_prefix('.'));
                patch.is_some_and(|patch| !patch.contains('-'))
            }
            Self::Exact(_, provided) => provided == version,
        }
    }

    /// Whether components of this WASI version may import it: those of P3 may also import packages of P2.
    fn is_in(self, wasi_version: WasiVersion) -> bool {
        let (Self::Release(needed, _) | Self::Exact(needed, _)) = self;
        needed == WasiVersion::P2 || wasi_version == WasiVersion::P3
    }
}

impl Package {
    fn has(&self, interface: &str) -> bool {
        let name = interface.strip_prefix(self.name).and_then(|rest| rest.strip_prefix('/'));
        name.is_some_and(|name| self.interfaces.contains(&name))
    }
}
