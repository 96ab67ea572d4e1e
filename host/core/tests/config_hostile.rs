//! No file, however broken, makes the parser or the printing of its errors panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::Path;

use common::Fixed;
use daylily_core::config::{self, Overrides};

mod common;

const FULL: &str = include_str!("../../../tests/cases/config/full.toml");
/// What TOML and the values in it are sensitive to.
const INSERTED: [&str; 16] =
    ["\"", "'", "\"\"\"", "[", "]]", "\n", "\r", "=", ".", ",", "#", "\\", "ü", "\u{feff}", "\t", "{"];
const MUTANTS: u64 = 3_000;

/// The same numbers on every run: xorshift, after Marsaglia.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }
}

fn mutate(text: &mut Vec<char>, numbers: &mut Numbers) {
    let at = numbers.below(text.len());
    let end = at + numbers.below((text.len() - at).min(20)) + 1;
    match numbers.below(3) {
        0 => drop(text.drain(at..end)),
        1 => {
            let piece: Vec<char> = text.drain(at..end).collect();
            let to = numbers.below(text.len() + 1);
            text.splice(to..to, piece);
        }
        _ => {
            let inserted = INSERTED.get(numbers.below(INSERTED.len())).unwrap();
            text.splice(at..at, inserted.chars());
        }
    }
}

#[test]
fn mutants() {
    let mut refused = 0;
    for seed in 1..=MUTANTS {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut text: Vec<char> = FULL.chars().collect();
        for _ in 0..=numbers.below(4) {
            mutate(&mut text, &mut numbers);
        }
        let text: String = text.into_iter().collect();
        let surroundings = Fixed::of_the_example();
        if let Err(errors) = config::parse_in(&surroundings, Path::new("mutant.toml"), &text, &Overrides::default()) {
            assert!(errors.len() > 0 && errors.to_string().contains("--> mutant.toml:"), "{text}");
            refused += 1;
        }
    }
    assert!(refused > MUTANTS / 4, "only {refused} mutants had an error");
}
