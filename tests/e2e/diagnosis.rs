//! What a developer is shown of a failed guest, and what stays in the log: its stack and the end of its output.

use crate::harness::{
    Connection, Daylily, PATIENCE, Request, Response, Setup, Shared, each, eventually, guest, is_request_id,
};

/// Bytes of each output stream that are kept: `MAX_KEPT_OUTPUT_BYTES`.
const KEPT_BYTES: usize = 8 << 10;

/// The functions of a failed assertion, in the order of the stack. With debug information the crate has another name.
const NESTED: [&str; 2] = ["fails::inner", "fails::outer"];
const NESTED_DWARF: [&str; 2] = ["fails_dwarf::inner", "fails_dwarf::outer"];

fn setup() -> Setup {
    Setup::new()
        .defaults("cpu_time = '300ms'")
        .route("fails.test", "fails", "")
        .route("dwarf.test", "fails-dwarf", "")
        .route("stripped.test", "trap", "")
        .route("silent.test", "fails", "max_output = 1")
        .route("waits.test", "fails", "wall_time = '500ms'")
}

static DEV: Shared = Shared::new(|| setup().flags(&["--dev"]));
static PRODUCTION: Shared = Shared::new(setup);
static DEBUG: Shared = Shared::new(|| setup().flags(&["--log", "debug"]));

/// The sections of an error response: the exception, the line with the reason, and what follows it by title.
struct Explained {
    exception: Option<String>,
    text: String,
}

impl Explained {
    #[track_caller]
    fn of(response: &Response, status: u16, start: &str) -> Self {
        let text = response.text();
        assert_eq!(response.status, status, "{text}");
        let has_exception = !text.starts_with(start);
        let (exception, text) = if has_exception { text.split_once('\n').expect("lines") } else { ("", &*text) };
        assert!(text.starts_with(start), "{text}");
        let id = text.lines().next().and_then(|line| line.split_once("(request ")?.1.strip_suffix(')'));
        assert!(id.is_some_and(is_request_id), "{text}");
        Self { exception: has_exception.then(|| exception.to_owned()), text: text.to_owned() }
    }

    /// The lines of the section with this title.
    fn section(&self, title: &str) -> Option<Vec<&str>> {
        let (_, section) = self.text.split_once(&format!("\n\n{title}"))?;
        let (rest_of_title, lines) = section.split_once('\n')?;
        assert!(rest_of_title.ends_with(':'), "{rest_of_title:?} after {title:?}");
        let next = ["\n\nstack, ", "\n\nstderr", "\n\nstdout"].iter().filter_map(|title| lines.find(title)).min();
        Some(lines[..next.unwrap_or(lines.len())].lines().collect())
    }

    /// Fails unless these functions are in the stack, in this order.
    #[track_caller]
    fn expect_stack(&self, functions: &[&str]) {
        let stack = self.section("stack, innermost function first").unwrap_or_default();
        let of = |function: &str| stack.iter().position(|line| line.ends_with(&format!("!{function}")));
        let places: Vec<Option<usize>> = functions.iter().map(|function| of(function)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in {}", self.text);
    }
}

#[test]
fn a_developer_is_shown_the_stack_and_the_output() {
    let server = DEV.get();
    let cases = [("fails.test", NESTED), ("dwarf.test", NESTED_DWARF), ("silent.test", NESTED)];
    each(&cases, |(host, nested)| {
        let explained = Explained::of(&server.get(host, "/nested"), 500, "guest trapped: wasm trap: ");
        explained.expect_stack(nested);
        assert_eq!(explained.exception.as_deref(), Some("the cart is empty"));
        let titles = ["\n\nstderr:", "\n\nstack, ", "\n\nstdout:"].map(|title| explained.text.find(title));
        assert!(titles.is_sorted() && titles[0].is_some(), "{}", explained.text);
        let stderr = explained.section("stderr").expect("the panic").join("\n");
        assert!(stderr.contains("panicked at") && stderr.contains("the cart is empty"), "{stderr}");
        assert_eq!(explained.section("stdout"), Some(vec!["counting the items"]), "{}", explained.text);
    });
}

#[test]
fn a_component_with_debug_information_has_places() {
    let server = DEV.get();
    let explained = Explained::of(&server.get("dwarf.test", "/nested"), 500, "guest trapped: ");
    let stack = explained.section("stack").expect("a stack");
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/fails/src/lib.rs"));
    let source = source.expect("the guest's source");
    let line_of = |text: &str| source.lines().position(|line| line.contains(text)).expect("the line") + 1;
    for (function, text) in [("!fails_dwarf::inner", "assert!("), ("!fails_dwarf::outer", "inner(std::hint")] {
        let at = stack.iter().position(|line| line.ends_with(function)).unwrap_or_else(|| panic!("{stack:#?}"));
        let place = format!("lib.rs:{}:", line_of(text));
        assert!(stack[at + 1].contains("        at ") && stack[at + 1].contains(&place), "{place} in {stack:#?}");
    }
    // Without debug information there are names alone.
    let explained = Explained::of(&server.get("fails.test", "/nested"), 500, "guest trapped: ");
    assert!(!explained.text.contains("        at "), "{}", explained.text);
}

#[test]
fn other_failures_are_explained_too() {
    let server = DEV.get();
    let cases = [
        (
            "fails.test",
            "/loop",
            504,
            "CPU time limit exceeded: cpu_time = 300ms",
            "looping",
            &["fails::inner", "fails::outer"][..],
        ),
        ("waits.test", "/wait", 504, "wall time limit exceeded: wall_time = 500ms", "waiting", &[]),
        ("fails.test", "/exit", 500, "guest trapped: it called exit with code", "giving up", &[]),
    ];
    each(&cases, |(host, target, status, start, stderr, stack)| {
        let explained = Explained::of(&server.get(host, target), *status, start);
        explained.expect_stack(stack);
        assert_eq!(explained.exception, None);
        assert_eq!(explained.section("stderr"), Some(vec![*stderr]), "{}", explained.text);
    });
    // A guest without names: the numbers of its functions.
    let explained = Explained::of(&server.get("stripped.test", "/before"), 500, "guest trapped: ");
    let stack = explained.section("stack").expect("a stack");
    assert!(stack[0].contains("!<wasm function "), "{stack:?}");
    assert_eq!((explained.section("stderr"), explained.section("stdout")), (None, None));
}

/// As esbuild writes it, for `price` in the second line of the bundle.
const MAP: &str = r#"{"version":3,"sources":["../src/price.js"],"mappings":";AAGA;"}"#;

#[test]
fn a_stack_of_javascript_has_the_places_in_the_sources() {
    let component = std::fs::read(guest("fails")).expect("a built guest");
    // The map first: one that is younger than the component is of a build that has not ended.
    let setup = Setup::new().file("dist/app.js.map", MAP.as_bytes()).file("dist/app.wasm", &component);
    let server = setup.route_to("app.test", "dist/app.wasm").flags(&["--dev"]).start();
    let explained =
        Explained::of(&server.get("app.test", "/after-body?of=price@dist/app.js:2:3"), 500, "guest trapped: ");
    assert_eq!(explained.section("stderr").expect("output")[0], "secret of price@src/price.js:4:1");
    server.put("dist/app.js.map", MAP);
    let explained = Explained::of(&server.get("app.test", "/after-body?of=dist/app.js:2:3"), 500, "guest trapped: ");
    assert_eq!(explained.section("stderr").expect("output")[0], "secret of dist/app.js:2:3");
}

#[test]
fn the_end_of_long_output_is_shown() {
    let server = DEV.get();
    each(&["fails.test", "dwarf.test", "silent.test"], |host| {
        let explained = Explained::of(&server.get(host, "/flood"), 500, "guest trapped: ");
        // Whole lines of ten bytes.
        let lines: Vec<String> = (0..2048).map(|number| format!("{number:09}")).collect();
        let shown = KEPT_BYTES / 10;
        let title = format!("stderr, without the first {} bytes", (lines.len() - shown) * 10);
        let stderr = explained.section(&title).unwrap_or_else(|| panic!("no {title:?} in {}", explained.text));
        assert_eq!(stderr, lines[lines.len() - shown..]);
    });
}

#[test]
fn no_request_is_shown_the_output_of_another() {
    let server = DEV.get();
    let names = ["alice", "bob"];
    let mut begun: Vec<(&str, Connection)> = Vec::new();
    for name in names {
        let mut connection = server.connect();
        let request = Request::post("fails.test", &format!("/after-body?of={name}")).header("Content-Length", "1");
        connection.send(&request.bytes());
        begun.push((name, connection));
    }
    // Both guests have written, and wait for the rest of their bodies.
    for name in names {
        server.log().wait_for(&[" guest: secret of", name]);
    }
    for (name, connection) in &mut begun {
        let response = connection.send(b"x").response("POST");
        let explained = Explained::of(&response, 500, "guest trapped: ");
        assert_eq!(explained.section("stderr").expect("output")[0], format!("secret of {name}"));
        assert_eq!(explained.text.matches("secret of").count(), 1, "{}", explained.text);
    }
}

/// The lines of a request's stack in the log.
fn stack_lines(server: &Daylily, id: &str) -> Vec<String> {
    server.log().matching(|line| line.contains(id) && line.contains("failed in function "))
}

#[test]
fn the_log_has_the_stack_of_a_cut_response() {
    let server = DEV.get();
    let mut connection = server.connect();
    connection.send(&Request::get("dwarf.test", "/after-head").bytes());
    assert_eq!(connection.response("GET").status, 200);
    let failed =
        server.log().wait_for(&["WARN", "dwarf.test", "during its response, which was cut", "fails_dwarf::inner"]);
    let id = failed.split("request=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an id").to_owned();
    let came =
        eventually(PATIENCE, || stack_lines(&server, &id).iter().any(|line| line.contains("!fails_dwarf::outer at ")));
    let lines = stack_lines(&server, &id);
    assert!(came && lines.iter().all(|line| line.contains("WARN")), "{lines:?}");
}

#[test]
fn clients_are_shown_nothing_without_dev() {
    for server in [PRODUCTION.get(), DEBUG.get()] {
        each(&["/nested", "/flood", "/exit"], |target| {
            let response = server.get("dwarf.test", target);
            response.expect_refusal(500, "guest trapped");
        });
    }
}

#[test]
fn the_innermost_functions_are_in_the_log_and_the_others_at_level_debug() {
    // Not those of the standard library that end a guest that panics.
    let innermost = NESTED.map(|function| format!("fails.wasm!{function}")).join(" < ");
    let innermost =
        format!("guest failed: guest trapped: wasm trap: wasm `unreachable` instruction executed; in {innermost}");
    let nested = |server: &Daylily| {
        let id = server.get("fails.test", "/nested").expect_refusal(500, "guest trapped");
        server.log().wait_for(&["WARN", &id, &innermost]);
        id
    };
    let server = DEBUG.get();
    let id = nested(&server);
    for function in NESTED {
        server.log().wait_for(&["DEBUG", &id, "failed in function ", function]);
    }
    let server = PRODUCTION.get();
    let id = nested(&server);
    // The stack would be logged before the line of the next failure.
    nested(&server);
    assert_eq!(stack_lines(&server, &id), Vec::<String>::new());
}

/// Code that was compiled without places is not used with `--dev`.
#[test]
fn cached_code_is_compiled_again_for_developers() {
    let cache = tempfile::tempdir().expect("a directory");
    let path = cache.path().display().to_string();
    let start = |flags: &[&str]| setup().flags(&["--cache-dir", &path]).flags(flags).start();
    let entries = || std::fs::read_dir(cache.path()).expect("the cache").count();
    start(&[]).get("dwarf.test", "/nested").expect_refusal(500, "guest trapped");
    let of_production = entries();
    for _ in 0..2 {
        let explained = Explained::of(&start(&["--dev"]).get("dwarf.test", "/nested"), 500, "guest trapped: ");
        assert!(explained.text.contains("lib.rs:"), "{}", explained.text);
        assert_eq!(entries(), 2 * of_production);
    }
}
