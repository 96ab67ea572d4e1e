//! Ordinary guests are linked directly, all others as components. Clients and guests cannot observe the difference.

use crate::harness::{Request, Response, Setup, Shared, as_component, built, each, run_in, without_ids};

const GUESTS: [&str; 9] = ["hello", "report", "echo", "headers", "status", "stream", "trap", "outgoing", "service03"];

/// Each guest linked in both ways. With `max_instances = 1` only direct linking works: as a component, it needs more.
static SERVER: Shared = Shared::new(|| {
    GUESTS.iter().fold(Setup::new(), |setup, name| {
        let component = std::fs::read(built(name)).expect("a guest");
        let (direct, other) = (format!("{name}-direct.wasm"), format!("{name}-component.wasm"));
        setup
            .file(&direct, &component)
            .file(&other, &as_component(&component))
            .route_with(&format!("host = 'direct-{name}.test'\nmax_instances = 1"), &direct)
            .route_with(&format!("host = 'entire-{name}.test'"), &other)
    })
});

/// The response as a client sees it, without the date and the request's ids.
fn seen(response: &Response) -> String {
    let headers: Vec<_> =
        response.headers.iter().filter(|(name, _)| name != "date" && name != "x-request-id").collect();
    let text = without_ids(&response.text());
    // Error responses end with the request id.
    let text = text.split(" (request ").next().unwrap_or_default();
    format!("{} {headers:?} {:?} {:?}\n{text}", response.status, response.trailers, response.ending)
}

/// When a guest's slice ends because the machine is busy, its response is streamed, and an error cuts it instead of
/// replacing it. So the two ways of linking only need to agree in one of several exchanges.
const EXCHANGES: usize = 10;

fn check(name: &str, request: impl Fn(&str) -> Request) {
    let server = SERVER.get();
    let ask = |form: &str| {
        let response = server.exchange(&request(&format!("{form}-{name}.test")));
        assert_ne!(response.status, 503, "{}", response.text());
        seen(&response).replace(&format!("{form}-{name}"), name)
    };
    let mut answers = (0..EXCHANGES).map(|_| (ask("direct"), ask("entire")));
    let differ = |(direct, entire): &(String, String)| direct != entire;
    if let Some((direct, entire)) = answers.next().filter(differ) {
        assert!(answers.any(|answers| !differ(&answers)), "linked directly: {direct}\nas a component: {entire}");
    }
}

#[test]
fn both_forms_answer_the_same() {
    let cases: &[(&str, &str)] = &[
        ("hello", "/"),
        ("report", "/a/b?c=d"),
        ("status", "/404"),
        ("status", "/99"),
        ("stream", "/silent"),
        ("headers", "/?x-one=1&x-one=2"),
        ("headers", "/forbidden"),
        ("trap", "/before"),
        ("trap", "/after-length"),
        ("trap", "/exit"),
        ("trap", "/error"),
        ("trap", "/exit-late"),
        ("trap", "/exit-after"),
        ("trap", "/stack"),
        ("trap", "/drop-body"),
        ("trap", "/short"),
        ("trap", "/"),
        ("outgoing", "/?url=http://127.0.0.1:1/"),
        ("service03", "/"),
        ("service03", "/report?c=d"),
        ("service03", "/count"),
        ("service03", "/echo"),
        ("service03", "/pass"),
        ("service03", "/stream?chunks=10&size=100000"),
        ("service03", "/stream?chunks=2&size=3&pause_ms=2"),
        ("service03", "/wait?ms=2"),
        ("service03", "/late?ms=2"),
        ("service03", "/status/204"),
        ("service03", "/status/700"),
        ("service03", "/head"),
        ("service03", "/short"),
        ("service03", "/error"),
        ("service03", "/trap"),
        ("service03", "/trap-after"),
        ("service03", "/trap-late"),
        ("service03", "/exit-late"),
        ("service03", "/exit-late?fail"),
        ("service03", "/exit-after"),
        ("service03", "/exit-after?fail"),
        ("service03", "/exit-at-once"),
        ("service03", "/exit-at-once?fail"),
        ("service03", "/unsent"),
        ("service03", "/send?url=http://127.0.0.1:1/"),
        ("service03", "/send?url=ftp://127.0.0.1:1/"),
    ];
    each(cases, |(name, target)| check(name, |host| Request::get(host, target).header("X-Empty", "")));
}

#[test]
fn both_forms_are_asked_the_same() {
    for method in ["GET", "PATCH", "BREW", "X-LONG-METHOD"] {
        check("report", |host| Request::new(method, host, "/?a=%20").header("Accept", "a").header("Accept", "b"));
    }
    for (guest, target) in [("echo", "/"), ("service03", "/echo"), ("service03", "/pass")] {
        check(guest, |host| Request::post(host, target).body(&vec![b'x'; 200_000]));
        check(guest, |host| Request::post(host, target).body(b""));
        let chunked = |host: &str| Request::post(host, target).chunked(&[b"one", b"two"]).trailer("X-Sum", "6");
        check(guest, chunked);
        check(guest, |host| chunked(host).header("Trailer", "X-Sum"));
    }
}

/// A release candidate of 0.3 whose interfaces equal the release's is served like the release, linked in both ways.
#[test]
fn a_guest_of_the_release_candidate_is_one_of_the_release() {
    let text = wasmprinter::print_file(built("service03")).expect("a component");
    assert!(text.contains("@0.3.0"), "a guest of the release");
    let component = wat::parse_str(text.replace("@0.3.0", "@0.3.0-rc-2026-03-15")).expect("a component");
    for (form, component) in [("directly", component.clone()), ("as a component", as_component(&component))] {
        let setup =
            Setup::new().route_to("app.test", "app.wasm").file("app.wasm", &component).env("DAYLILY_LOG", "debug");
        let server = setup.start();
        server.log().wait_for(&["app.wasm", &format!("is linked {form}")]);
        server.exchange(&Request::post("app.test", "/echo").body(b"as ever")).expect(200, "as ever");
    }
}

#[test]
fn the_log_says_which_form_a_component_has() {
    let component = std::fs::read(built("report")).expect("a guest");
    let files: &[(&str, &[u8])] = &[("direct.wasm", &component), ("entire.wasm", &as_component(&component))];
    for (file, form) in [("direct.wasm", "is linked directly"), ("entire.wasm", "is linked as a component")] {
        let checked = run_in(files, &[], &["check", "--log", "debug", file]);
        checked.expect(0, &[file, form]);
    }
}
