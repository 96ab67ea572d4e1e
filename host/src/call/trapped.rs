//! From wasmtime's errors to the outcome of a call, with messages of a bounded length.

use std::fmt::{self, Write};

use daylily_core::diagnosis::{Frame, Stack};
use daylily_core::excerpt::Excerpt;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::call::store::CpuTimeUsedUp;
use crate::engine::call_outcome::CallOutcome;
use crate::engine::pool::StackDetail;
use crate::engine::pool::slots::SlotsInUse;
use crate::wasi::state::State;

/// Functions of a stack that a message contains.
const SHOWN_FUNCTIONS: usize = 5;

/// Bytes of the name of each. The length of a function's name is not limited otherwise, and demangling can make it a
/// thousand times as long.
const MAX_FUNCTION_BYTES: usize = 96;

/// Bytes of the error's own message, so that the whole description of a trap fits into one [`Excerpt`].
const MAX_MESSAGE_BYTES: usize = 256;

/// An error of wasmtime's, and the step that failed.
pub(crate) enum Failure {
    Instantiating(wasmtime::Error),
    Running(wasmtime::Error),
}

impl Failure {
    pub(crate) fn into_outcome(self, state: &State) -> CallOutcome {
        let (error, instantiating) = match self {
            Self::Instantiating(error) => (error, true),
            Self::Running(error) => (error, false),
        };
        let backtrace = error.downcast_ref::<WasmBacktrace>();
        if let (Some(backtrace), Some(diagnosis)) = (backtrace, state.diagnosis()) {
            let frames = functions(backtrace).map(|function| Frame::new(&function, function.place.as_ref()));
            diagnosis.set_stack(Stack::of(frames, StackDetail::of(diagnosis.is_dev()).max_functions()));
        }
        if error.is::<CpuTimeUsedUp>() {
            return CallOutcome::CpuTime(state.limits().cpu_time);
        }
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return CallOutcome::Exit(*code);
        }
        let mut detail = String::from(Excerpt::display_within(error.root_cause(), MAX_MESSAGE_BYTES));
        let no_more_instances = detail.contains("instance count too high");
        let mut add = |part: fmt::Arguments<'_>| {
            // Writing to a string does not fail.
            let _ = detail.write_fmt(part);
        };
        if let Some(frames) = backtrace.and_then(|backtrace| innermost(functions(backtrace))) {
            add(format_args!("; in {frames}"));
        }
        if let Some(refused) = state.refused() {
            add(format_args!("; {refused}"));
        }
        if no_more_instances {
            add(format_args!("; raise max_instances = {}", state.limits().max_instances));
        }
        let no_room = error.is::<PoolConcurrencyLimitError>() || error.is::<SlotsInUse>();
        let no_fault_of_the_guest = no_room || instantiating && !error.is::<Trap>();
        let detail = Excerpt::from(detail);
        if no_fault_of_the_guest { CallOutcome::NoInstance(detail) } else { CallOutcome::Trap(detail) }
    }
}

/// The innermost functions, innermost first, without those that Rust's standard library calls when a guest panics.
fn innermost<'a>(functions: impl Iterator<Item = Function<'a>>) -> Option<String> {
    let functions: Vec<Function<'_>> = functions.collect();
    // The standard library ends that part of the stack with a function of this name, for its own short backtraces.
    // (Names that are not demangled contain these parts, too.)
    let end = functions.iter().position(|function| function.is_named(&["__rust_end_short_backtrace"]));
    let rest = functions.get(end.map_or(0, |end| end + 1)..).unwrap_or_default().iter();
    let rest =
        rest.skip_while(|function| end.is_some() && function.is_named(&["rust_begin_unwind", "4core9panicking"]));
    let shown = rest.map(|function| String::from(Excerpt::display_within(function, MAX_FUNCTION_BYTES)));
    let shown: Vec<String> = shown.take(SHOWN_FUNCTIONS).collect();
    (!shown.is_empty()).then(|| shown.join(" < "))
}

/// The functions of a backtrace, innermost first: those that are compiled into another one, too, if that is known.
fn functions(backtrace: &WasmBacktrace) -> impl Iterator<Item = Function<'_>> {
    backtrace.frames().iter().flat_map(|frame| {
        let module = frame.module().name();
        let symbols = frame.symbols();
        let known = symbols.iter().enumerate().map(move |(at, symbol)| Function {
            module,
            // The last one is that of the frame itself, whose own name is more complete.
            name: frame.func_name().filter(|_| at + 1 == symbols.len()).or_else(|| symbol.name()),
            index: frame.func_index(),
            place: symbol.file().map(|file| Place { file, line: symbol.line(), column: symbol.column() }),
        });
        let unknown = symbols.is_empty().then(|| Function {
            module,
            name: frame.func_name(),
            index: frame.func_index(),
            place: None,
        });
        known.chain(unknown)
    })
}

/// A function in a stack, displayed as `module!function`.
struct Function<'a> {
    module: Option<&'a str>,
    name: Option<&'a str>,
    index: u32,
    place: Option<Place<'a>>,
}

/// Where in a source file a function is.
struct Place<'a> {
    file: &'a str,
    line: Option<u32>,
    column: Option<u32>,
}

impl Function<'_> {
    /// Whether its name contains one of these.
    fn is_named(&self, parts: &[&str]) -> bool {
        self.name.is_some_and(|name| parts.iter().any(|part| name.contains(part)))
    }
}

impl fmt::Display for Function<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}!", self.module.unwrap_or("<unknown>"))?;
        let Some(name) = self.name else { return write!(f, "<wasm function {}>", self.index) };
        if let Ok(rust) = rustc_demangle::try_demangle(name) {
            // Without the hash that makes it unique.
            return write!(f, "{rust:#}");
        }
        match cpp_demangle::Symbol::new(name) {
            // Written in pieces, so that it ends where there is no room for more.
            Ok(cpp) => cpp.structured_demangle(f, &cpp_demangle::DemangleOptions::default()).map_err(|_| fmt::Error),
            Err(_) => f.write_str(name),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file)?;
        for number in [self.line, self.column].into_iter().map_while(|number| number) {
            write!(f, ":{number}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_functions_are_cut() {
        fn check(names: &[&str], expected: Option<&str>) {
            let function = |name| Function { module: Some("m"), name: Some(name), index: 0, place: None };
            assert_eq!(innermost(names.iter().copied().map(function)).as_deref(), expected);
        }
        check(&[], None);
        check(&["inner", "outer"], Some("m!inner < m!outer"));
        check(&["1", "2", "3", "4", "5", "6"], Some("m!1 < m!2 < m!3 < m!4 < m!5"));
        // The functions of a panic are left out, up to the one that ends a short backtrace and those that call it.
        let panic = ["abort", "_ZN3std3sys9backtrace26__rust_end_short_backtrace17h0123456789abcdefE"];
        let begin = ["_RNvCs4fqI2P2rA04_7___rustc17rust_begin_unwind", "_RNvNtCs4fqI2P2rA04_4core9panicking9panic_fmt"];
        let panic = [panic, begin].concat();
        check(&[&panic[..], &["inner", "outer"]].concat(), Some("m!inner < m!outer"));
        check(
            &[&["abort"], &panic[2..]].concat(),
            Some("m!abort < m!__rustc::rust_begin_unwind < m!core::panicking::panic_fmt"),
        );
        let outer = "_ZN3std9panicking12catch_unwind17h0123456789abcdefE";
        check(&["inner", outer], Some("m!inner < m!std::panicking::catch_unwind"));
        let long = "n".repeat(450_000);
        let cut = format!("m!{}… (the rest left out) < m!outer", "n".repeat(MAX_FUNCTION_BYTES - 2));
        check(&[&long, "outer"], Some(&cut));
        // A line end in a name does not start a line, and control characters are escaped.
        check(&["a\n2026 ERROR forged\u{1b}[0m"], Some("m!a\\n2026 ERROR forged\\u{1b}[0m"));
    }

    #[test]
    fn names_are_demangled() {
        fn check(module: Option<&str>, name: Option<&str>, expected: &str) {
            assert_eq!(Function { module, name, index: 7, place: None }.to_string(), expected);
        }
        check(None, None, "<unknown>!<wasm function 7>");
        check(Some("m"), Some("plain"), "m!plain");
        check(Some("m"), Some("_ZN4cart5inner17h0123456789abcdefE"), "m!cart::inner");
        check(Some("m"), Some("_RNvCs4fqI2P2rA04_4cart5inner"), "m!cart::inner");
        check(Some("m"), Some("_ZN4cart5innerEi"), "m!cart::inner(int)");
    }
}
