//! What `daylily dev` adds to responses, and which hosts it answers.

use crate::develop::{CONFIG, PAGE, component, get, project, version, visit};
use crate::harness::{Daylily, Request};

/// What follows the text of a page.
fn script(server: &Daylily) -> String {
    format!("\n<script src=\"/.daylily/dev.js?{}\"></script>\n", version(server))
}

#[test]
fn pages_have_a_script_and_everything_else_is_as_it_was() {
    let server = project(CONFIG)
        .file("public/coded.html", PAGE.as_bytes())
        .file("public/coded.html.gz", b"coded")
        .file("public/app.js", b"script")
        .start();
    let script = script(&server);
    let page = visit(&server, "/");
    page.expect(200, &format!("{PAGE}{script}"));
    assert_eq!(page.values("content-length"), [page.body.len().to_string()]);
    assert!(!page.has("etag") && !page.has("last-modified") && page.values("cache-control") == ["no-cache"]);
    let head = server.exchange(&Request::new("HEAD", "localhost", "/").header("sec-fetch-mode", "navigate"));
    assert_eq!(head.values("content-length"), page.values("content-length"));
    // Browsers may have the page without the script.
    let etag = get(&server, "/").values("etag")[0].to_owned();
    let conditional = Request::get("localhost", "/").header("if-none-match", &etag);
    assert_eq!(server.exchange(&conditional).status, 304);
    server.exchange(&conditional.header("sec-fetch-mode", "navigate")).expect(200, &page.text());
    // Not what a script fetches, what is no page, what is in a frame, and what is coded.
    let framed = Request::get("localhost", "/").header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "iframe");
    server.exchange(&framed).expect(200, PAGE);
    get(&server, "/").expect(200, PAGE);
    visit(&server, "/app.js").expect(200, "script");
    let coded = Request::get("localhost", "/coded.html").header("sec-fetch-mode", "navigate");
    server.exchange(&coded.header("accept-encoding", "gzip")).expect(200, "coded");
    // An error in plain text becomes a page.
    let missing = visit(&server, "/missing");
    assert_eq!((missing.status, missing.values("content-type")), (404, vec!["text/html; charset=utf-8"]));
    assert!(missing.text().contains("no such file") && missing.text().contains(&script), "{}", missing.text());
    assert_eq!(get(&server, "/missing").values("content-type"), ["text/plain"]);
}

#[test]
fn pages_of_guests_have_it_too() {
    let config = "[build]\ncommand = 'true'\n[[route]]\npath = '/headers'\ncomponent = 'headers.wasm'\n\
        [[route]]\npath = '/echo'\ncomponent = 'echo.wasm'\n";
    let server =
        project(config).file("headers.wasm", &component("headers")).file("echo.wasm", &component("echo")).start();
    let script = script(&server);
    let whole = "content-type: ok\n";
    visit(&server, "/headers?content-type=text/html").expect(200, &format!("{whole}{script}"));
    visit(&server, "/headers?content-type=text/plain").expect(200, whole);
    let counted = "content-type: ok\ncontent-length: ok\n";
    let page = visit(&server, &format!("/headers?content-type=text/html&content-length={}", counted.len()));
    page.expect(200, &format!("{counted}{script}"));
    assert_eq!(page.values("content-length"), [page.body.len().to_string()]);
    // Streamed, with trailers.
    let streamed = || {
        let request = Request::new("GET", "localhost", "/echo").header("sec-fetch-mode", "navigate");
        request.header("content-type", "text/html").chunked(&[b"<p>", b"page"])
    };
    let wants = |request: Request| request.header("te", "trailers").header("connection", "te");
    let page = server.exchange(&wants(streamed()).header("trailer", "x-sum").trailer("x-sum", "1"));
    page.expect(200, &format!("<p>page{script}"));
    assert_eq!(page.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    server.exchange(&streamed()).expect(200, &format!("<p>page{script}"));
}

#[test]
fn the_page_of_a_guest_that_failed_begins_with_its_exception() {
    let server = project("[[route]]\ncomponent = 'fails.wasm'\n").file("fails.wasm", &component("fails")).start();
    let page = visit(&server, "/nested");
    assert_eq!(page.status, 500);
    let text = page.text();
    let parts = [
        "<title>the cart is empty</title>",
        "<h1>the cart is empty</h1>\n<p>guest trapped: wasm trap",
        "<pre>stderr:\n",
        "panicked at",
        "stack, innermost function first:",
    ];
    let places = parts.map(|part| text.find(part));
    assert!(places[0].is_some() && places.is_sorted(), "{text}");
}

#[test]
fn other_hosts_are_refused() {
    let config = format!("listen = '0.0.0.0:0'\n{CONFIG}\n[[route]]\nhost = '*.app.test'\ncomponent = 'hello.wasm'\n");
    let server = project(&config).without("--listen").start();
    assert!(server.address().ip().is_loopback(), "{}", server.address());
    for (host, status) in [
        ("localhost", 200),
        ("shop.localhost:3000", 200),
        ("127.0.0.1", 200),
        ("192.168.1.20:3000", 200),
        ("[::1]:3000", 200),
        ("a.app.test", 200),
        ("localhost.", 200),
        ("app.test", 421),
        ("attacker.example", 421),
        ("localhost.attacker.example", 421),
    ] {
        assert_eq!(server.get(host, "/").status, status, "{host}");
    }
    server.log().wait_for(&["listening on 127.0.0.1:0 instead of 0.0.0.0:0", "--listen"]);
    // Also where nothing can be served.
    let failing = config.replace("echo compiling", "false");
    let failing = project(&failing).without("--listen").start();
    assert_eq!(failing.get("a.app.test", "/").status, 500);
    assert_eq!(failing.get("attacker.example", "/").status, 421);
    let typed = project(&config).flags(&["--listen", "0.0.0.0:0"]).start();
    assert!(typed.address().ip().is_unspecified(), "{}", typed.address());
}
