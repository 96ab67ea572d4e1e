//! The scenarios of the samples of output: what is served, which commands run first, and which output is shown.

/// Which output a sample shows.
pub(super) enum Shows {
    /// The sample's commands, which begin with `$ `, and their output. A command that serves keeps running.
    Commands,
    /// What the server prints at its start.
    Start,
    /// The log lines that contain one of these texts.
    Log(&'static [&'static str]),
}

pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// The parts of `daylily.toml`; no file if empty.
    pub(super) config: &'static [&'static str],
    /// Arguments of a server that is started first; if None, the commands may start one.
    pub(super) serves: Option<&'static str>,
    /// Commands that run before the output is taken and are not shown.
    pub(super) before: &'static [&'static str],
    pub(super) shows: Shows,
    /// Whether counts and sizes differ from run to run.
    pub(super) masks_numbers: bool,
}

const LIMITS: &str = "[defaults]\ncpu_time = \"100ms\"\nmax_body = \"1kB\"\n\n";

const GREET: &str = "[[route]]\ncomponent = \"target/wasm32-wasip2/release/greet.wasm\"\n";

const GREET_MAY_FETCH: &str = "[[route]]\ncomponent = \"target/wasm32-wasip2/release/greet.wasm\"\n\
    allow_http = [\"http://localhost:3000\"]\n";

const FRENCH: &str = "\n[[route]]\npath = \"/fr/*\"\ncomponent = \"target/wasm32-wasip2/release/greet.wasm\"\n\
    env = { GREETING = \"Bonjour\" }\n";

const PATIENT: &str = "[server]\nshutdown_timeout = \"60s\"\n[defaults]\ncpu_time = \"60s\"\nwall_time = \"60s\"\n\
    [[route]]\ncomponent = \"greet.wasm\"\n[[route]]\npath = \"/hello\"\ncomponent = \"hello.wasm\"\n";

/// A reload while a guest is running: its worker drains. The other workers have ended.
const DRAINING: &[&str] = &[
    "curl http://127.0.0.1:3000/spin >spin 2>&1 &",
    "until daylily status --json | grep -q '\"requests_in_progress\": 1'; do :; done",
    "daylily reload",
    "until [ \"$(daylily status | grep -c ' draining ')\" = 1 ]; do :; done",
];

/// The built-in Hello World.
const HELLO: Scenario = Scenario {
    name: "hello",
    config: &[],
    serves: Some(""),
    before: &[],
    shows: Shows::Commands,
    masks_numbers: false,
};

/// The program of the README.
const PROGRAM: Scenario =
    Scenario { name: "greet", serves: Some("--env GREETING=Bonjour target/wasm32-wasip2/release/greet.wasm"), ..HELLO };

const SCENARIOS: &[Scenario] = &[
    HELLO,
    PROGRAM,
    Scenario { name: "nothing", serves: None, ..HELLO },
    Scenario { name: "start", shows: Shows::Start, ..HELLO },
    Scenario { name: "status", before: &["curl http://127.0.0.1:3000/"], masks_numbers: true, ..HELLO },
    Scenario { name: "draining", config: &[PATIENT], before: DRAINING, masks_numbers: true, ..HELLO },
    Scenario { name: "greet-start", serves: None, ..HELLO },
    Scenario { name: "greet-plain", serves: Some("target/wasm32-wasip2/release/greet.wasm"), ..HELLO },
    Scenario {
        name: "greet-log",
        before: &["curl http://127.0.0.1:3000/you"],
        shows: Shows::Log(&["greeting /you"]),
        ..PROGRAM
    },
    Scenario { name: "routes-start", config: &[GREET, FRENCH], serves: None, ..HELLO },
    Scenario { name: "routes", config: &[GREET, FRENCH], ..HELLO },
    Scenario { name: "limits", config: &[LIMITS, GREET, FRENCH], ..HELLO },
    Scenario {
        name: "limits-log",
        config: &[LIMITS, GREET, FRENCH],
        before: &["curl http://127.0.0.1:3000/spin"],
        shows: Shows::Log(&["guest failed"]),
        ..HELLO
    },
    Scenario {
        name: "denied-log",
        config: &[LIMITS, GREET, FRENCH],
        before: &["curl http://127.0.0.1:3000/fetch"],
        shows: Shows::Log(&["denied", "guest failed"]),
        ..HELLO
    },
    Scenario { name: "allowed", config: &[LIMITS, GREET_MAY_FETCH, FRENCH], ..HELLO },
    Scenario {
        name: "cut-log",
        config: &["[[route]]\nname = \"burn\"\ncomponent = \"burn.wasm\"\ncpu_time = \"300ms\"\n"],
        before: &["curl http://127.0.0.1:3000/after-head"],
        shows: Shows::Log(&["which was cut"]),
        ..HELLO
    },
    Scenario {
        name: "output-log",
        config: &["[[route]]\nname = \"output\"\ncomponent = \"output.wasm\"\n"],
        before: &["curl http://127.0.0.1:3000/lines"],
        shows: Shows::Log(&["guest: one", "guest: err"]),
        ..HELLO
    },
    Scenario {
        name: "json-log",
        config: &["log_format = \"json\"\n\n", "[[route]]\nname = \"output\"\ncomponent = \"output.wasm\"\n"],
        before: &["curl http://127.0.0.1:3000/lines"],
        shows: Shows::Log(&["\"message\":\"one\"", "\"message\":\"err\""]),
        ..HELLO
    },
    Scenario { name: "failed", serves: Some("--dev fails.wasm"), ..HELLO },
    Scenario { name: "wrong-section", config: &["[defaults]\nmax_queue = 5\n\n", GREET], serves: None, ..HELLO },
];

pub(super) fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// Every guest in the scenarios, and the paths that the documents use for it.
pub(super) const GUESTS: &[(&str, &str)] = &[
    ("greet", "target/wasm32-wasip2/release/greet.wasm"),
    ("greet", "greet.wasm"),
    ("hello", "hello.wasm"),
    ("burn", "burn.wasm"),
    ("output", "output.wasm"),
    ("fails", "fails.wasm"),
    ("wants", "wants.wasm"),
];

#[cfg(test)]
mod tests {
    use super::SCENARIOS;

    #[test]
    fn scenarios_have_names_of_their_own() {
        let mut names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
    }
}
