//! Which route gets a request: by host and path, the most specific first.

use crate::harness::{Request, Setup, Shared, each, guest};

/// The guest of each route responds with the route's name, which is in its environment.
static SERVER: Shared = Shared::new(|| {
    let routes = [
        ("exact-root", "host = 'www.example.com'\npath = '/'"),
        ("exact-any", "host = 'www.example.com'"),
        ("exact-v1", "host = 'www.example.com'\npath = '/v1/*'"),
        ("exact-v1-users", "host = 'www.example.com'\npath = '/v1/users/*'"),
        ("exact-v1-me", "host = 'www.example.com'\npath = '/v1/users/me'"),
        ("wild", "host = '*.example.com'\npath = '/v1/*'"),
        ("wild-long", "host = '*.api.example.com'\npath = '/v1/*'"),
        ("upper", "host = 'UPPER.Test'"),
        ("address", "host = '127.0.0.1'"),
        ("address6", "host = '[::1]'"),
        ("star", "host = 'star.test'\npath = '/only'"),
        ("any-health", "path = '/health'"),
        ("any-v1", "path = '/v1/*'"),
    ];
    routes.iter().fold(Setup::new().env("SECRET", "leaked"), |setup, (name, keys)| {
        setup.route_at(&format!("name = '{name}'\n{keys}\nenv = {{ ROUTE = '{name}' }}"), "env")
    })
});

const NONE: &str = "";

#[track_caller]
fn check(request: &Request, route: &str) {
    let response = SERVER.get().exchange(request);
    if route == NONE {
        response.expect_refusal(404, "no such route");
        return;
    }
    let text = response.text();
    let answered = text.lines().find_map(|line| line.strip_prefix("env ROUTE="));
    assert_eq!((response.status, answered), (200, Some(route)), "{text}");
}

#[test]
fn the_most_specific_route_answers() {
    let _keep = SERVER.get();
    let cases = [
        ("www.example.com", "/", "exact-root"),
        ("www.example.com", "/?query", "exact-root"),
        ("www.example.com", "/x", "exact-any"),
        ("www.example.com", "/v1", "exact-any"),
        ("www.example.com", "/v1/", "exact-v1"),
        ("www.example.com", "/v1/x", "exact-v1"),
        ("www.example.com", "/v1/?x=/v1/users/me", "exact-v1"),
        ("www.example.com", "/v1x", "exact-any"),
        ("www.example.com", "/v1/users", "exact-v1"),
        ("www.example.com", "/v1/users/", "exact-v1-users"),
        ("www.example.com", "/v1/users/you", "exact-v1-users"),
        ("www.example.com", "/v1/users/me", "exact-v1-me"),
        ("www.example.com", "/v1/users/me?a=b", "exact-v1-me"),
        ("www.example.com", "/v1/users/me/", "exact-v1-users"),
        ("www.example.com", "/V1/x", "exact-any"),
        ("www.example.com:8080", "/", "exact-root"),
        ("WWW.Example.COM", "/", "exact-root"),
        ("WWW.EXAMPLE.COM:80", "/v1/x", "exact-v1"),
        ("other.example.com", "/v1/x", "wild"),
        ("OTHER.example.com:1", "/v1/x", "wild"),
        ("a.b.example.com", "/v1/x", "wild"),
        ("a.api.example.com", "/v1/x", "wild-long"),
        ("a.b.api.example.com", "/v1/x", "wild-long"),
        ("api.example.com", "/v1/x", "wild"),
        ("example.com", "/v1/x", "any-v1"),
        ("badexample.com", "/v1/x", "any-v1"),
        ("www.example.com.evil.test", "/v1/x", "any-v1"),
        ("other.example.com", "/health", "any-health"),
        ("other.example.com", "/x", NONE),
        ("upper.test", "/", "upper"),
        ("127.0.0.1", "/", "address"),
        ("127.0.0.1:3000", "/", "address"),
        ("[::1]", "/", "address6"),
        ("[::1]:3000", "/", "address6"),
        ("star.test", "/only", "star"),
        ("star.test", "/other", NONE),
        ("nowhere.test", "/health", "any-health"),
        ("nowhere.test", "/health/", NONE),
        ("nowhere.test", "/", NONE),
        ("nowhere.test", "/v1/x", "any-v1"),
    ];
    each(&cases, |(host, target, route)| check(&Request::get(host, target), route));
}

#[test]
fn the_target_may_name_the_host() {
    let _keep = SERVER.get();
    let cases = [
        ("other.test", "http://www.example.com/v1/x", "exact-v1"),
        ("www.example.com", "http://a.api.example.com:80/v1/x", "wild-long"),
        ("www.example.com", "http://WWW.example.COM", "exact-root"),
        ("www.example.com", "http://www.example.com?query", "exact-root"),
        ("www.example.com", "http://nowhere.test/", NONE),
    ];
    each(&cases, |(host, target, route)| check(&Request::get(host, target), route));
}

#[test]
fn a_request_without_a_host_takes_the_routes_of_any_host() {
    let _keep = SERVER.get();
    check(&Request::get("", "/health").http10(), "any-health");
    check(&Request::get("", "/x").http10(), NONE);
    check(&Request::get("", "/v1/x").http10().header("Host", "www.example.com"), "exact-v1");
}

#[test]
fn options_of_everything_is_for_routes_of_every_path() {
    let _keep = SERVER.get();
    check(&Request::new("OPTIONS", "www.example.com", "*"), "exact-any");
    check(&Request::new("OPTIONS", "nowhere.test", "*"), NONE);
}

#[test]
fn a_thousand_routes_are_told_apart() {
    let component = guest("env").display().to_string();
    let routes: String = (0..1000)
        .map(|at| format!("[[route]]\nhost = 'h{at}.test'\ncomponent = '{component}'\nenv = {{ ROUTE = '{at}' }}\n"))
        .collect();
    let server = Setup::bare(&["-c", "many.toml"]).file("many.toml", routes.as_bytes()).start();
    for at in [0, 1, 499, 998, 999] {
        let text = server.get(&format!("h{at}.test"), "/").text();
        assert!(text.contains(&format!("env ROUTE={at}\n")), "{text}");
    }
    server.get("h1000.test", "/").expect_refusal(404, "no such route");
}

#[test]
fn a_route_has_its_own_limits_and_grants_over_the_defaults() {
    let server = Setup::new()
        .defaults("max_body = 10\nallow_http = ['http://localhost:*']\nenv = { A = 'default', B = 'default' }\nvars = { V = 'default' }")
        .route("default.test", "echo", "")
        .route("larger.test", "echo", "max_body = 20")
        .route("env.test", "env", "env = { B = 'route', C = 'route' }\nvars = { V = 'route' }")
        .route("plain.test", "env", "")
        .start();
    let send = |host: &str, size| server.exchange(&Request::post(host, "/").body(&vec![b'x'; size])).status;
    assert_eq!([send("default.test", 10), send("default.test", 11)], [200, 413]);
    assert_eq!([send("larger.test", 20), send("larger.test", 21)], [200, 413]);
    let lines = |host: &str| -> Vec<String> {
        let text = server.get(host, "/?var=V").text();
        text.lines().filter(|line| line.starts_with("env") || line.starts_with("var")).map(str::to_owned).collect()
    };
    assert_eq!(lines("env.test"), ["env A=default", "env B=route", "env C=route", "var V: route"]);
    assert_eq!(lines("plain.test"), ["env A=default", "env B=default", "var V: default"]);
}
