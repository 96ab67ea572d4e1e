use std::os::fd::AsFd;
use std::sync::Arc;

use daylily_core::config::MAX_HEADERS;
use daylily_core::request_outcome::RequestOutcome;

use super::*;

fn journal() -> (Arc<Journal>, JournalReader) {
    let file = create().expect("shared memory");
    (Journal::open(file.as_fd()).expect("a mapping"), JournalReader::open(file.as_fd()).expect("a mapping"))
}

fn numbers(id: u64) -> Numbers {
    let mut numbers = Numbers {
        id: [id, !id],
        status: 200,
        outcome: RequestOutcome::Trap.number(),
        guest: 255,
        route: 7,
        began_unix_us: 1 << 50,
        protocol: 11,
        was_refused_memory: true,
        outgoing: 1,
        outgoing_failed: u32::MAX,
        stores: u32::MAX,
        stores_failed: 1,
        stores_time: 1 << 63,
        total: u64::MAX,
        ..Numbers::default()
    };
    numbers.set_client("192.0.2.1:65535".parse().expect("an address"));
    numbers
}

#[test]
fn a_record_arrives_as_it_was_written() {
    let (journal, mut reader) = journal();
    let texts = [
        TextOf::new(Text::Method, b"GET", MAX_METHOD_BYTES),
        TextOf::new(Text::Path, b"/12345678", 8),
        TextOf::new(Text::Host, b"", MAX_HOST_BYTES),
        TextOf::field(2, b"value of 16 byte"),
    ];
    let place = journal.begin(&numbers(1), texts);
    assert!(reader.next().is_none(), "it has not ended");
    place.end(&numbers(1), true);
    let entry = reader.next().expect("a record");
    assert_eq!(entry.numbers, numbers(1));
    assert_eq!(entry.numbers.client(), "192.0.2.1:65535".parse().ok());
    assert_eq!(entry.numbers.outcome(), RequestOutcome::Trap);
    assert_eq!(entry.text(Text::Method), Some((&b"GET"[..], 3)));
    assert_eq!(entry.text(Text::Path), Some((&b"/1234567"[..], 9)), "cut");
    assert_eq!(entry.text(Text::Host), Some((&b""[..], 0)));
    assert_eq!((entry.text(Text::Query), entry.field(0)), (None, None));
    assert_eq!(entry.field(2), Some((&b"value of 16 byte"[..], 16)));
    assert!(reader.next().is_none());
}

#[test]
fn a_place_has_room_for_1_kib() {
    let (journal, mut reader) = journal();
    let fields = (0..MAX_HEADERS as u8).map(|number| TextOf::field(number, &[b'x'; 200]));
    let place = journal.begin(&numbers(1), fields);
    place.end(&numbers(1), true);
    let entry = reader.next().expect("a record");
    let kept: usize = (0..MAX_HEADERS).filter_map(|number| entry.field(number)).map(|(bytes, _)| bytes.len()).sum();
    assert!((700..1024).contains(&kept), "{kept}");
}

#[test]
fn what_was_in_progress_is_lost_once() {
    let (journal, mut reader) = journal();
    let ended = journal.begin(&numbers(1), []);
    let unlogged = journal.begin(&numbers(2), []);
    let running = journal.begin(&numbers(3), [TextOf::new(Text::Path, b"/running", MAX_PATH_BYTES)]);
    running.note_progress(&Numbers { route: 9, ..numbers(3) });
    ended.end(&numbers(1), true);
    unlogged.end(&numbers(2), false);
    assert_eq!(reader.next().map(|entry| entry.numbers.id[0]), Some(1));
    let answered = journal.begin(&numbers(4), []);
    answered.note_progress(&Numbers { is_delivered: true, ..numbers(4) });
    let mut lost: Vec<Entry> = std::iter::from_fn(|| reader.next_lost()).collect();
    lost.sort_by_key(|entry| entry.numbers.id[0]);
    assert_eq!(lost.iter().map(|entry| entry.numbers.id[0]).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(lost[1].numbers.outcome(), RequestOutcome::Ok, "its client has the response");
    assert_eq!((lost[0].numbers.outcome(), lost[0].numbers.route), (RequestOutcome::Lost, 9));
    assert_eq!(lost[0].text(Text::Path), Some((&b"/running"[..], 8)));
    assert!(reader.next_lost().is_none() && reader.is_done());
    reader.release();
}

/// What was read and not written is read again by the next observer; what was written is not.
#[test]
fn another_reader_goes_on_where_the_last_one_was() {
    let file = create().expect("shared memory");
    let journal = Journal::open(file.as_fd()).expect("a mapping");
    let running: Vec<_> = (10..13).map(|id| journal.begin(&numbers(id), [])).collect();
    for id in 0..3 {
        journal.begin(&numbers(id), []).end(&numbers(id), true);
    }
    let open = || JournalReader::open(file.as_fd()).expect("a mapping");
    let mut first = open();
    assert_eq!(first.next().map(|entry| entry.numbers.id[0]), Some(0));
    first.release();
    assert_eq!(first.next().map(|entry| entry.numbers.id[0]), Some(1));
    let mut second = open();
    let ring: Vec<u64> = std::iter::from_fn(|| second.next()).map(|entry| entry.numbers.id[0]).collect();
    assert_eq!(ring, [1, 2]);
    second.release();
    assert_eq!(second.next_lost().map(|entry| entry.numbers.id[0]), Some(10));
    second.release();
    assert_eq!(second.next_lost().map(|entry| entry.numbers.id[0]), Some(11));
    let mut third = open();
    assert!(third.next().is_none());
    let lost: Vec<u64> = std::iter::from_fn(|| third.next_lost()).map(|entry| entry.numbers.id[0]).collect();
    assert_eq!(lost, [11, 12]);
    drop(running);
}

/// A worker that is killed between the two steps of an end leaves its last record in the ring and in a place.
#[test]
fn a_record_that_was_written_is_not_lost_as_well() {
    let (journal, mut reader) = journal();
    let place = journal.begin(&numbers(1), []);
    let copy = journal.begin(&numbers(1), []);
    copy.end(&numbers(1), true);
    assert_eq!(reader.next().map(|entry| entry.numbers.id[0]), Some(1));
    assert!(reader.next_lost().is_none());
    drop(place);
}

#[test]
fn a_ring_that_is_full_drops_and_counts() {
    let (journal, mut reader) = journal();
    let mut written = 0;
    while reader.dropped() == 0 {
        journal.begin(&numbers(written), []).end(&numbers(written), true);
        written += 1;
    }
    let fit = written - 1;
    assert_eq!(fit, (layout::Size::FULL.ring_words / 22) as u64);
    assert_eq!(reader.dropped(), 0, "told once");
    for id in 0..fit {
        assert_eq!(reader.next().map(|entry| entry.numbers.id[0]), Some(id));
    }
    assert!(reader.next().is_none());
    journal.begin(&numbers(1), []).end(&numbers(1), true);
    assert!(reader.next().is_none(), "not released yet");
    assert_eq!(reader.dropped(), 1);
    reader.release();
    journal.begin(&numbers(2), []).end(&numbers(2), true);
    assert_eq!(reader.next().map(|entry| entry.numbers.id[0]), Some(2));
}

#[test]
fn a_ring_that_is_read_begins_anew() {
    let (journal, mut reader) = journal();
    for id in 0..1_000_000 {
        journal.begin(&numbers(id), []).end(&numbers(id), true);
        assert_eq!(reader.next().map(|entry| entry.numbers.id[0]), Some(id));
        reader.release();
        assert!(reader.is_empty());
    }
    assert_eq!(reader.dropped(), 0);
}

#[test]
fn requests_beyond_the_places_are_counted_only() {
    let (journal, mut reader) = journal();
    let path = || [TextOf::new(Text::Path, b"/", MAX_PATH_BYTES)];
    let places: Vec<_> =
        (0..layout::Size::FULL.places as u64 + 2).map(|id| journal.begin(&numbers(id), path())).collect();
    let mut places = places;
    let last = places.pop().expect("one without a place");
    last.end(&numbers(99_999), true);
    let entry = reader.next().expect("a record");
    assert_eq!((entry.numbers.id[0], entry.text(Text::Path)), (99_999, None));
    assert_eq!(std::iter::from_fn(|| reader.next_lost()).count(), layout::Size::FULL.places);
}

/// A worker runs the code of strangers: whatever it has left, reading it ends, and stays within bounds.
#[test]
fn nonsense_is_skipped() {
    use std::sync::atomic::Ordering::Relaxed;
    let file = create().expect("shared memory");
    let mapping = layout::Mapping::of(file.as_fd()).expect("a mapping");
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> (seed >> 58)
    };
    for round in 0..2_000 {
        for at in 0..400 {
            mapping.ring(at).store(random(), Relaxed);
        }
        for word in mapping.place(round % 16) {
            word.store(random(), Relaxed);
        }
        mapping.position(layout::WRITTEN).store(if round % 2 == 0 { random() } else { random() % 500 }, Relaxed);
        mapping.position(layout::READ).store(if round % 3 == 0 { random() } else { 0 }, Relaxed);
        let mut reader = JournalReader::open(file.as_fd()).expect("a mapping");
        let mut entries = 0;
        while reader.next().is_some() {
            entries += 1;
            assert!(entries <= layout::Size::FULL.ring_words, "it has an end");
        }
        while reader.next_lost().is_some() {}
        reader.release();
    }
}

/// Places that no request had take no memory when the worker has died.
#[test]
fn reading_lost_requests_takes_no_memory() {
    let file = create().expect("shared memory");
    let journal = Journal::open(file.as_fd()).expect("a mapping");
    let mut reader = JournalReader::open(file.as_fd()).expect("a mapping");
    for id in 1..=10 {
        std::mem::forget(journal.begin(&numbers(id), []));
    }
    let kib = || rustix::fs::fstat(&file).expect("its size").st_blocks / 2;
    let before = kib();
    let lost = std::iter::from_fn(|| reader.next_lost()).count();
    assert_eq!((lost, reader.is_done()), (10, true));
    assert!(reader.next_lost().is_none());
    reader.release();
    assert!(before <= 32 && kib() <= before + 8, "{before} KiB, then {} KiB", kib());
    let mut next = JournalReader::open(file.as_fd()).expect("a mapping");
    assert!(next.next_lost().is_none());
}
