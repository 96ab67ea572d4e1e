use std::collections::BTreeMap;

use daylily_core::config::{Overrides, parse};

use super::*;

/// A store with these keys in its table.
fn store(keys: &str) -> Store {
    let text = format!("[store.test]\n{keys}\n[[route]]\ncomponent = 'a.wasm'\n");
    let config = parse(Path::new("daylily.toml"), &text, &Overrides::default()).expect("a configuration");
    config.store("test").expect("a store").clone()
}

fn open(dir: &Path, keys: &str) -> Database {
    Database::open(dir, &store(keys)).expect("a store")
}

/// Writes one operation.
fn write(database: &Database, operation: Operation) -> Result<Answer, StoreError> {
    match database.write(std::iter::once(&operation)) {
        Ok(results) => results.into_iter().next().expect("a result"),
        Err(Failure::Operation(error)) => Err(error),
        Err(failure) => panic!("{operation:?}: {failure:?}"),
    }
}

/// A sequence of numbers that looks random and is the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

const KEYS: [&str; 6] = ["", "a", "a\0", "A", "é", "🌼 long 0123456789012345678901234567890123456789"];

fn random_operation(numbers: &mut Numbers) -> Operation {
    let mut key = || KEYS[usize::try_from(numbers.below(6)).expect("an index")].to_owned();
    let (one, other) = (key(), key());
    let value = match numbers.below(5) {
        0 => Bytes::new(),
        1 => Bytes::from(vec![0xff; 5_000]),
        2 => Bytes::from(i64::MAX.to_string()),
        _ => Bytes::from(numbers.below(1_000).to_string()),
    };
    match numbers.below(8) {
        0 => Operation::Get(vec![one, other]),
        1 => Operation::Exists(one),
        2 => Operation::List(None),
        3 => Operation::Delete(vec![one, other]),
        4 => Operation::Increment(one, i64::try_from(numbers.below(100)).expect("a number") - 50, -20),
        5 => Operation::Set(vec![(one, value.clone()), (other, value)]),
        _ => Operation::Set(vec![(one, value)]),
    }
}

/// What the operation has to find, in a map.
fn of_model(model: &mut BTreeMap<String, Bytes>, operation: &Operation) -> Result<Answer, StoreError> {
    match operation {
        Operation::Get(keys) => Ok(Answer::Values(keys.iter().map(|key| model.get(key).cloned()).collect())),
        Operation::Exists(key) => Ok(Answer::Exists(model.contains_key(key))),
        Operation::List(_) => Ok(Answer::Keys(Page { keys: model.keys().cloned().collect(), next: None })),
        Operation::Set(entries) => {
            model.extend(entries.iter().cloned());
            Ok(Answer::Done)
        }
        Operation::Delete(keys) => {
            keys.iter().for_each(|key| drop(model.remove(key)));
            Ok(Answer::Done)
        }
        Operation::Increment(key, delta, least) => {
            let value = model.get(key).map_or(Ok("0"), |value| std::str::from_utf8(value));
            let value: i64 = value.ok().and_then(|text| text.parse().ok()).ok_or(StoreError::NotANumber)?;
            let sum = value.checked_add(*delta).ok_or(StoreError::Overflow)?;
            if sum < *least {
                return Err(StoreError::Negative);
            }
            model.insert(key.clone(), Bytes::from(sum.to_string()));
            Ok(Answer::Number(sum))
        }
        Operation::Read(_) | Operation::Swap(..) => unreachable!("not among the random operations"),
    }
}

#[test]
fn finds_what_a_map_would() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut database, mut model) = (open(dir.path(), ""), BTreeMap::new());
    let mut numbers = Numbers(1);
    for number in 0..3_000 {
        if number % 500 == 0 {
            drop(database);
            database = open(dir.path(), "");
        }
        let operation = random_operation(&mut numbers);
        let mut found = match operation.is_read() {
            true => database.read(&operation).map_err(|failure| panic!("{failure:?}")),
            false => write(&database, operation.clone()),
        };
        if let Ok(Answer::Keys(page)) = &mut found {
            page.keys.sort();
        }
        assert_eq!(found, of_model(&mut model, &operation), "operation {number}: {operation:?}");
    }
}

#[test]
fn only_decimal_digits_are_numbers() {
    let dir = tempfile::tempdir().expect("a directory");
    let database = open(dir.path(), "");
    for (value, expected) in [
        ("0", Ok(Answer::Number(1))),
        ("-1", Ok(Answer::Number(0))),
        ("-9223372036854775808", Ok(Answer::Number(i64::MIN + 1))),
        ("9223372036854775807", Err(StoreError::Overflow)),
        ("9223372036854775808", Err(StoreError::NotANumber)),
        ("", Err(StoreError::NotANumber)),
        ("01", Err(StoreError::NotANumber)),
        ("+1", Err(StoreError::NotANumber)),
        ("-0", Err(StoreError::NotANumber)),
        (" 1", Err(StoreError::NotANumber)),
        ("1.0", Err(StoreError::NotANumber)),
        ("\0\0\0\0\0\0\0\x01", Err(StoreError::NotANumber)),
    ] {
        write(&database, Operation::Set(vec![("n".to_owned(), Bytes::from(value))])).expect("room");
        assert_eq!(write(&database, Operation::Increment("n".to_owned(), 1, i64::MIN)), expected, "{value:?}");
    }
}

/// An operation that fails does not take back the others of its transaction.
#[test]
fn a_transaction_has_results_for_each_operation() {
    let dir = tempfile::tempdir().expect("a directory");
    let database = open(dir.path(), "");
    let set = |key: &str, value: &str| Operation::Set(vec![(key.to_owned(), Bytes::from(value.to_owned()))]);
    let operations = [set("a", "x"), Operation::Increment("a".to_owned(), 1, i64::MIN), set("b", "y")];
    let results = database.write(operations.iter()).expect("a transaction");
    assert_eq!(results, [Ok(Answer::Done), Err(StoreError::NotANumber), Ok(Answer::Done)]);
    let found = database.read(&Operation::Get(vec!["a".to_owned(), "b".to_owned()])).expect("values");
    assert_eq!(found, Answer::Values(vec![Some("x".into()), Some("y".into())]));
}

/// What another process has locked is not waited for here.
#[test]
fn a_locked_file_is_tried_again_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let database = open(dir.path(), "");
    let other = Connection::open(path(dir.path(), "test")).expect("the file");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let set = Operation::Set(vec![("a".to_owned(), Bytes::from("x"))]);
    assert!(matches!(database.write(std::iter::once(&set)), Err(Failure::Locked)));
    assert!(matches!(database.read(&Operation::Exists("a".to_owned())), Ok(Answer::Exists(false))));
    other.execute_batch("COMMIT").expect("the lock's end");
    assert!(database.write(std::iter::once(&set)).is_ok());
}

/// Each page of a file is damaged in turn: operations fail or find something, and nothing else happens.
#[test]
fn a_damaged_page_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let database = open(dir.path(), "");
    let entries = (0..200).map(|number| (format!("key{number}"), Bytes::from(vec![7; 500]))).collect();
    write(&database, Operation::Set(entries)).expect("room");
    drop(database);
    let file = path(dir.path(), "test");
    let whole = fs::read(&file).expect("the file");
    let mut failed = 0;
    for page in 0..whole.len() / 4_096 {
        let mut damaged = whole.clone();
        damaged[page * 4_096..][..4_096].fill(0xa5);
        for file in fs::read_dir(dir.path()).expect("a directory") {
            fs::remove_file(file.expect("an entry").path()).expect("a file");
        }
        fs::write(&file, damaged).expect("room");
        match Database::open(dir.path(), &store("")) {
            Err(_) => failed += 1,
            Ok(database) => {
                let all = (0..200).map(|number| format!("key{number}")).collect();
                let read = database.read(&Operation::Get(all));
                let written = database.write(std::iter::once(&Operation::Increment("n".to_owned(), 1, i64::MIN)));
                failed += u32::from(read.is_err() || written.is_err());
            }
        }
    }
    assert!(failed > 3, "only {failed} damaged pages were noticed");
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path(), ""));
    let other = Connection::open(path(dir.path(), "test")).expect("the file");
    other.pragma_update(None, "user_version", SCHEMA_VERSION + 1).expect("room");
    drop(other);
    let Err(OpenError::Refused(reason)) = Database::open(dir.path(), &store("")) else { panic!("it was opened") };
    assert!(reason.contains("newer version of daylily (schema 2, this one knows 1)"), "{reason}");
}

/// However many entries have expired, all are removed.
#[test]
fn expired_entries_are_removed_in_parts() {
    let dir = tempfile::tempdir().expect("a directory");
    let database = open(dir.path(), "ttl = '1h'");
    let entries = (0..1_500).map(|number| (format!("key{number}"), Bytes::new())).collect();
    write(&database, Operation::Set(entries)).expect("room");
    assert!(!database.sweep().expect("a sweep"), "nothing has expired");
    let count = || -> u32 {
        database.connection.query_row("SELECT count(*) FROM entry", [], |row| row.get(0)).expect("a number")
    };
    assert_eq!(count(), 1_500);
    database.connection.execute_batch("UPDATE entry SET expires = 1").expect("room");
    assert_eq!(database.read(&Operation::List(None)).expect("a page"), Answer::Keys(Page::default()));
    assert!(database.sweep().expect("a sweep"), "there are more");
    assert!(!database.sweep().expect("a sweep"), "there are no more");
    assert_eq!(count(), 0);
}
