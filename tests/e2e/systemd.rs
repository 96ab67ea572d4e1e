//! Running as a systemd service: socket activation and notifications. The test plays the part of systemd.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Connection, Daylily, Ending, HeldFile, Load, PATIENCE, Request, Setup, each, eventually, guest};

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("an address")
}

fn passed(sockets: &[&TcpListener], names: &str) -> Setup {
    let sockets = sockets.iter().map(|socket| OwnedFd::from(socket.try_clone().expect("a second handle")));
    Setup::new().route("a.test", "hello", "").without("--listen").passed(sockets.collect(), names)
}

fn hello(address: SocketAddr) {
    Connection::open(address).exchange(&Request::get("a.test", "/")).expect(200, "Hello World\n");
}

/// The names of the two sockets, the configured `listen`, and which sockets are then served.
type Use = (&'static str, &'static str, &'static [usize]);

const USES: &[Use] = &[
    ("", "", &[0, 1]),
    ("web:admin", "", &[0, 1]),
    ("web:admin", "listen = 'systemd'", &[0, 1]),
    ("web:admin", "listen = 'systemd:web'", &[0]),
    ("web:admin", "listen = 'systemd:admin'", &[1]),
    ("web:admin", "listen = ['systemd:admin', 'systemd:web']", &[1, 0]),
    ("web:admin", "listen = ['systemd:admin', 'systemd']", &[1, 0]),
    ("web:web", "listen = 'systemd:web'", &[0, 1]),
];

#[test]
fn sockets_that_are_passed_are_served() {
    each(USES, |(names, listen, served)| {
        let sockets = [listener(), listener()];
        let server = passed(&[&sockets[0], &sockets[1]], names).top(listen).workers(2).start();
        let expected: Vec<SocketAddr> = served.iter().map(|&at| address(&sockets[at])).collect();
        assert_eq!(server.addresses(), expected);
        // More connections than the two workers, so that each worker gets some.
        expected.iter().for_each(|&address| (0..8).for_each(|_| hello(address)));
        let unused: Vec<&str> =
            names.split(':').enumerate().filter(|(at, _)| !served.contains(at)).map(|(_, name)| name).collect();
        let warnings = server.log().matching(|line| line.contains("WARN") && line.contains("is not used"));
        assert_eq!(warnings.len(), unused.len(), "{warnings:?}");
        unused.iter().for_each(|name| drop(server.log().wait_for(&["WARN", &format!("socket `{name}`"), "not used"])));
        // The sockets are also served after a reload and after a crash.
        server.reload();
        server.workers().iter().for_each(|worker| worker.signal(Signal::KILL));
        expected.iter().for_each(|&address| hello(address));
    });
}

#[test]
fn an_address_that_is_configured_is_served_instead() {
    let socket = listener();
    let server = passed(&[&socket], "web").top("listen = '127.0.0.1:0'").start();
    assert_ne!(server.address(), address(&socket));
    hello(server.address());
    server.log().wait_for(&["WARN", "the socket `web` that systemd passed is not used", "listen = \"systemd\""]);
}

/// Sockets that were passed to another process (`LISTEN_PID`) are not used.
#[test]
fn what_is_meant_for_another_process_is_left_alone() {
    let socket = listener();
    let server = passed(&[&socket], "web").top("listen = '127.0.0.1:0'").through("LISTEN_PID=1 exec \"$@\"").start();
    hello(server.address());
    assert_eq!(server.log().matching(|line| line.contains("systemd")), Vec::<String>::new());
}

#[derive(Debug)]
enum Kind {
    Listener,
    NotListening,
    Connected,
    Datagrams,
    UnixDatagrams,
    NoSocket,
}

impl Kind {
    fn open(&self, directory: &TempDir) -> OwnedFd {
        match self {
            Self::Listener => listener().into(),
            Self::NotListening => {
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
                socket.expect("a socket").into()
            }
            Self::Connected => TcpStream::connect(address(&listener())).expect("a connection").into(),
            Self::Datagrams => UdpSocket::bind("127.0.0.1:0").expect("a port").into(),
            Self::UnixDatagrams => UnixDatagram::bind(directory.path().join("socket")).expect("a socket").into(),
            Self::NoSocket => std::fs::File::open("/dev/null").expect("a file").into(),
        }
    }
}

#[test]
fn what_cannot_be_served_is_refused() {
    let cases: &[(Kind, &str, &[&str])] = &[
        (
            Kind::Listener,
            "listen = 'systemd:nobody'",
            &["systemd:nobody", "passed no such socket", "FileDescriptorName="],
        ),
        (Kind::NotListening, "", &["systemd:web", "ListenStream="]),
        (Kind::Connected, "", &["systemd:web", "not a listening TCP or Unix socket", "ListenStream="]),
        (Kind::Datagrams, "", &["systemd:web", "not a listening TCP or Unix socket", "ListenStream="]),
        (Kind::UnixDatagrams, "", &["systemd:web", "not a listening TCP or Unix socket", "ListenStream="]),
        (Kind::NoSocket, "", &["systemd:web", "ListenStream="]),
    ];
    each(cases, |(kind, listen, parts)| {
        let directory = TempDir::new().expect("a directory");
        let server = Setup::new()
            .route("a.test", "hello", "")
            .without("--listen")
            .top(listen)
            .passed(vec![kind.open(&directory)], "web")
            .spawn();
        server.expect_exit(69, parts);
    });
    let server = Setup::new().route("a.test", "hello", "").without("--listen").top("listen = 'systemd'").spawn();
    server.expect_exit(69, &["passed no such socket"]);
}

/// systemd accepts connections before the service starts and while it restarts.
#[test]
fn connections_that_come_while_nothing_runs_are_answered() {
    let socket = listener();
    let mut early: Vec<Connection> = (0..10).map(|_| Connection::open(address(&socket))).collect();
    for connection in &mut early {
        connection.send(&Request::get("a.test", "/").bytes());
    }
    let first = passed(&[&socket], "web").workers(2).start();
    for connection in &mut early {
        connection.response("GET").expect(200, "Hello World\n");
    }
    let load = Load::start(address(&socket), 4, &Request::get("a.test", "/"));
    load.expect_more(50);
    first.command(&["stop"]).expect(0, &[]);
    assert_eq!(first.wait_exit(), 0);
    let _second = passed(&[&socket], "web").workers(2).start();
    load.expect_more(50);
    load.end().expect_no_failure();
}

/// The socket on which systemd would receive notifications.
struct Service {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Service {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        Self { directory, socket }
    }

    fn setup(&self, setup: Setup) -> Setup {
        setup.env("NOTIFY_SOCKET", &self.directory.path().join("notify").display().to_string())
    }

    /// The lines of the next message.
    fn hear(&self, within: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(within)).expect("a read time-out");
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect())
    }

    /// Fails unless the next message contains these lines.
    #[track_caller]
    fn expect(&self, lines: &[&str]) -> Vec<String> {
        let message = self.hear(PATIENCE).unwrap_or_else(|| panic!("nothing was said, wanted {lines:?}"));
        assert!(lines.iter().all(|line| message.iter().any(|said| said == line)), "{message:?} has not {lines:?}");
        message
    }

    #[track_caller]
    fn expect_silence(&self) {
        assert_eq!(self.hear(Duration::from_millis(300)), None);
    }
}

fn hello_route() -> Setup {
    Setup::new().route("a.test", "hello", "").route("stream.test", "stream", "")
}

/// The component cannot be opened, so the start takes as long as the test wants.
#[test]
fn ready_is_what_serves() {
    let service = Service::new();
    let path = service.directory.path().join("held.wasm");
    let held = HeldFile::new(&path, &std::fs::read(guest("hello")).expect("a built guest"));
    let mut server = service.setup(Setup::bare(&["serve", &path.display().to_string()])).spawn();
    held.wait_for_reader();
    service.expect_silence();
    drop(held);
    service.expect(&["READY=1", "STATUS=generation 1 serves 1 route with 1 worker"]);
    let status = server.status();
    assert!(status.ready().is_some(), "no worker is ready: {status:?}");
    server.announced();
    hello(server.address());
    // The service announces a normal end before it ends.
    server.signal(Signal::TERM);
    service.expect(&["STOPPING=1"]);
    server.expect_exit(0, &[]);
}

#[test]
fn what_does_not_start_is_never_ready() {
    let service = Service::new();
    let server = service.setup(Setup::bare(&["serve", "nothing.wasm"])).spawn();
    server.expect_exit(66, &["nothing.wasm"]);
    service.expect_silence();
}

fn monotonic_usec() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1000).expect("a time")
}

#[test]
fn a_reload_is_said_at_its_begin_and_at_its_end() {
    let service = Service::new();
    let server = service.setup(hello_route()).start();
    service.expect(&["READY=1"]);
    let config = server.config();
    each(&[("daylily.toml", true), ("nonsense", false)], |(file, is_good)| {
        server.put("daylily.toml", if *is_good { config.clone() } else { format!("{file} = 1\n{config}") });
        let before = monotonic_usec();
        server.signal(Signal::HUP);
        let said = service.expect(&["RELOADING=1"]);
        let since = said.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u64>().ok());
        let since = since.unwrap_or_else(|| panic!("no time in {said:?}"));
        assert!(before <= since && since <= monotonic_usec(), "{before} {since}");
        service.expect(&["READY=1", "STATUS=generation 2 serves 2 routes with 1 worker"]);
    });
}

#[test]
fn a_stop_is_said_before_it_is_done() {
    let service = Service::new();
    let server = service.setup(hello_route()).start();
    service.expect(&["READY=1"]);
    let mut connection = server.connect();
    connection.send(&Request::get("stream.test", "/?chunks=10&size=4&pause_ms=50").bytes());
    let mut response = connection.head();
    server.signal(Signal::TERM);
    service.expect(&["STOPPING=1"]);
    assert!(server.try_wait().is_none(), "it had ended already");
    connection.finish(&mut response, "GET", &mut |_| {});
    assert_eq!(response.ending, Ending::Complete);
    server.expect_exit(0, &[]);
    service.expect_silence();
}

/// Heartbeats are sent at intervals of half the watchdog's time-out.
#[test]
fn the_watchdog_hears_of_it() {
    let service = Service::new();
    let setup = service.setup(hello_route()).env("WATCHDOG_USEC", "400000");
    let server = setup.through("export WATCHDOG_PID=$$; exec \"$@\"").start();
    service.expect(&["READY=1"]);
    service.expect(&["WATCHDOG=1"]);
    let start = Instant::now();
    (0..5).for_each(|_| drop(service.expect(&["WATCHDOG=1"])));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(700) && took < Duration::from_secs(5), "5 signs of life in {took:?}");
    // A stopped process sends none.
    server.signal(Signal::STOP);
    while service.hear(Duration::from_millis(500)).is_some() {}
    server.signal(Signal::CONT);
    service.expect(&["WATCHDOG=1"]);
}

#[test]
fn an_upgrade_names_the_process_that_took_over() {
    let service = Service::new();
    let socket = listener();
    let setup = passed(&[&socket], "web").own_program().env("WATCHDOG_USEC", "200000");
    let setup = service.setup(setup).through("export LISTEN_PID=$$ WATCHDOG_PID=$$; exec \"$@\"");
    let server = setup.start();
    service.expect(&["READY=1"]);
    server.signal(Signal::USR2);
    let said = loop {
        match service.hear(PATIENCE).expect("word of the upgrade") {
            sign if sign == ["WATCHDOG=1"] => {}
            said => break said,
        }
    };
    let successor = server.status().supervisor();
    assert_ne!(successor, server.supervisor());
    assert!(said.contains(&format!("MAINPID={}", successor.pid)) && said.contains(&"READY=1".to_owned()), "{said:?}");
    assert_eq!(server.wait_exit(), 0);
    hello(address(&socket));
    // From now on, the successor sends the heartbeats and announces the stop.
    while service.hear(Duration::from_millis(1)).is_some() {}
    service.expect(&["WATCHDOG=1"]);
    successor.signal(Signal::TERM);
    assert!(eventually(PATIENCE, || service.hear(PATIENCE).expect("a last word") == ["STOPPING=1"]));
    assert!(eventually(PATIENCE, || !successor.is_running()), "it goes on");
}

#[test]
fn a_service_that_nobody_listens_to_serves() {
    let server: Daylily = hello_route().env("NOTIFY_SOCKET", "/nowhere/notify").start();
    server.log().wait_for(&["WARN", "failed to notify systemd"]);
    hello(server.address());
}
