//! Nothing of one request is readable in the next. A guest writes all over its instance and ends in each way
//! there is; whatever instance comes then looks everywhere. There are fewer slots than requests, so they are
//! used again and again. The pool's settings one by one are tested beside them, in `engine/config`.

use std::thread::{scope, sleep};
use std::time::Duration;

use residue_guest::{FIELD, PLACES, Wasi, component, places};

use crate::harness::{Connection, Daylily, Ending, Request, Response, Setup, as_component, each};

/// Those of 0.2 are linked directly, but for one.
const GUESTS: [(Wasi, &str); 3] = [(Wasi::V2, "v2"), (Wasi::V2, "v2-component"), (Wasi::V3, "v3")];

/// How a guest that has written ends, by the route and the path that make it so.
#[derive(Debug, Clone, Copy)]
enum Write {
    Returns,
    Traps,
    /// Before its answer, and after it has begun.
    UsesUpCpuTime,
    UsesUpCpuTimeAfterHead,
    UsesUpWallTime,
    UsesUpWallTimeWaiting,
    /// While it spins, while it waits, and while it spins behind its answer.
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

/// Routes to the guest for each wasi:http: with ample limits, with little CPU time, with little wall time; and
/// `other`, to a component that is the same but for its bytes, so that it has another image of its memory.
fn setup(slots: u32) -> Setup {
    let server = format!("max_concurrency = {slots}\nmax_queue = 1000\nqueue_timeout = '60s'");
    GUESTS.iter().fold(Setup::new().server(&server), |setup, &(wasi, name)| {
        let mut component = component(wasi).expect("a component");
        if name == "v2-component" {
            component = as_component(&component);
        }
        // A custom section without a name.
        let other = [component.as_slice(), &[0, 1, 0]].concat();
        let (file, other_file) = (format!("{name}.wasm"), format!("{name}-other.wasm"));
        let keys = |kind: &str, limits: &str| format!("name = '{kind}.{name}'\nhost = '{kind}.{name}'\n{limits}");
        setup
            .file(&file, &component)
            .file(&other_file, &other)
            .route_with(&keys("ample", "cpu_time = '1m'\nwall_time = '2m'"), &file)
            .route_with(&keys("other", "cpu_time = '1m'\nwall_time = '2m'"), &other_file)
            .route_with(&keys("cpu", "cpu_time = '400ms'\nwall_time = '2m'"), &file)
            .route_with(&keys("wall", "cpu_time = '1m'\nwall_time = '400ms'"), &file)
    })
}

/// Fails unless the guest answered, and found nothing.
#[track_caller]
fn expect_clean(response: &Response) {
    assert_eq!(found(response), Vec::<&str>::new(), "{response:?}");
}

#[track_caller]
fn found(response: &Response) -> Vec<&'static str> {
    assert_eq!(response.status, 200, "{response:?}");
    places(response.values(FIELD)[0]).expect("what it found")
}

/// Lets a guest write, and end like this.
fn write(server: &Daylily, flavour: &str, write: Write, mib: u32) {
    let send = |kind: &str, ending: &str| {
        let request = Request::get(&format!("{kind}.{flavour}"), &format!("/write-{ending}?mib={mib}"));
        let mut connection = server.connect();
        connection.send(&request.bytes());
        connection
    };
    let response = |mut connection: Connection| connection.response("GET");
    let leave = |connection: Connection| {
        // By then it has written, on any machine that is not very slow.
        sleep(Duration::from_millis(150));
        connection.leave_rudely();
    };
    match write {
        Write::Returns => expect_clean(&response(send("ample", "return"))),
        Write::Traps => drop(response(send("ample", "trap")).expect_refusal(500, "guest trapped")),
        Write::UsesUpCpuTime => drop(response(send("cpu", "spin")).expect_refusal(504, "cpu time used up")),
        Write::UsesUpCpuTimeAfterHead => {
            let response = response(send("cpu", "head"));
            expect_clean(&response);
            assert_eq!(response.ending, Ending::Truncated, "{response:?}");
        }
        Write::UsesUpWallTime => drop(response(send("wall", "spin")).expect_refusal(504, "time used up")),
        Write::UsesUpWallTimeWaiting => drop(response(send("wall", "wait")).expect_refusal(504, "time used up")),
        Write::IsLeft => leave(send("ample", "spin")),
        Write::IsLeftWaiting => leave(send("ample", "wait")),
        Write::IsLeftAfterHead => {
            let mut connection = send("ample", "head");
            expect_clean(&connection.head());
            connection.leave_rudely();
        }
    }
}

/// Writes in every way, and looks after each, on a connection that stays.
fn write_and_look(server: &Daylily, flavour: &str) {
    let cases: Vec<(Write, u32)> = WRITES.iter().flat_map(|write| SIZES_MIB.map(|mib| (*write, mib))).collect();
    each(&cases, |&(what, mib)| {
        write(server, flavour, what, mib);
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
        write_and_look(&server, flavour);
    }
}

#[test]
fn few_slots_for_requests_side_by_side() {
    let server = setup(3).start();
    scope(|scope| {
        for (_, flavour) in GUESTS.iter().cycle().take(6) {
            let server = &server;
            scope.spawn(move || write_and_look(server, flavour));
        }
    });
}
