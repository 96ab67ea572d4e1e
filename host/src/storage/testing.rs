//! What every backend does, for the tests of each.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use daylily_core::config::{Overrides, Store, parse};

use super::message::{Answer, MAX_ANSWER_BYTES, Operation, Page, Seen, StoreError};

/// A store with these keys in its table.
pub(super) fn store(keys: &str) -> Store {
    let text = format!("[store.test]\n{keys}\n[[route]]\ncomponent = 'a.wasm'\n");
    let config = parse(Path::new("daylily.toml"), &text, &Overrides::default()).expect("a configuration");
    config.store("test").expect("a store").clone()
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

/// Does random operations, each with its number, and compares what they find with what a map would.
pub(super) fn check_against_a_map(count: u32, mut call: impl FnMut(u32, Operation) -> Result<Answer, StoreError>) {
    let (mut model, mut numbers) = (BTreeMap::new(), Numbers(1));
    for number in 0..count {
        let operation = random_operation(&mut numbers);
        let mut found = call(number, operation.clone());
        if let Ok(Answer::Keys(page)) = &mut found {
            page.keys.sort();
        }
        assert_eq!(found, of_model(&mut model, &operation), "operation {number}: {operation:?}");
    }
}

/// The meaning of each operation, one after the other.
pub(super) fn check_operations(mut call: impl FnMut(Operation) -> Result<Answer, StoreError>) {
    let set = |key: &str, value: &str| Operation::Set(vec![(key.to_owned(), Bytes::from(value.to_owned()))]);
    let get = |key: &str| Operation::Get(vec![key.to_owned()]);
    let increment = |key: &str, delta| Operation::Increment(key.to_owned(), delta, i64::MIN);
    let found = |value: &str| Ok(Answer::Values(vec![Some(Bytes::from(value.to_owned()))]));
    for (value, expected) in [
        ("0", Ok(Answer::Number(1))),
        ("-1", Ok(Answer::Number(0))),
        ("-9223372036854775808", Ok(Answer::Number(i64::MIN + 1))),
        ("9007199254740993", Ok(Answer::Number(9_007_199_254_740_994))),
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
        assert_eq!(call(set("n", value)), Ok(Answer::Done));
        assert_eq!(call(increment("n", 1)), expected, "{value:?}");
        let after = if let Ok(Answer::Number(sum)) = expected { sum.to_string() } else { value.to_owned() };
        assert_eq!(call(get("n")), found(&after), "{value:?}");
    }
    assert_eq!(call(increment("new", i64::MAX)), Ok(Answer::Number(i64::MAX)));
    assert_eq!(call(increment("new", i64::MIN)), Ok(Answer::Number(-1)));
    assert_eq!(call(Operation::Increment("new".to_owned(), -1, 0)), Err(StoreError::Negative));
    assert_eq!(call(get("new")), found("-1"));
    assert_eq!(call(Operation::Increment("none".to_owned(), -1, 0)), Err(StoreError::Negative));
    assert_eq!(call(Operation::Exists("none".to_owned())), Ok(Answer::Exists(false)));

    let read = |key: &str| Operation::Read(key.to_owned());
    let swap = |seen: &Seen, value: &'static str| Operation::Swap("s".to_owned(), seen.clone(), value.into());
    assert_eq!(call(read("s")), Ok(Answer::Entry(None)));
    assert_eq!(call(swap(&Seen::Missing, "1")), Ok(Answer::Done));
    let Ok(Answer::Entry(one)) = call(read("s")) else { panic!("no entry") };
    assert_eq!(one.as_ref().expect("an entry").0, "1");
    assert_eq!(call(swap(&Seen::Missing, "2")), Ok(Answer::Entry(one.clone())));
    let one = Seen::of(one);
    assert_eq!(call(swap(&one, "")), Ok(Answer::Done));
    let Ok(Answer::Entry(empty)) = call(swap(&one, "3")) else { panic!("it was swapped twice") };
    assert_eq!(empty.as_ref().expect("an entry").0, "");
    assert_eq!(call(swap(&Seen::of(empty.clone()), "4")), Ok(Answer::Done));
    assert_eq!(call(Operation::Delete(vec!["s".to_owned()])), Ok(Answer::Done));
    assert_eq!(call(swap(&Seen::of(empty), "5")), Ok(Answer::Entry(None)));

    let many: Vec<_> = (0..3).map(|number| format!("big{number}")).collect();
    let value = Bytes::from(vec![0xff; 1 << 20]);
    assert_eq!(call(Operation::Set(many.iter().map(|key| (key.clone(), value.clone())).collect())), Ok(Answer::Done));
    assert_eq!(call(Operation::Get(many.clone())), Err(StoreError::AnswerTooLarge));
    let two = Answer::Values(vec![Some(value.clone()), Some(value.clone())]);
    assert_eq!(call(Operation::Get(many[..MAX_ANSWER_BYTES >> 20].to_vec())), Ok(two));
    assert_eq!(call(Operation::Delete(many)), Ok(Answer::Done));
    for empty in [Operation::Set(Vec::new()), Operation::Delete(Vec::new())] {
        assert_eq!(call(empty), Ok(Answer::Done));
    }
    assert_eq!(call(Operation::Get(Vec::new())), Ok(Answer::Values(Vec::new())));
    let all = vec!["n".to_owned(), "new".to_owned()];
    assert_eq!(call(Operation::List(None)).map(|answer| sorted(&answer)), Ok(all.clone()));
    assert_eq!(call(Operation::Delete(all)), Ok(Answer::Done));
    assert_eq!(call(Operation::List(None)), Ok(Answer::Keys(Page::default())));
}

fn sorted(answer: &Answer) -> Vec<String> {
    let Answer::Keys(page) = answer else { panic!("{answer:?}") };
    let mut keys = page.keys.clone();
    keys.sort();
    keys
}
