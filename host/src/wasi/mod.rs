//! The interfaces that guests may import: the table [`PACKAGES`], and the functions of each.

mod config;
pub(crate) mod direct;
mod error_codes;
pub(crate) mod file_threads;
mod files;
mod from_wasmtime;
pub(crate) mod host_memory;
pub(crate) mod http;
pub(crate) mod keyvalue;
pub(crate) mod link;
mod logging;
pub(crate) mod output;
pub(crate) mod settings;
pub(crate) mod state;

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
        access: Access::GrantedBy("env"),
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
        access: Access::GrantedBy("dirs"),
        add_to_linker: files::p2::add_to_linker,
        functions: Vec::new,
    },
    Package {
        name: "wasi:http",
        version: P2,
        interfaces: &["outgoing-handler", "types"],
        access: Access::GrantedBy("allow_http"),
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
        access: Access::GrantedBy("env"),
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
        access: Access::GrantedBy("dirs"),
        add_to_linker: files::p3::add_to_linker,
        functions: Vec::new,
    },
    Package {
        name: "wasi:http",
        version: P3,
        interfaces: &["client", "types"],
        access: Access::GrantedBy("allow_http"),
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
        version: Version::Draft("0.2.0-rc.1"),
        interfaces: &["store"],
        access: Access::GrantedBy("vars"),
        add_to_linker: config::add_to_linker,
        functions: Vec::new,
    },
    Package {
        name: "wasi:keyvalue",
        version: Version::Draft(keyvalue::draft2::VERSION),
        interfaces: &["atomics", "batch", "store"],
        access: Access::GrantedBy("stores"),
        add_to_linker: keyvalue::draft2::add_to_linker,
        functions: keyvalue::draft2::functions,
    },
    Package {
        name: "wasi:keyvalue",
        version: Version::Draft(keyvalue::draft::VERSION),
        interfaces: &["atomics", "batch", "store"],
        access: Access::GrantedBy("stores"),
        add_to_linker: keyvalue::draft::add_to_linker,
        functions: keyvalue::draft::functions,
    },
    Package {
        name: "fermyon:spin",
        version: Version::Draft(keyvalue::spin::VERSION),
        interfaces: &["key-value"],
        access: Access::GrantedBy("stores"),
        add_to_linker: keyvalue::spin::add_to_linker,
        functions: keyvalue::spin::functions,
    },
    Package {
        name: "wasi:logging",
        version: Version::Draft("0.1.0-draft"),
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
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers; a test compares it with docs/guests.md"))]
    access: Access,
    /// Adds the functions to the linker of components.
    add_to_linker: fn(&mut Linker<State>) -> wasmtime::Result<()>,
    /// The functions for directly linked modules. A guest that imports a function that is not among them is linked as a
    /// component.
    functions: fn() -> Vec<Function<State>>,
}

/// Who may use what a package gives access to. All guests may import it.
#[cfg_attr(not(test), expect(dead_code, reason = "for readers; a test compares it with docs/guests.md"))]
enum Access {
    /// All guests.
    Always,
    /// The guests of a route whose configuration has this key.
    GrantedBy(&'static str),
    /// No guest: every call fails.
    Never,
}

#[derive(Clone, Copy)]
enum Version {
    /// A version of a WASI release, with which guests of all its patch versions are compatible.
    Release(WasiVersion, &'static str),
    /// A version with which only guests of the same version are compatible.
    Draft(&'static str),
}

impl Version {
    /// The release, as in the names that core modules import; the version of a draft.
    fn release(self) -> &'static str {
        match self {
            Self::Release(_, version) => version.rsplit_once('.').map_or(version, |(release, _patch)| release),
            Self::Draft(version) => version,
        }
    }

    /// Whether it is this one, or compatible with it.
    fn provides(self, version: &str) -> bool {
        match self {
            Self::Release(..) => {
                let patch = version.strip_prefix(self.release()).and_then(|rest| rest.strip_prefix('.'));
                patch.is_some_and(|patch| !patch.contains('-'))
            }
            Self::Draft(provided) => provided == version,
        }
    }

    /// Whether components of this WASI version may import it: those of P3 may also import packages of P2.
    fn is_in(self, wasi_version: WasiVersion) -> bool {
        match self {
            Self::Release(WasiVersion::P3, _) => wasi_version == WasiVersion::P3,
            Self::Release(WasiVersion::P2, _) | Self::Draft(_) => true,
        }
    }
}

impl Package {
    fn has(&self, interface: &str) -> bool {
        let name = interface.strip_prefix(self.name).and_then(|rest| rest.strip_prefix('/'));
        name.is_some_and(|name| self.interfaces.contains(&name))
    }
}
