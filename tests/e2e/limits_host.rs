//! `max_host_memory`: the memory that the host keeps for a guest in addition to the guest's own.

use crate::harness::{Setup, Shared, as_component, built, each};

/// Guests linked in both ways, on routes with the default of 16 MiB and on routes with a large limit.
fn setup() -> Setup {
    let limits = "cpu_time = '2m'\nwall_time = '2m'";
    ["hoard", "service03"].into_iter().fold(Setup::new().defaults(limits), |setup, name| {
        let component = std::fs::read(built(name)).expect("a guest");
        let forms = [("direct", component.clone()), ("entire", as_component(&component))];
        forms.into_iter().fold(setup, |setup, (form, component)| {
            let file = format!("{name}-{form}.wasm");
            let keys = |host: &str, limits: &str| format!("name = '{host}'\nhost = '{host}'\n{limits}");
            setup
                .file(&file, &component)
                .route_with(&keys(&format!("{form}-{name}.test"), ""), &file)
                .route_with(&keys(&format!("ample-{form}-{name}.test"), "max_host_memory = '1GiB'"), &file)
        })
    })
}

static SERVER: Shared = Shared::new(setup);

/// Guests, and targets that exceed the budget; with as many fields as one set may have.
const TOO_MUCH: [(&str, &str); 5] = [
    ("hoard", "/fields?count=150&names=840"),
    ("hoard", "/copies?count=150&names=840"),
    ("hoard", "/paths?count=400&bytes=60000"),
    ("hoard", "/bodies?count=100&bytes=65536"),
    ("service03", "/fields?count=150&names=840"),
];

/// Targets that make the host keep as much as its limit of handles allows: 106 MB, and 60 MB.
const FAR_TOO_MUCH: [(&str, &str); 4] = [
    ("hoard", "/fields?count=980&names=840"),
    ("hoard", "/copies?count=980&names=840"),
    ("hoard", "/paths?count=980&bytes=60000"),
    ("service03", "/fields?count=980&names=840"),
];

/// Released memory does not count, and memory shared by several handles counts once.
const NOT_TOO_MUCH: [(&str, &str); 5] = [
    ("hoard", "/dropped-fields?count=150&names=840"),
    ("hoard", "/shared?count=900"),
    ("hoard", "/bodies?count=17&bytes=65536"),
    ("hoard", "/fields?count=200&names=20"),
    ("service03", "/dropped-fields?count=150&names=840"),
];

fn in_both_forms<'a>(cases: &[(&'a str, &'a str)]) -> Vec<(String, &'a str)> {
    let forms = ["direct", "entire"];
    cases.iter().flat_map(|&(guest, target)| forms.map(|form| (format!("{form}-{guest}.test"), target))).collect()
}

#[test]
fn over_the_budget_a_guest_traps_and_the_log_names_it() {
    let server = SERVER.get();
    each(&in_both_forms(&TOO_MUCH), |(host, target)| {
        let id = server.get(host, target).expect_refusal(500, "guest trapped");
        server.log().wait_for(&[&id, "max_host_memory = 16MiB"]);
        // Only the budget made it fail.
        server.get(&format!("ample-{host}"), target).expect(200, "ok\n");
    });
}

#[test]
fn under_the_budget_it_does_not() {
    let server = SERVER.get();
    each(&in_both_forms(&NOT_TOO_MUCH), |(host, target)| {
        server.get(host, target).expect(200, "ok\n");
    });
}

/// Without the budget, 980 sets of 840 fields took 106 MB of the worker's memory, in addition to `max_memory`.
#[test]
fn the_worker_grows_by_no_more_than_the_budget() {
    let server = setup().start();
    each(&in_both_forms(&FAR_TOO_MUCH), |(host, target)| {
        server.get(host, "/fields?count=1&names=10").expect(200, "ok\n");
        let process = server.process();
        process.forget_peak();
        let before = process.resident_kib();
        server.get(host, target).expect_refusal(500, "guest trapped");
        let peak = process.peak_resident_kib();
        assert!(peak < before + 32 * 1024, "from {before} KiB to {peak} KiB with a budget of 16 MiB");
    });
}

/// Streams and handles have their own limits, in both ways of linking.
#[test]
fn streams_without_end_are_refused() {
    let server = SERVER.get();
    each(&["direct-service03.test", "entire-service03.test"], |host| {
        server.get(host, "/streams?count=1000").expect(200, "ok\n");
        let before = server.process().resident_kib();
        server.get(host, "/streams?count=1000000").expect_refusal(500, "guest trapped");
        let after = server.process().resident_kib();
        assert!(after < before + 32 * 1024, "from {before} KiB to {after} KiB");
    });
}
