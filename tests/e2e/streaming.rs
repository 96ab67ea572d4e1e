//! Bodies of any size are streamed without being buffered as a whole.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Connection, Daylily, Ending, PATIENCE, Request, Setup, Shared, eventually};

const MIB: usize = 1 << 20;
const BODY: usize = 64 * MIB;
/// Most growth of the process while a body is streamed: far less than the body, and more than socket buffers and a
/// guest's memory.
const GROWTH_KIB: u64 = 20 * 1024;

static SERVER: Shared = Shared::new(|| {
    let roomy = "max_body = '100MiB'\ncpu_time = '60s'\nwall_time = '5m'";
    Setup::new().route("echo.test", "echo", roomy).route("service03.test", "service03", roomy).route(
        "stream.test",
        "stream",
        roomy,
    )
});

/// 1 MiB in which every byte differs from its neighbours.
fn pattern() -> Vec<u8> {
    (0..MIB).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Sends a chunked body of 64 MiB in a thread; counts the MiB sent.
fn send_body(mut socket: TcpStream, sent: Arc<AtomicUsize>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        socket.set_write_timeout(Some(PATIENCE * 4)).expect("a write time-out");
        let mut chunk = format!("{MIB:x}\r\n").into_bytes();
        chunk.extend(pattern());
        chunk.extend(b"\r\n");
        for _ in 0..BODY / MIB {
            socket.write_all(&chunk).expect("the server reads on");
            sent.fetch_add(1, Ordering::SeqCst);
        }
        socket.write_all(b"0\r\n\r\n").expect("the server reads on");
    })
}

fn echo_head(host: &str) -> Vec<u8> {
    Request::post(host, "/echo").header("Transfer-Encoding", "chunked").head_bytes()
}

/// Reads the rest of an echoed body and compares every byte.
fn expect_pattern(connection: &mut Connection) {
    let pattern = pattern();
    let mut response = connection.head();
    assert_eq!(response.status, 200, "{response:?}");
    let mut at = 0;
    connection.finish(&mut response, "POST", &mut |mut piece| {
        while !piece.is_empty() {
            let expected = &pattern[at % MIB..];
            let length = piece.len().min(expected.len());
            assert!(piece[..length] == expected[..length], "byte {at} or one of the next {length} differs");
            (at, piece) = (at + length, &piece[length..]);
        }
    });
    assert_eq!((at, response.ending), (BODY, Ending::Complete));
}

/// Runs `work`, and fails if the server's resident memory grew meanwhile.
fn with_flat_memory(server: &Daylily, work: impl FnOnce()) {
    let process = server.process();
    let before = process.resident_kib();
    process.forget_peak();
    work();
    let peak = process.peak_resident_kib();
    assert!(peak < before + GROWTH_KIB, "resident memory grew from {before} KiB to {peak} KiB");
}

/// Waits until `read` has returned the same value for half a second.
fn settled<T: PartialEq + Copy>(mut read: impl FnMut() -> T) -> T {
    let (mut last, mut since) = (read(), Instant::now());
    let settled = eventually(PATIENCE * 2, || {
        let now = read();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    });
    assert!(settled, "still changing");
    last
}

#[test]
fn a_64_mib_echo_keeps_memory_flat() {
    for host in ["echo.test", "service03.test"] {
        // A separate server, because other tests would change its memory use.
        let server = Setup::new()
            .defaults("max_body = '100MiB'\ncpu_time = '60s'\nwall_time = '5m'")
            .route("echo.test", "echo", "")
            .route("service03.test", "service03", "")
            .start();
        let warm = server.exchange(&Request::post(host, "/echo").body(&pattern()));
        assert!(warm.body == pattern() && warm.ending == Ending::Complete);
        with_flat_memory(&server, || {
            let mut connection = server.connect();
            connection.send(&echo_head(host));
            let writer = send_body(connection.writer(), Arc::default());
            expect_pattern(&mut connection);
            writer.join().expect("the whole body was sent");
        });
    }
}

#[test]
fn a_client_that_does_not_read_stops_the_guest_and_the_sender() {
    for host in ["echo.test", "service03.test"] {
        let server = SERVER.get();
        with_flat_memory(&server, || {
            let mut connection = Connection::open_narrow(server.address());
            let sent = Arc::new(AtomicUsize::new(0));
            connection.send(&echo_head(host));
            let writer = send_body(connection.writer(), sent.clone());
            let stuck = settled(|| sent.load(Ordering::SeqCst));
            assert!(stuck < BODY / MIB / 2, "{stuck} MiB were taken though nobody reads the response");
            expect_pattern(&mut connection);
            writer.join().expect("the whole body was sent");
        });
    }
}

#[test]
fn a_guest_that_writes_faster_than_the_client_reads_waits() {
    let server = SERVER.get();
    for (host, target) in [("stream.test", "/n"), ("service03.test", "/stream")] {
        with_flat_memory(&server, || {
            let mut connection = Connection::open_narrow(server.address());
            let target = format!("{target}?chunks={}&size={MIB}&pause_ms=0", BODY / MIB);
            connection.send(&Request::get(host, &target).bytes());
            connection.some_bytes();
            settled(|| server.process().cpu_time());
            let mut response = connection.head();
            let mut length = 0;
            connection.finish(&mut response, "GET", &mut |piece| length += piece.len());
            assert_eq!((length, response.ending), (BODY, Ending::Complete));
        });
    }
}

#[test]
fn each_chunk_arrives_before_the_next_is_made() {
    let server = SERVER.get();
    let mut connection = server.connect();
    connection.send(&echo_head("echo.test"));
    let mut response = connection.head();
    // The echo of a chunk must be received while the request is still open.
    for text in [&b"first"[..], b"second", b"third"] {
        connection.send(&[format!("{:x}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat());
        connection.read_chunk(text);
    }
    connection.send(b"0\r\n\r\n");
    connection.finish(&mut response, "POST", &mut |piece| panic!("more than was sent: {piece:?}"));
    assert_eq!(response.ending, Ending::Complete);
}

#[test]
fn bodies_of_every_size_come_back_as_they_went() {
    let server = SERVER.get();
    let whole = pattern();
    for host in ["echo.test", "service03.test"] {
        let mut connection = server.connect();
        for size in [0, 1, 2, 1023, 1024, 4095, 4096, 4097, 65_535, 65_536, 65_537, MIB] {
            let body = &whole[..size];
            for request in [
                Request::post(host, "/echo").body(body),
                Request::post(host, "/echo").chunked(&body.chunks(999).collect::<Vec<_>>()),
            ] {
                let response = connection.exchange(&request);
                assert_eq!((response.status, response.ending), (200, Ending::Complete), "{host} {size}");
                assert!(response.body == body, "{host}: {size} bytes came back as {}", response.body.len());
            }
        }
    }
}
