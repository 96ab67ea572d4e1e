use super::*;
use crate::storage::testing::{self, store};

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

#[test]
fn finds_what_a_map_would() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut database = open(dir.path(), "");
    testing::check_against_a_map(3_000, |number, operation| {
        if number % 500 == 0 {
            // The file has everything.
            database = open(dir.path(), "");
        }
        match operation.is_read() {
            true => database.read(&operation).map_err(|failure| panic!("{failure:?}")),
            false => write(&database, operation),
        }
    });
}

#[test]
fn operations_do_what_is_documented() {
    let dir = tempfile::tempdir().expect("a directory");
    let database = open(dir.path(), "");
    testing::check_operations(|operation| match operation.is_read() {
        true => database.read(&operation).map_err(|failure| match failure {
            Failure::Operation(error) => error,
            failure => panic!("{failure:?}"),
        }),
        false => write(&database, operation),
    });
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
