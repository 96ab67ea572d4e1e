//! Lines of `wasi:logging`: bounded and attributed as other output of guests, whichever way the guest is linked.

use crate::harness::{Daylily, Setup, as_component, built, run_in};

const FORMS: [(&str, &str); 2] = [("direct", "is linked directly"), ("entire", "is linked as a component")];

/// A server with the guest linked in both ways, each on a route with these keys.
fn serve(level: &str, guest: &str, keys: &str) -> Daylily {
    let component = std::fs::read(built(guest)).expect("a guest");
    let server = Setup::new()
        .env("DAYLILY_LOG", level)
        .file("direct.wasm", &component)
        .file("entire.wasm", &as_component(&component))
        .route_with(&format!("host = 'direct.test'\n{keys}"), "direct.wasm")
        .route_with(&format!("host = 'entire.test'\n{keys}"), "entire.wasm");
    server.start()
}

/// The lines of the route of one form, for each form. The last one contains `last`.
fn each_form(level: &str, keys: &str, target: &str, last: &str, check: impl Fn(&[String])) {
    let server = serve(level, "logging", keys);
    for (form, _) in FORMS {
        check(&lines(&server, form, target, last));
    }
}

/// The lines that the guest of one form has logged when the line with `last` is there.
fn lines(server: &Daylily, form: &str, target: &str, last: &str) -> Vec<String> {
    let host = format!("{form}.test");
    server.get(&host, target).expect(200, "ok\n");
    server.log().wait_for(&[&host, " guest: ", last]);
    server.log().matching(|line| line.contains(" guest: ") && line.contains(&host))
}

/// What comes after the time, without the request id.
fn seen(line: &str) -> String {
    let (head, rest) = line.split_once(" request=").expect("a request id");
    let (id, fields) = rest.split_once(' ').unwrap_or((rest, ""));
    assert!(crate::harness::is_request_id(id), "{line:?}");
    let (_, head) = head.split_once("Z ").expect("a time");
    format!("{} {fields}", head.trim_start()).trim_end().to_owned()
}

#[test]
fn each_line_has_its_level_route_request_and_context() {
    each_form("trace", "", "/levels", "Level::Critical", |lines| {
        let form = if lines[0].contains("direct") { "direct" } else { "entire" };
        let line =
            |level: &str, at: &str| format!("{level} guest: at Level::{at} route={form}.test/* context=\"shop\"");
        let expected = [
            line("TRACE", "Trace"),
            line("DEBUG", "Debug"),
            line("INFO", "Info"),
            line("WARN", "Warn"),
            line("ERROR", "Error"),
            line("ERROR", "Critical"),
        ];
        assert_eq!(lines.iter().map(|line| seen(line)).collect::<Vec<_>>(), expected);
    });
}

#[test]
fn guests_of_0_3_log_as_well() {
    let server = serve("info", "service03", "");
    for (form, _) in FORMS {
        let lines = lines(&server, form, "/log", "at Warn");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(seen(&lines[0]), format!("WARN guest: at Warn route={form}.test/* context=\"shop\""));
    }
}

#[test]
fn a_guest_that_logs_is_linked_directly() {
    for guest in ["logging", "service03"] {
        let component = std::fs::read(built(guest)).expect("a guest");
        let files: &[(&str, &[u8])] = &[("direct.wasm", &component), ("entire.wasm", &as_component(&component))];
        for (form, said) in FORMS {
            let file = format!("{form}.wasm");
            run_in(files, &[], &["check", "--log", "debug", &file]).expect(0, &[&file, said]);
        }
    }
}

#[test]
fn the_level_of_the_log_hides_lines_below_it() {
    each_form("warn", "", "/levels", "Level::Critical", |lines| {
        let levels: Vec<_> = lines.iter().map(|line| seen(line)).map(|line| line[..5].to_owned()).collect();
        assert_eq!(levels, ["WARN ", "ERROR", "ERROR"], "{lines:?}");
    });
}

#[test]
fn hidden_lines_cost_nothing_of_the_limit() {
    each_form("info", "max_output = 1_000", "/details?lines=1000", "after the details", |lines| {
        assert_eq!(lines.len(), 1, "{lines:?}");
    });
}

#[test]
fn control_characters_and_quotes_cannot_forge_a_line() {
    each_form("info", "", "/control", "red ", |lines| {
        let [line] = lines else { panic!("one call, one line: {lines:?}") };
        assert_eq!(line.chars().find(|char| char.is_control()), None, "{line:?}");
        for part in [
            r"guest: red \u{1b}[31m, line\nbreak, return \r, nul \u{0}. route=",
            r#" context="a\u{1b}\" request=forged""#,
        ] {
            assert!(line.contains(part), "no {part} in {line}");
        }
    });
}

#[test]
fn long_texts_are_cut() {
    each_form("info", "", "/long", "mmm", |lines| {
        let [line] = lines else { panic!("one call, one line: {}", lines.len()) };
        let count = |text: char| line.chars().filter(|char| *char == text).count();
        assert!((8 << 10..(8 << 10) + 20).contains(&count('m')), "{} of the message", count('m'));
        assert!((256..276).contains(&count('c')), "{} of the context", count('c'));
        assert!(line.contains("m… (91808 bytes left out) ") && line.ends_with("c…\""), "{line}");
    });
}

#[test]
fn an_empty_message_is_a_line() {
    each_form("info", "", "/empty", "WARN", |lines| {
        assert!(seen(&lines[0]).starts_with("WARN guest:") && !lines[0].contains("context"), "{lines:?}");
    });
}

#[test]
fn a_flood_is_cut_at_the_limit_and_takes_nothing_from_the_next_request() {
    let server = serve("info", "logging", "max_output = '10KiB'");
    for (form, _) in FORMS {
        let lines = lines(&server, form, "/flood?lines=1000", "max_output = 10KiB");
        let printed = lines.iter().filter(|line| line.contains("guest: xxx")).count();
        // A line costs 207 bytes, and there is no room for the start of another.
        assert_eq!(printed, 10 * 1024 / 207, "{:?}", lines.last());
        let notices = lines.iter().filter(|line| line.contains("output truncated")).count();
        assert_eq!((notices, lines.len()), (1, printed + 1));
        server.get(&format!("{form}.test"), "/levels").expect(200, "ok\n");
        server.log().wait_for(&[form, "Level::Critical"]);
    }
}

/// The line of stdout costs 528 bytes. Directories make the WASI context, with stdout, before the store.
#[test]
fn stdout_and_logging_share_one_limit() {
    let dirs = "dirs = ['.::/files:ro']";
    for more in ["", dirs] {
        each_form("info", &format!("max_output = 671\n{more}"), "/stdout-first", "logged after it", |lines| {
            assert_eq!(lines.len(), 2, "{lines:?}");
        });
        each_form("info", &format!("max_output = 640\n{more}"), "/stdout-first", "max_output = 640", |lines| {
            assert!(lines.len() == 2 && lines[0].contains("guest: xxx"), "{lines:?}");
        });
    }
}
