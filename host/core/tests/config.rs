//! What a valid configuration means: defaults, merging, and flags over all of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Fixed, overrides};
use daylily_core::allow_http::{AllowHttp, Scheme};
use daylily_core::config::{
    self, AccessLogFormat, ComponentSource, Config, Overrides, Route, RouteLimits, SCHEDULES_STORE, ServerLimits,
    Table, Value, Workers, options,
};
use daylily_core::route::RouteTable;
use daylily_core::trusted::TrustedPeer;

mod common;

const FULL: &str = include_str!("../../../tests/cases/config/full.toml");

fn parse(text: &str, overrides: &Overrides) -> Config {
    config::parse_in(&Fixed::of_the_example(), Path::new("/etc/daylily/daylily.toml"), text, overrides).unwrap()
}

fn route<'a>(config: &'a Config, name: &str) -> &'a Route {
    config.routes.iter().find(|route| route.name == name).unwrap()
}

/// `NAME=value` for each, in order.
fn pairs(pairs: &BTreeMap<String, Value>) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={}", value.text())).collect::<Vec<_>>().join(" ")
}

fn dirs(route: &Route) -> String {
    let text = |dir: &config::DirGrant| {
        format!("{}::{}{}", dir.host.display(), dir.guest, if dir.read_only { ":ro" } else { "" })
    };
    route.grants.dirs.iter().map(text).collect::<Vec<_>>().join(" ")
}

/// The places to listen at, in order; `None` if nobody said any.
fn listen(config: &Config) -> Option<String> {
    let places = config.listen.as_ref()?.iter().map(ToString::to_string);
    Some(places.collect::<Vec<_>>().join(" "))
}

/// Those of the full example.
fn trusted() -> Vec<TrustedPeer> {
    ["10.0.0.0/8", "::1", "unix"].map(|peer| peer.parse().unwrap()).to_vec()
}

#[test]
fn full() {
    let config = parse(FULL, &Overrides::default());
    assert_eq!(listen(&config).as_deref(), Some("127.0.0.1:3000 systemd:web"));
    assert!(!config.dev);
    assert_eq!(config.log.to_string(), "info");
    assert_eq!(config.workers, Workers::Auto);
    assert_eq!(config.control, Some(PathBuf::from("/run/daylily/control.sock")));
    assert_eq!(config.cache_dir, Some(PathBuf::from("/etc/daylily/compiled")));
    assert_eq!(config.cache_max_bytes, 1 << 30);
    assert_eq!(config.server, ServerLimits { trusted: trusted(), ..ServerLimits::default() });

    // What a route does not say is as in [defaults]; host and path are any.
    let hello = route(&config, "/*");
    assert_eq!(hello.limits, RouteLimits::default());
    assert_eq!(hello.component, Some(ComponentSource::File(PathBuf::from("/opt/hello.wasm"))));
    assert_eq!((hello.host.to_string(), hello.path.to_string()), (String::new(), "/*".to_owned()));
    assert_eq!(pairs(&hello.grants.env), "REGION=here STAGE=test");
    assert_eq!(pairs(&hello.grants.vars), "greeting=hello");
    assert_eq!(dirs(hello), "/etc/daylily/shared::/shared:ro");
    assert!(hello.grants.allow_http.find(Scheme::Https, "api.example.com", 443).is_some());

    // What it says replaces that; `env` and `vars` are merged.
    let site = route(&config, "/site/*").files.clone().unwrap();
    assert_eq!((site.dir, site.fallback), (PathBuf::from("/etc/daylily/public"), Some("index.html".to_owned())));
    assert_eq!(site.cache_control.len(), 2);

    let api = route(&config, "api");
    let expected = RouteLimits {
        max_concurrency: Some(8),
        max_memory_bytes: 128 << 20,
        cpu_time: Duration::from_millis(250),
        max_body_bytes: 1_000_000,
        ..RouteLimits::default()
    };
    assert_eq!(api.limits, expected);
    assert_eq!(api.component, Some(ComponentSource::File(PathBuf::from("/etc/daylily/components/api.wasm"))));
    assert_eq!((api.host.to_string(), api.path.to_string()), ("*.example.com".to_owned(), "/v1/*".to_owned()));
    assert_eq!(pairs(&api.grants.env), "KEY=k REGION=here STAGE=production TOKEN=t ZONE=file");
    assert_eq!(pairs(&api.grants.vars), "database=d farewell=bye greeting=hello");
    assert_eq!(dirs(api), "/srv/api::/data /etc/daylily/cache::/cache");
    assert!(api.grants.allow_http.is_empty());

    let table = RouteTable::new(&config.routes);
    assert_eq!(table.find(Some("a.example.com"), "/v1/x"), Some(0));
    assert_eq!(table.find(Some("a.example.com"), "/v2"), Some(1));
}

#[test]
fn the_smallest_is_all_defaults() {
    fn check(text: &str) {
        let config = parse(text, &Overrides::default());
        assert_eq!(config.listen, None, "{text:?}");
        assert_eq!(config.workers, Workers::Auto, "{text:?}");
        assert_eq!((&config.control, &config.cache_dir), (&None, &None), "{text:?}");
        assert_eq!(config.server, ServerLimits::default(), "{text:?}");
        let hello = route(&config, "/*");
        assert_eq!(hello.limits, RouteLimits::default(), "{text:?}");
        assert_eq!(hello.grants, config::Grants::default(), "{text:?}");
    }
    check("[[route]]\ncomponent = 'hello.wasm'\n");
    check("[[route]]\r\ncomponent = 'hello.wasm'\r\n");
    check("\u{feff}[[route]]\ncomponent = 'hello.wasm'");
    check("route = [{ component = 'hello.wasm' }]");
    check("[server]\n[defaults]\n[[route]]\ncomponent = 'hello.wasm'");
}

#[test]
fn where_to_listen() {
    fn check(value: &str, flags: &[&str], expected: &str) {
        let text = format!("listen = {value}\n[[route]]\ncomponent = 'hello.wasm'\n");
        let flags: Vec<_> = flags.iter().map(|flag| ("listen", *flag)).collect();
        let config = parse(&text, &overrides(&flags));
        assert_eq!(listen(&config).as_deref(), Some(expected), "{value}");
    }
    check("'127.0.0.1:80'", &[], "127.0.0.1:80");
    check("['127.0.0.1:80']", &[], "127.0.0.1:80");
    check("'systemd'", &[], "systemd");
    check("['systemd:b', '[::1]:80', 'systemd:a']", &[], "systemd:b [::1]:80 systemd:a");
    check("['localhost:80', 'localhost:81']", &["systemd"], "systemd");
    check("'systemd'", &["a:1", "b:1", "a:1"], "a:1 b:1");
    check("['unix:/a?mode=0666', '[::1]:80']", &[], "unix:/a?mode=0666 [::1]:80");
    check("'systemd'", &["unix:/a", "unix:/a?mode=0600", "unix:/b"], "unix:/a unix:/b");
}

#[test]
fn how_many_workers() {
    fn check(value: &str, flag: Option<&str>, expected: &str) {
        let text = format!("workers = {value}\n[[route]]\ncomponent = 'hello.wasm'\n");
        let flag = flag.map(|flag| ("workers", flag));
        let config = parse(&text, &overrides(flag.as_slice()));
        assert_eq!(config.workers.to_string(), expected, "{value}");
    }
    check("'auto'", None, "auto");
    check("1", None, "1");
    check("256", None, "256");
    check("0x10", None, "16");
    check("4", Some("auto"), "auto");
    check("'auto'", Some("2"), "2");
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    fn check(file: &str, expected: &str) {
        let text = "control = 'a/b.wasm'\ncache_dir = 'a/b.wasm'\n[[route]]\ncomponent = 'a/b.wasm'\n";
        let config = config::parse(Path::new(file), text, &Overrides::default()).unwrap();
        let expected = PathBuf::from(expected);
        assert_eq!(config.control.as_ref(), Some(&expected));
        assert_eq!(config.cache_dir.as_ref(), Some(&expected));
        assert_eq!(route(&config, "/*").component, Some(ComponentSource::File(expected)));
    }
    check("daylily.toml", "a/b.wasm");
    check("./daylily.toml", "./a/b.wasm");
    check("../conf/daylily.toml", "../conf/a/b.wasm");
    check("/etc/daylily.toml", "/etc/a/b.wasm");
}

fn flags() -> Overrides {
    overrides(&[
        ("listen", "127.0.0.1:0"),
        ("dev", ""),
        ("log", "trace"),
        ("format", "text"),
        ("workers", "2"),
        ("control", "flag.sock"),
        ("cache_dir", "flag"),
        ("max_concurrency", "3"),
        ("max_queue", "0"),
        ("max_memory", "1MiB"),
        ("cpu_time", "7ms"),
        ("wall_time", "7s"),
        ("max_body", "77"),
        ("env", "STAGE=first"),
        ("env", "STAGE=flag"),
        ("env", "NEW=1"),
        ("vars", "greeting=flag"),
        ("dirs", "one::/flag"),
        ("dirs", "two::/flag:ro"),
        ("allow_http", "http://127.0.0.1:9000"),
    ])
}

/// A file may state each default, and means the same with it.
#[test]
fn defaults_are_in_their_ranges() {
    for row in options::rows().into_iter().filter(|row| row.table != Table::Route && !row.range.is_empty()) {
        let table = match row.table {
            Table::AccessLog => "[access_log]\n",
            Table::Admin => "[admin]\n",
            Table::Server => "[server]\n",
            // In tests of their own: the file without the table has no store, no schedule and no middleware.
            Table::Store | Table::Schedule | Table::Middleware => continue,
            Table::Defaults => "[defaults]\n",
            Table::Top | Table::Build | Table::Route => "",
        };
        let text = format!("{table}{} = {}\n[[route]]\ncomponent = 'a.wasm'\n", row.key, row.default.trim_matches('`'));
        assert_eq!(
            parse(&text, &Overrides::default()),
            parse("[[route]]\ncomponent = 'a.wasm'\n", &Overrides::default())
        );
    }
}

#[test]
fn stores_have_defaults() {
    let config = |store: &str| {
        let text = format!("[store.a]\n{store}\n[[route]]\ncomponent = 'a.wasm'\nstores = ['a', 'b=a']\n");
        parse(&text, &Overrides::default())
    };
    let stated = "backend = 'sqlite'\ndurability = 'process'\nmax_key = '1KiB'\nmax_value = '1MiB'\nmax_store = '1GiB'";
    assert_eq!(config(""), config(stated));
    assert_ne!(config(""), config("ttl = '1h'"));
    let granted = |config: &Config| {
        let grants = route(config, "/*").grants.stores.iter();
        grants.map(|grant| format!("{}={}", grant.label, grant.store)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(granted(&config("")), "a=a b=a");
}

#[test]
fn schedules_have_defaults() {
    let config = |keys: &str| {
        let schedule = format!("[[schedule]]\ncron = '*/5 * * * *'\nroute = '/*'\npath = '/x?y=1'\n{keys}\n");
        parse(&format!("[[route]]\ncomponent = 'a.wasm'\n{schedule}"), &Overrides::default())
    };
    let stated = "name = '/x'\ntime_zone = 'UTC'\nmethod = 'GET'\nretries = 0\noverlap = 'skip'\ncatch_up = 'none'";
    assert_eq!(config(""), config(stated));
    assert_ne!(config(""), config("retries = 1"));
    let stores: Vec<_> = config("").stores.into_iter().map(|store| store.name).collect();
    assert_eq!(stores, [SCHEDULES_STORE]);
}

/// A flag grants a store to the routes that list none, and declares it if the file does not.
#[test]
fn flags_grant_stores() {
    let flags = overrides(&[("stores", "visits"), ("stores", "cache=other"), ("stores", "cache=flagged")]);
    let config = parse("[store.visits]\nmax_key = 7\n[[route]]\ncomponent = 'a.wasm'\n", &flags);
    let granted: Vec<_> = route(&config, "/*").grants.stores.iter().map(|grant| grant.store.as_str()).collect();
    assert_eq!(granted, ["visits", "flagged"]);
    let declared: Vec<_> = config.stores.iter().map(|store| (store.name.as_str(), store.max_key_bytes)).collect();
    assert_eq!(declared, [("visits", 7), ("flagged", 1024)]);
}

#[test]
fn flags_go_over_defaults_but_not_over_routes() {
    let config = parse(FULL, &flags());
    assert_eq!(listen(&config).as_deref(), Some("127.0.0.1:0"));
    assert!(config.dev);
    assert_eq!(config.log.to_string(), "trace");
    assert_eq!(config.access_log.format, AccessLogFormat::Text);
    assert_eq!(config.workers.to_string(), "2");
    assert_eq!(config.control, Some(PathBuf::from("flag.sock")));
    assert_eq!(config.cache_dir, Some(PathBuf::from("flag")));
    let server = ServerLimits { max_concurrency: 3, max_queue: 0, trusted: trusted(), ..ServerLimits::default() };
    assert_eq!(config.server, server);

    let overridden = RouteLimits {
        max_memory_bytes: 1 << 20,
        cpu_time: Duration::from_millis(7),
        wall_time: Duration::from_secs(7),
        max_body_bytes: 77,
        ..RouteLimits::default()
    };
    let hello = route(&config, "/*");
    assert_eq!(hello.limits, overridden);
    assert_eq!(pairs(&hello.grants.env), "NEW=1 REGION=here STAGE=flag");
    assert_eq!(pairs(&hello.grants.vars), "greeting=flag");
    assert_eq!(dirs(hello), "two::/flag:ro");
    assert!(hello.grants.allow_http.find(Scheme::Http, "127.0.0.1", 9000).is_some());
    assert!(hello.grants.allow_http.find(Scheme::Https, "api.example.com", 443).is_none());

    let api = route(&config, "api");
    let expected = RouteLimits {
        wall_time: Duration::from_secs(7),
        max_memory_bytes: 128 << 20,
        cpu_time: Duration::from_millis(250),
        max_body_bytes: 1_000_000,
        max_concurrency: Some(8),
        ..RouteLimits::default()
    };
    assert_eq!(api.limits, expected);
    assert_eq!(pairs(&api.grants.env), "KEY=k NEW=1 REGION=here STAGE=production TOKEN=t ZONE=file");
    assert_eq!(dirs(api), "/srv/api::/data /etc/daylily/cache::/cache");
    assert_eq!(api.grants.allow_http, AllowHttp::default());
}

#[test]
fn without_a_file() {
    let single = |component, flags: &Overrides| config::single(&config::NoSurroundings, component, flags).unwrap();
    let config = single(ComponentSource::HelloWorld, &Overrides::default());
    assert_eq!(config.listen, None);
    assert_eq!(config.cache_max_bytes, 1 << 30);
    assert_eq!(config.server, ServerLimits::default());
    assert_eq!(config.routes.len(), 1);
    let hello = route(&config, "/*");
    assert_eq!(hello.component, Some(ComponentSource::HelloWorld));
    assert_eq!(hello.limits, RouteLimits::default());
    assert_eq!(hello.grants, config::Grants::default());
    assert_eq!(RouteTable::new(&config.routes).find(None, "*"), Some(0));

    let config = single(ComponentSource::File("a.wasm".into()), &flags());
    assert!(config.dev);
    assert_eq!(config.server.max_queue, 0);
    assert_eq!(listen(&config).as_deref(), Some("127.0.0.1:0"));
    assert_eq!(config.cache_dir, Some(PathBuf::from("flag")));
    let app = route(&config, "/*");
    assert_eq!(app.component, Some(ComponentSource::File(PathBuf::from("a.wasm"))));
    assert_eq!(app.limits.max_body_bytes, 77);
    assert_eq!(pairs(&app.grants.env), "NEW=1 STAGE=flag");
}
