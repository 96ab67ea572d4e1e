//! The interfaces that guests may import.

mod config;
pub(crate) mod direct;
pub(crate) mod files;
pub(crate) mod host_memory;
pub(crate) mod http;
pub(crate) mod link;
mod logging;
pub(crate) mod output;
pub(crate) mod settings;
pub(crate) mod state;

use wasmtime::component::Linker;

use self::state::State;
use crate::component_abi::Function;

/// The interfaces that each are a module of their own. To add one, write its module and add a line here.
const INTERFACES: &[HostInterface] = &[config::INTERFACE, logging::INTERFACE];

/// A host interface: a draft, which is compatible with no other version.
struct HostInterface {
    /// The name without the version: `wasi:logging/logging`.
    name: &'static str,
    /// The only version that is provided.
    version: &'static str,
    /// Adds its functions to the linker of components.
    add_to_linker: fn(&mut Linker<State>) -> wasmtime::Result<()>,
    /// Its functions for directly linked modules. If there are none, a guest that imports it is linked as a component.
    functions: fn() -> Vec<Function<State>>,
}

impl HostInterface {
    /// The name under which components import it.
    fn import(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    fn is(&self, import: &str) -> bool {
        import.split_once('@') == Some((self.name, self.version))
    }
}
