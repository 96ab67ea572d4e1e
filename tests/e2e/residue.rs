//! No request can read data of an earlier one. A guest overwrites everything in its instance and then ends in every
//! possible way; each later instance checks everything. There are fewer pool slots than requests, so slots are reused.
//! The settings of the pool are tested one by one in `host/src/call/residue.rs`.

use std::thread::scope;
use std::time::Duration;

use residue_guest::{FIELD, PLACES, Wasi, component, places};

use crate::harness::{Connection, Daylily, Ending, PATIENCE, Request, Response, Setup, as_component, each, eventually};

/// The guests of 0.2 are linked directly, except one.
const GUESTS: [(Wasi, &str); 3] = [(Wasi::P2, "p2"), (Wasi::P2, "p2-component"), (Wasi::P3, "p3")];

/// How a guest ends after it has written. The route and the path determine it.
#[derive(Debug, Clone, Copy)]
enum Write {
    Returns,
    Traps,
    /// Before its response, and after it has begun.
    UsesUpCpuTime,
    UsesUpCpuTimeAfterHead,
    UsesUpWallTime,
    UsesUpWallTimeWaiting,
    /// The client leaves while the guest spins, while it waits, and while it spins after its response has begun.
    IsLeft,
    IsLeftWaiting,
    IsLeftAfterHead,
}

const WRITES: [Write; 9] = [
    Write::Returns,
    Write::Traps,
    Write::UsesUpCpuTime,
    Write::UsesUpCpuTimeAfterHead,
    Write::UsesUpWallTime,
    Write::UsesUpWallTimeWaiting,
    Write::IsLeft,
    Write::IsLeftWaiting,
    Write::IsLeftAfterHead,
];

/// Below and above the 2 MiB that the pool keeps resident.
const SIZES_MIB: [u32; 3] = [1, 4, 32];

/// Routes to the guest for each wasi:http: with large limits, with little CPU time, with little wall time. And `other`,
/// to a component with the same code but other bytes, which therefore has another memory image.
fn setup(slots: u32) -> Setup {
    let server = format!("max_concurrency = {slots}\nmax_queue = 1000\nqueue_timeout = '60s'");
    GUESTS.iter().fold(Setup::new().server(&server), |setup, &(wasi, name)| {
        let mut component = component(wasi).expect("a component");
        if name == "p2-component" {
            component = as_component(&component);
        }
        // A custom section without a name.
        let other = [component.as_slice(), &[0, 1, 0]].concat();
        let (file, other_file) = (format!("{name}.wasm"), format!("{name}-other.wasm"));
        // A single route may take all slots.
        let keys = |kind: &str, limits: &str| {
            format!("name = '{kind}.{name}'\nhost = '{kind}.{name}'\nmax_concurrency = {slots}\n{limits}")
        };
        setup
            .file(&file, &component)
            .file(&other_file, &other)
            .route_with(&keys("ample", "cpu_time = '1m'\nwall_time = '2m'"), &file)
            .route_with(&keys("other", "cpu_time = '1m'\nwall_time = '2m'"), &other_file)
            .route_with(&keys("cpu", "cpu_time = '400ms'\nwall_time = '2m'"), &file)
            .route_with(&keys("wall", "cpu_time = '1m'\nwall_time = '400ms'"), &file)
    })
}

/// Fails unless the guest responded and found nothing.
#[track_caller]
fn expect_clean(response: &Response) {
    assert_eq!(found(response), Vec::<&str>::new(), "{response:?}");
}

#[track_caller]
fn found(response: &Response) -> Vec<&'static str> {
    assert_eq!(response.status, 200, "{response:?}");
    places(response.values(FIELD)[0]).expect("what it found")
}

/// Waits until a guest has written, before its client leaves. It spins or waits only after that. It has written when the
/// worker has used enough CPU time since `before`, or when the worker sleeps: it does not sleep between two slices of a
/// guest.
#[track_caller]
fn wait_until_written(server: &Daylily, write: Write, before: Duration, enough: Duration) {
    let worker = server.process();
    let sleeps = || worker.read("stat").rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('S'));
    let mut asleep = 0;
    let is_done = || {
        asleep = if sleeps() { asleep + 1 } else { 0 };
        asleep >= 10 || worker.cpu_time() >= before + enough
    };
    if matches!(write, Write::IsLeftWaiting) {
        let has_begun = || server.status().total("requests_in_progress") > 0;
        assert!(eventually(PATIENCE, has_begun), "the guest does not run");
    }
    assert!(eventually(PATIENCE, is_done), "the guest does not write");
}

/// Makes a guest write and end in the given way. `enough` is the CPU time of the worker within which it has written.
fn write(server: &Daylily, flavour: &str, write: Write, mib: u32, enough: Duration) {
    let before = server.process().cpu_time();
    let send = |kind: &str, ending: &str| {
        let request = Request::get(&format!("{kind}.{flavour}"), &format!("/write-{ending}?mib={mib}"));
        let mut connection = server.connect();
        connection.send(&request.bytes());
        connection
    };
    let response = |mut connection: Connection| connection.response("GET");
    let leave = |connection: Connection| {
        wait_until_written(server, write, before, enough);
        connection.leave_rudely();
    };
    match write {
        Write::Returns => expect_clean(&response(send("ample", "return"))),
        Write::Traps => drop(response(send("ample", "trap")).expect_refusal(500, "guest trapped")),
        Write::UsesUpCpuTime => drop(response(send("cpu", "spin")).expect_refusal(504, "CPU time limit exceeded")),
        Write::UsesUpCpuTimeAfterHead => {
            let response = response(send("cpu", "head"));
            expect_clean(&response);
            assert_eq!(response.ending, Ending::Truncated, "{response:?}");
        }
        Write::UsesUpWallTime => drop(response(send("wall", "spin")).expect_refusal(504, "wall time limit exceeded")),
        Write::UsesUpWallTimeWaiting => {
            drop(response(send("wall", "wait")).expect_refusal(504, "wall time limit exceeded"))
        }
        Write::IsLeft => leave(send("ample", "spin")),
        Write::IsLeftWaiting => leave(send("ample", "wait")),
        Write::IsLeftAfterHead => {
            let mut connection = send("ample", "head");
            expect_clean(&connection.head());
            connection.leave_rudely();
        }
    }
}

/// The CPU time within which one of so many guests side by side has written that much: with a margin, and with the 10 ms
/// of the kernel's resolution. Guests that use more than a slice get equal shares of the CPU.
fn enough(server: &Daylily, flavour: &str, mib: u32, side_by_side: u32) -> Duration {
    let before = server.process().cpu_time();
    write(server, flavour, Write::Returns, mib, Duration::ZERO);
    let cost = server.process().cpu_time() - before + Duration::from_millis(10);
    side_by_side * 3 * cost + Duration::from_millis(50)
}

/// Every way to end after writing, with every size, and the CPU time that writing takes at most.
fn cases(server: &Daylily, flavour: &str, side_by_side: u32) -> Vec<(Write, u32, Duration)> {
    let sizes = SIZES_MIB.map(|mib| (mib, enough(server, flavour, mib, side_by_side)));
    WRITES.iter().flat_map(|write| sizes.map(|(mib, enough)| (*write, mib, enough))).collect()
}

/// Writes and ends in every way, and checks after each, on a connection that stays open.
fn write_and_look(server: &Daylily, flavour: &str, cases: &[(Write, u32, Duration)]) {
    each(cases, |&(what, mib, enough)| {
        write(server, flavour, what, mib, enough);
        let mut connection = server.connect();
        for kind in ["ample", "other", "ample"] {
            expect_clean(&connection.exchange(&Request::get(&format!("{kind}.{flavour}"), "/look?mib=33")));
        }
    });
}

#[test]
fn what_is_written_is_found_by_the_instance_itself() {
    let server = setup(1).start();
    for (_, flavour) in GUESTS {
        for mib in SIZES_MIB {
            let response = server.get(&format!("ample.{flavour}"), &format!("/both?mib={mib}"));
            assert_eq!(found(&response), PLACES.map(|(_, name)| name), "{flavour} {mib}");
        }
    }
}

#[test]
fn one_slot_for_one_request_after_another() {
    let server = setup(1).start();
    for (_, flavour) in GUESTS {
        write_and_look(&server, flavour, &cases(&server, flavour, 1));
    }
}

#[test]
fn few_slots_for_requests_side_by_side() {
    const SLOTS: u32 = 3;
    let server = setup(SLOTS).start();
    // Measured before other guests run.
    let cases = GUESTS.map(|(_, flavour)| (flavour, cases(&server, flavour, SLOTS)));
    scope(|scope| {
        for (flavour, cases) in cases.iter().cycle().take(6) {
            let server = &server;
            scope.spawn(move || write_and_look(server, flavour, cases));
        }
    });
}
