//! Middleware: components that the requests of a route pass before its files and its component.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::{Daylily, Ending, PATIENCE, Request, Response, Setup, Shared, each, eventually, guest, run_in};

/// A route for a host with middleware of these names, and what answers its requests.
fn chained(setup: Setup, host: &str, names: &[&str], keys: &str, end: &str) -> Setup {
    let component = guest("middleware03").display().to_string();
    let link = |name: &&str| format!("{{ component = '{component}', env = {{ NAME = '{name}' }} }}");
    let links: Vec<String> = names.iter().map(link).collect();
    setup.route_at(&format!("name = '{host}'\nhost = '{host}'\nmiddleware = [{}]\n{keys}", links.join(", ")), end)
}

fn setup() -> Setup {
    let site = format!(
        "\n[[route]]\nname = 'site.test'\nhost = 'site.test'\nfiles = 'public'\n[[route.middleware]]\ncomponent = '{}'\n\
         [route.middleware.env]\nNAME = 'a'\n",
        guest("middleware03").display()
    );
    let roomy = "max_body = '100MiB'\nwall_time = '10m'\ncpu_time = '10m'";
    let setup = chained(Setup::new(), "one.test", &["a"], "", "service03");
    let setup = chained(setup, "two.test", &["a", "b"], roomy, "echo");
    let setup = chained(setup, "report.test", &["a"], "", "report");
    let setup = chained(setup, "trap.test", &["a", "b"], "", "trap");
    let setup = chained(setup, "stream.test", &["a", "b"], roomy, "stream");
    setup.raw_route(&site).file("public/page.txt", b"a page\n")
}

static SERVER: Shared = Shared::new(setup);

fn act(server: &Daylily, host: &str, target: &str, act: &str) -> Response {
    server.exchange(&Request::get(host, target).header("x-act", act))
}

#[test]
fn a_request_passes_each_in_its_order() {
    let server = SERVER.get();
    let response = server.get("one.test", "/");
    response.expect(200, "Hello World\n");
    assert_eq!(response.values("x-passed"), ["a"]);
    let response = server.exchange(&Request::post("two.test", "/").body(b"hello"));
    response.expect(200, "hello");
    // The response passes them in the other order.
    assert_eq!(response.values("x-passed"), ["b", "a"]);
    let response = act(&server, "two.test", "/", "a=plain");
    assert_eq!((response.status, response.values("x-passed")), (200, vec!["b"]), "{response:?}");
    let response = act(&server, "one.test", "/status/204", "");
    assert_eq!((response.status, response.values("x-passed")), (204, vec!["a"]), "{response:?}");
    let response = server.exchange(&Request::new("HEAD", "one.test", "/"));
    assert_eq!((response.status, response.body.len()), (200, 0), "{response:?}");
}

#[test]
fn middleware_may_answer_itself_or_ask_for_something_else() {
    let server = SERVER.get();
    assert_eq!(act(&server, "two.test", "/", "a=deny").status, 401);
    let response = act(&server, "two.test", "/", "b=deny");
    assert_eq!((response.status, response.values("x-passed")), (401, vec!["a"]), "{response:?}");
    let request = Request::get("one.test", "/none").header("x-act", "a=rewrite").header("x-path", "/status/418");
    assert_eq!(server.exchange(&request).status, 418);
    act(&server, "one.test", "/", "a=again").expect(200, "Hello World\n");
    act(&server, "one.test", "/", "a=error").expect_refusal(502, "guest returned an error code");
}

/// Otherwise authentication would be passed by.
#[test]
fn middleware_stands_before_files() {
    let server = SERVER.get();
    let response = server.get("site.test", "/page.txt");
    response.expect(200, "a page\n");
    assert_eq!(response.values("x-passed"), ["a"]);
    assert_eq!(act(&server, "site.test", "/page.txt", "a=deny").status, 401);
    assert_eq!(server.get("site.test", "/none.txt").status, 404);
}

#[test]
fn a_trap_is_named_after_its_link() {
    let server = SERVER.get();
    for (host, target, does, name) in [
        ("two.test", "/", "a=trap", "two.test/middleware03 "),
        ("two.test", "/", "b=trap", "two.test/middleware03-2 "),
        ("trap.test", "/before", "", "trap.test "),
    ] {
        let response = act(&server, host, target, does);
        assert_eq!(response.status, 500, "{host} {does}: {response:?}");
        let [id] = response.values("x-request-id")[..] else { panic!("{response:?}") };
        server.log().wait_for(&["guest failed: guest trapped", &format!("request={id}"), &format!("route={name}")]);
    }
    let response = act(&server, "stream.test", "/", "a=trap-after");
    assert!(response.status == 500 || response.ending == Ending::Truncated, "{response:?}");
    let response = act(&server, "trap.test", "/after-length", "");
    assert!(response.status == 500 || response.ending == Ending::Truncated, "{response:?}");
}

#[test]
fn bodies_stream_through() {
    let server = SERVER.get();
    let body: Vec<u8> = (0..4 << 20).map(|at: u32| b'a' + (at % 23) as u8).collect();
    let response = server.exchange(&Request::post("two.test", "/").body(&body));
    assert!(response.body == body, "{} bytes", response.body.len());
    let response = server.exchange(&Request::post("two.test", "/").chunked(&[b"one", b"two"]));
    response.expect(200, "onetwo");
    // Each part comes when it is written.
    let mut connection = server.connect();
    connection.send(&Request::get("stream.test", "/?chunks=1000&pause_ms=20").bytes());
    let response = connection.head();
    assert_eq!((response.status, response.values("x-passed")), (200, vec!["b", "a"]), "{response:?}");
    assert_eq!(connection.next_chunk(), b"x");
    connection.leave();
}

#[test]
fn a_response_waits_for_its_reader() {
    let server = setup().alone().start();
    let [worker] = &server.worker_processes()[..] else { panic!("not one worker") };
    let before = worker.resident_kib();
    let mut connection = server.connect();
    connection.send(&Request::get("stream.test", "/?chunks=4096&size=65536").bytes());
    let mut response = connection.head();
    std::thread::sleep(Duration::from_millis(500));
    let grown = worker.resident_kib().saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB of 256 MiB are kept");
    let mut bytes = 0;
    connection.finish(&mut response, "GET", &mut |piece| bytes += piece.len());
    assert!(bytes == 4096 * 65536 && response.ending == Ending::Complete, "{bytes} {:?}", response.ending);
}

/// A request takes a permit for each of its guests, all at once: it waits for them as any request, and what follows a
/// guest needs no other.
#[test]
fn all_guests_of_a_request_are_admitted_at_once() {
    let setup =
        chained(Setup::new().server("max_concurrency = 3\nmax_queue = 100"), "two.test", &["a", "b"], "", "stream");
    let server = setup.start();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(&Request::get("two.test", "/").bytes());
            connection
        })
        .collect();
    for mut connection in clients {
        connection.response("GET").expect(200, "x");
    }
    // With a second request to what follows, there are more guests than permits.
    let response = act(&server, "two.test", "/", "b=twice");
    assert_eq!(response.status, 503, "{response:?}");
    server.get("two.test", "/").expect(200, "x");
}

#[test]
fn all_guests_end_with_their_client() {
    let setup = chained(
        Setup::new().server("max_concurrency = 3\nmax_queue = 0"),
        "two.test",
        &["a", "b"],
        "wall_time = '10m'\ncpu_time = '10m'",
        "stream",
    );
    let server = setup.alone().start();
    let is_free = || server.get("two.test", "/?chunks=1").status == 200;
    for target in ["/silent?ms=600000", "/?chunks=1000000&pause_ms=10"] {
        let mut connection = server.connect();
        connection.send(&Request::get("two.test", target).bytes());
        // The probe must not take the permits before it.
        let runs = || server.status().total("requests_in_progress") == 1;
        assert!(eventually(PATIENCE, runs), "{target}: it does not run");
        std::thread::sleep(Duration::from_millis(50));
        assert!(!is_free(), "{target}: it ended by itself");
        let left = Instant::now();
        connection.leave();
        assert!(eventually(Duration::from_millis(150), is_free), "{target}: not free after {:?}", left.elapsed());
    }
}

/// What one may reach, what follows may not, and the other way round.
#[test]
fn each_has_grants_and_limits_of_its_own() {
    let component = guest("middleware03").display().to_string();
    let link = |more: &str| format!("middleware = [{{ component = '{component}', env = {{ NAME = 'a' }}{more} }}]");
    let route = |host: &str, more: &str, link_has: &str| {
        format!("name = '{host}'\nhost = '{host}'\n{more}\n{}", link(link_has))
    };
    let url = "url=http%3A%2F%2Fhello.daylily.internal%2F";
    let server = Setup::new()
        .route_at("name = 'hello'\nhost = 'hello.test'", "hello")
        .route_at(&route("link.test", "", ", allow_http = ['route:hello']"), "service03")
        .route_at(&route("end.test", "allow_http = ['route:hello']", ""), "service03")
        .route_at(&route("slow.test", "cpu_time = '10s'", ", cpu_time = '100ms'"), "burn")
        .start();
    let asks = |host: &str| {
        let request = Request::get(host, "/").header("x-act", "a=send").header("x-url", "hello.daylily.internal");
        server.exchange(&request)
    };
    asks("link.test").expect(200, "Hello World\n");
    asks("end.test").expect_refusal(502, "guest returned an error code");
    let sent = |host: &str| server.get(host, &format!("/send?{url}")).text();
    assert!(sent("link.test").starts_with("error: ErrorCode::HttpRequestDenied"), "{}", sent("link.test"));
    assert!(sent("end.test").starts_with("status: 200\nHello World\n"), "{}", sent("end.test"));
    act(&server, "slow.test", "/", "a=burn").expect_refusal(504, "CPU time limit exceeded");
}

/// One request of a client has one record, with what all its guests have used.
#[test]
fn a_request_has_one_record() {
    let fields = "fields = ['id', 'route', 'status', 'outcome', 'guest_cpu_us']";
    let log = format!("access_log = {{ format = 'json', to = 'access.log', {fields} }}");
    let server = chained(Setup::new().top(&log), "burn.test", &["a", "b"], "cpu_time = '100ms'", "burn").start();
    let response = server.get("burn.test", "/loop");
    assert_eq!(response.status, 504, "{response:?}");
    let path = server.directory().join("access.log");
    let read = || fs::read_to_string(&path).unwrap_or_default();
    assert!(eventually(PATIENCE, || !read().is_empty()), "no record");
    let lines: Vec<serde_json::Value> = read().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [line] = &lines[..] else { panic!("{lines:#?}") };
    assert_eq!((&line["route"], &line["status"]), (&"burn.test".into(), &504.into()), "{line}");
    assert!(line["guest_cpu_us"].as_u64().is_some_and(|us| us > 80_000), "{line}");
}

/// Also when the guest that ends first is not the one that used it.
#[test]
fn the_record_has_what_all_guests_used_when_the_client_leaves() {
    let log = "access_log = { format = 'json', to = 'access.log', fields = ['outcome', 'guest_cpu_us'] }";
    let server = chained(Setup::new().top(log), "burn.test", &["a", "b"], "cpu_time = '10m'", "burn").start();
    let mut connection = server.connect();
    connection.send(&Request::get("burn.test", "/loop").bytes());
    let runs = || server.status().total("requests_in_progress") == 1;
    assert!(eventually(PATIENCE, runs), "it does not run");
    std::thread::sleep(Duration::from_millis(500));
    connection.leave();
    let path = server.directory().join("access.log");
    let read = || fs::read_to_string(&path).unwrap_or_default();
    assert!(eventually(PATIENCE, || !read().is_empty()), "no record");
    let line: serde_json::Value = serde_json::from_str(read().trim_end()).unwrap();
    assert_eq!(line["outcome"], "client_gone", "{line}");
    assert!(line["guest_cpu_us"].as_u64().is_some_and(|us| us > 80_000), "{line}");
}

/// All guests of a chain have the same limit, and the first one has begun first.
#[test]
fn a_time_that_is_over_is_named_after_the_guest_that_used_it() {
    let server = chained(Setup::new(), "slow.test", &["a", "b"], "wall_time = '1s'", "stream").start();
    let response = server.get("slow.test", "/silent?ms=600000");
    response.expect_refusal(504, "wall time limit exceeded");
    assert_eq!(response.values("x-passed"), ["b", "a"]);
    let [id] = response.values("x-request-id")[..] else { panic!("{response:?}") };
    server.log().wait_for(&["guest failed: wall time", &format!("request={id}"), "route=slow.test "]);
}

/// As it may without middleware.
#[test]
fn a_component_may_work_on_after_its_response() {
    let server = chained(Setup::new(), "late.test", &["a", "b"], "", "service03").start();
    server.get("late.test", "/late?ms=500").expect(200, "early\n");
    server.log().wait_for(&["late done"]);
}

/// Without middleware, only its wall time bounds it.
#[test]
fn time_outs_of_outgoing_requests_are_not_those_of_a_chain() {
    let keys = "first_byte_timeout = '100ms'\nbetween_bytes_timeout = '100ms'";
    let server = chained(Setup::new(), "slow.test", &["a", "b"], keys, "stream").start();
    server.get("slow.test", "/silent?ms=500").expect(200, "done\n");
    server.get("slow.test", "/?chunks=2&pause_ms=400").expect(200, "xx");
}

#[test]
fn more_requests_to_what_follows_are_within_the_routes_share() {
    let setup = Setup::new().server("max_concurrency = 20");
    let server = chained(setup, "one.test", &["a"], "max_concurrency = 1", "stream").start();
    act(&server, "one.test", "/", "a=twice").expect_refusal(503, "no permit is free for a request of another guest");
    server.get("one.test", "/").expect(200, "x");
}

/// The guests of a dropped request end before another request to them counts as one at the same time.
#[test]
fn a_request_after_a_dropped_one_needs_no_more_permits() {
    let setup = Setup::new().server("max_concurrency = 3\nmax_queue = 0");
    let server = chained(setup, "two.test", &["a", "b"], "", "stream").start();
    for _ in 0..3 {
        act(&server, "two.test", "/", "a=retry").expect(200, "x");
    }
}

#[test]
fn the_authority_is_the_clients_or_a_valid_one() {
    let server = SERVER.get();
    let has = |authority: Option<&str>| {
        let request = Request::get("report.test", "/").header("x-act", "a=host");
        let response = server.exchange(&match authority {
            Some(authority) => request.header("x-authority", authority),
            None => request,
        });
        response.text().lines().find_map(|line| line.strip_prefix("authority: ").map(str::to_owned))
    };
    assert_eq!(has(None).as_deref(), Some("report.test"));
    assert_eq!(has(Some("other.test:81")).as_deref(), Some("other.test:81"));
    assert_eq!(has(Some("user:pw@other.test")), None);
}

#[test]
fn check_names_what_middleware_is_not_granted() {
    let [middleware, service] = ["middleware03", "service03"].map(|of| guest(of).display().to_string());
    let route = format!("[[route]]\nname = 'api'\ncomponent = '{service}'\nallow_http = ['http://a.test']\n");
    let config = format!("{route}middleware = ['{middleware}']\n");
    let finished = run_in(&[("daylily.toml", config.as_bytes())], &[], &["check"]);
    let line = "  middleware api/middleware03 imports wasi:http/client@0.3.0: nothing is granted (`allow_http`)\n";
    assert!(finished.stdout.contains(line), "{}", finished.stdout);
}

#[test]
fn the_length_of_a_chain_counts_middleware() {
    let keys = "allow_http = ['route:circle']";
    let component = guest("middleware03").display().to_string();
    let route = format!("name = 'circle'\nhost = 'circle.test'\n{keys}\nmiddleware = ['{component}']");
    let server = Setup::new().server("max_chain = 5").route_at(&route, "service03").start();
    let response = server.get("circle.test", "/circle?authority=circle.daylily.internal");
    // Two guests for each request, so that the third has one.
    let expected = "status: 200\nstatus: 508\ntoo many requests in a chain";
    assert!(response.text().starts_with(expected), "{response:?}");
}

/// Errors of a component name the line that lists it, at a check and at a start.
#[test]
fn a_component_that_is_no_middleware_is_refused() {
    const BAD_CONFIGURATION: i32 = 78;
    let [middleware, hello, service] = ["middleware03", "hello", "service03"].map(|of| guest(of).display().to_string());
    let not_one = "is no middleware: it does not import wasi:http/handler@0.3.0";
    let of_p2 = "is of WASI 0.2, whose middleware can pass a request on, but not make one";
    each(
        &[
            (service.clone(), format!("'{service}'"), not_one, "5:15"),
            (hello.clone(), format!("'{hello}'"), of_p2, "5:15"),
            (hello.clone(), format!("'{middleware}', {{ component = '{hello}' }}"), of_p2, "5:"),
        ],
        |(end, links, said, place)| {
            let config = format!("listen = '127.0.0.1:0'\n\n[[route]]\ncomponent = '{end}'\nmiddleware = [{links}]\n");
            for command in ["check", "serve"] {
                let finished = run_in(&[("daylily.toml", config.as_bytes())], &[], &[command]);
                finished.expect(BAD_CONFIGURATION, &[said, &format!("--> daylily.toml:{place}"), "^^^", "help: "]);
                assert_eq!(finished.stderr.matches("error: ").count(), 1, "{}", finished.stderr);
            }
        },
    );
    // Nothing follows a route's component, nor one that is given by its path.
    let config = format!("[[route]]\ncomponent = '{middleware}'\n");
    let remedy = "list it in `middleware`";
    run_in(&[("daylily.toml", config.as_bytes())], &[], &["check"]).expect(BAD_CONFIGURATION, &[remedy, "2:13"]);
    run_in(&[], &[], &["serve", &middleware]).expect(BAD_CONFIGURATION, &["and none follows", remedy]);
}

#[test]
fn a_reload_changes_a_chain() {
    let component = guest("middleware03").display().to_string();
    let server = Setup::new().route_at("name = 'hello'", "hello").start();
    assert!(!server.get("hello.test", "/").has("x-passed"));
    let path = server.directory().join("daylily.toml");
    let before = fs::read_to_string(&path).expect("the configuration");
    let with = |link: &str| fs::write(&path, format!("{before}\nmiddleware = ['{link}']\n")).expect("a configuration");
    with(&component);
    server.reload();
    assert!(server.get("hello.test", "/").has("x-passed"));
    with(&guest("hello").display().to_string());
    let _failed = server.command(&["reload"]);
    server.log().wait_for(&["is of WASI 0.2"]);
    assert!(server.get("hello.test", "/").has("x-passed"));
    fs::write(&path, before).expect("a configuration");
    server.reload();
    assert!(!server.get("hello.test", "/").has("x-passed"));
}
