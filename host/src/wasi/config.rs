//! The variables that `vars` grants: `wasi:config`, and the interfaces of Spin. Those of `env` are not among them.

use wasmtime::component::{ComponentType, Lift, Lower};

use super::interfaces::{at_once, interfaces};
use super::state::State;
use crate::component_abi::variant;

/// The error of `wasi:config`, which never occurs: the variables are in memory.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum ConfigError {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

variant!(ConfigError { "upstream" => Upstream(String), "io" => Io(String), });

/// The error of Spin's interfaces.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum VariableError {
    #[component(name = "invalid-name")]
    InvalidName(String),
    #[component(name = "undefined")]
    Undefined(String),
    #[component(name = "provider")]
    Provider(String),
    #[component(name = "other")]
    Other(String),
}

variant!(VariableError {
    "invalid-name" => InvalidName(String),
    "undefined" => Undefined(String),
    "provider" => Provider(String),
    "other" => Other(String),
});

/// The versions of `wasi:config`, which have the same functions.
macro_rules! config {
    ($($module:ident = $version:literal;)+) => {$(
        interfaces! { $module = $version, state:
            "wasi:config/store" {
                fn "get"(name: [String]) -> Result<Option<String>, ConfigError> = get(state, &name).map(Ok);
                fn "get-all"() -> Result<Vec<(String, String)>, ConfigError> = all(state).map(Ok);
            }
        }
    )+};
}

config! {
    rc1 = "0.2.0-rc.1";
    draft = "0.2.0-draft-2024-09-27";
}

interfaces! { spin2 = "2.0.0", state:
    "fermyon:spin/variables" {
        fn "get"(name: [String]) -> Result<String, VariableError> = variable(state, name);
    }
}

interfaces! { spin3 = "3.0.0", state:
    "spin:variables/variables" {
        async fn "get"(name: [String]) -> Result<String, VariableError> = variable(state, name).map(at_once);
    }
}

fn get(state: &mut State, name: &str) -> wasmtime::Result<Option<String>> {
    let value = state.vars().get(name).map(|value| value.text().to_owned());
    state.charge(value.as_ref().map_or(0, String::len))?;
    Ok(value)
}

fn all(state: &mut State) -> wasmtime::Result<Vec<(String, String)>> {
    let vars = state.vars().iter().map(|(name, value)| (name.clone(), value.text().to_owned()));
    let vars: Vec<_> = vars.collect();
    state.charge(vars.iter().map(|(name, value)| name.len() + value.len()).sum())?;
    Ok(vars)
}

fn variable(state: &mut State, name: String) -> wasmtime::Result<Result<String, VariableError>> {
    Ok(get(state, &name)?.ok_or(VariableError::Undefined(name)))
}
