use super::*;

fn page() -> (Arc<ServerPage>, PageReader) {
    let page = ServerPage::new(Totals { reloads: 3, ..Totals::default() }).expect("shared memory");
    let reader = PageReader::open(page.file()).expect("the page");
    (page, reader)
}

fn worker_of(pid: u32, state: SessionState) -> PageWorker {
    PageWorker { pid, state }
}

#[test]
fn readiness_follows_the_workers_and_the_state() {
    let (page, reader) = page();
    let check = |ready: (usize, usize), is_ready: bool, has_started: bool| {
        let seen = reader.read().expect("a page");
        let actual = (seen.ready_workers(), seen.workers.len());
        assert_eq!((actual, seen.is_ready(), seen.has_started()), (ready, is_ready, has_started), "{seen:?}");
    };
    check((0, 0), false, false);
    page.expect(2);
    check((0, 2), false, false);
    page.set_generation(1, vec![worker_of(7, SessionState::Ready); 2], Vec::new());
    check((2, 2), false, true);
    for (state, is_ready) in ServerState::ALL.into_iter().zip([false, true, true, true, false]) {
        page.set_state(state);
        check((2, 2), is_ready, true);
    }
    page.set_state(ServerState::Serving);
    // Workers of other generations, and those that do not exist, change nothing.
    page.set_worker(2, 0, worker_of(8, SessionState::Ended));
    page.set_worker(1, 2, worker_of(8, SessionState::Ended));
    check((2, 2), true, true);
    for state in [SessionState::Ended, SessionState::Waiting, SessionState::Starting, SessionState::Draining] {
        page.set_worker(1, 1, worker_of(0, state));
        check((1, 2), false, true);
        assert_eq!(reader.read().expect("a page").workers, [worker_of(7, SessionState::Ready), worker_of(0, state)]);
    }
    page.set_worker(1, 1, worker_of(u32::MAX, SessionState::Ready));
    check((2, 2), true, true);
    assert_eq!(reader.read().expect("a page").workers.last(), Some(&worker_of(u32::MAX, SessionState::Ready)));
}

#[test]
fn totals_add_up() {
    let (page, reader) = page();
    page.count(Totals { reloads: 1, reloads_failed: 1, hangs: 2, ..Totals::default() });
    page.set_draining((1..=20).collect());
    let seen = reader.read().expect("a page");
    assert_eq!((seen.totals.reloads, seen.totals.reloads_failed, seen.totals.hangs), (4, 1, 2));
    assert_eq!(seen.draining, (1..=16).collect::<Vec<_>>());
    assert_eq!(seen.pid, std::process::id());
    assert!(seen.uptime() < Duration::from_secs(600) && seen.began_unix > Duration::from_secs(1));
}

#[test]
fn a_reader_sees_one_moment() {
    let (page, reader) = page();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 1..=3_000 {
                let workers = vec![worker_of(number, SessionState::Ready); 1 + number as usize % 256];
                page.set_generation(number.into(), workers, vec![number.into(); 3]);
            }
        });
        while !writer.is_finished() {
            let Some(seen) = reader.read() else { continue };
            let is_whole = seen.workers.iter().all(|worker| u64::from(worker.pid) == seen.generation)
                && seen.draining.iter().all(|draining| *draining == seen.generation)
                && (seen.generation == 0 || seen.workers.len() as u64 == 1 + seen.generation % 256);
            assert!(is_whole, "{seen:?}");
        }
    });
    assert_eq!(reader.read().map(|seen| seen.generation), Some(3_000));
}

/// The supervisor was killed while it wrote.
#[test]
fn a_page_that_was_not_finished_is_not_read() {
    let (page, reader) = page();
    page.layout.version.fetch_add(1, Relaxed);
    assert!(reader.read().is_none());
    let short = shared("test", 100).expect("shared memory");
    assert!(PageReader::open(short.as_fd()).is_err());
}
