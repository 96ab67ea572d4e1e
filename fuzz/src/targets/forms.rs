//! Differential test of the two forms: a program runs in a guest that is linked directly and in the same guest linked
//! as a component. The results of each operation and the response must be equal. Where one form traps, the other must
//! trap at the same operation.

use std::cell::RefCell;
use std::fmt::Write as _;

use daylily::fuzzing::{Ended, Form, Forms, GuestRun, HOST_PANIC, Input, WAITS};
use residue_guest::Wasi;

use crate::guests::{self, WORD_BYTES};

/// The most operations of a program; the rest of the input is ignored.
const MAX_WORDS: usize = 64;

/// Recorded by a guest before an operation whose result is not determined. After that, the test only checks that both
/// forms end.
const RACE: u32 = 0x400;

/// Operations that start a timer, and the most of them in a program: each takes milliseconds.
const TIMERS: [&str; 3] = ["sleep", "soon", "timer"];
const MAX_TIMERS: usize = 2;

pub(crate) fn run02(data: &[u8]) {
    thread_local! {
        static GUEST: RefCell<Guest> = RefCell::new(Guest::new(Wasi::P2));
    }
    GUEST.with_borrow(|guest| guest.run(data));
}

pub(crate) fn run03(data: &[u8]) {
    thread_local! {
        static GUEST: RefCell<Guest> = RefCell::new(Guest::new(Wasi::P3));
    }
    GUEST.with_borrow(|guest| guest.run(data));
}

/// Whether a response has begun, and its body has failed.
fn is_cut(outcome: &GuestRun) -> bool {
    outcome.response.ends_with(" None")
}

fn waits(outcome: &GuestRun) -> bool {
    matches!(&outcome.ended, Ended::Trap(why) if why == WAITS)
}

struct Guest {
    wasi: Wasi,
    ops: Vec<guests::Op>,
    forms: Forms,
}

impl Guest {
    fn new(wasi: Wasi) -> Self {
        let component = guests::component(wasi).expect("the guest");
        let of = match wasi {
            Wasi::P2 => daylily::fuzzing::Wasi::P2,
            Wasi::P3 => daylily::fuzzing::Wasi::P3,
        };
        let forms = Forms::new(&component, of).expect("both forms");
        Self { wasi, ops: guests::ops(wasi), forms }
    }

    fn run(&self, data: &[u8]) {
        let Some((body, program)) = data.split_first() else { return };
        let mut timers = 0;
        let words = program.chunks_exact(WORD_BYTES).take(MAX_WORDS).map(|bytes| self.word(bytes)).filter(|word| {
            let is_timer = TIMERS.contains(&self.name(*word));
            timers += usize::from(is_timer);
            !is_timer || timers <= MAX_TIMERS
        });
        let program = words.collect();
        let input = Input {
            timers: timers.min(MAX_TIMERS),
            program,
            body: match body & 3 {
                0 => vec![b"0123456789"],
                1 => vec![],
                2 => vec![b"0123", b"456789"],
                _ => vec![b"0123", b"", b"4"],
            },
            ends: body & 4 == 0,
            trailers: body & 8 != 0,
        };
        let direct = self.forms.run(Form::Direct, &input).expect("a request");
        let component = self.forms.run(Form::Component, &input).expect("a request");
        if let Some(difference) = self.difference(&input, &direct, &component) {
            panic!("{difference}\n{}", self.listing(&input, &direct, &component));
        }
    }

    fn name(&self, word: u64) -> &'static str {
        self.ops.get((word as usize & 0xff).wrapping_sub(1)).map_or("", |op| op.name)
    }

    fn word(&self, bytes: &[u8]) -> u64 {
        let mut word = [0; 8];
        word[..WORD_BYTES].copy_from_slice(bytes);
        // Zero is the end of a program.
        word[0] = 1 + (bytes[0] as usize % self.ops.len()) as u8;
        u64::from_le_bytes(word)
    }

    /// The difference between the two forms, if any.
    fn difference(&self, input: &Input, direct: &GuestRun, component: &GuestRun) -> Option<String> {
        // A fault of wasmtime's (`OF_WASMTIME`).
        if matches!(&component.ended, Ended::Trap(why) if why.contains(HOST_PANIC)) {
            return None;
        }
        let race = |outcome: &GuestRun| outcome.trace.iter().position(|(what, _)| *what == RACE);
        if let (Some(one), Some(other)) = (race(direct), race(component)) {
            return (direct.trace[..one] != component.trace[..other]).then(|| "before a race, forms differ".to_owned());
        }
        if direct.trace != component.trace {
            return Some("operations find something else".to_owned());
        }
        let has_trapped = |outcome: &GuestRun| matches!(outcome.ended, Ended::Trap(_));
        if has_trapped(direct) && has_trapped(component) {
            // What was passed on of an unfinished response is not compared. Nor is the response of a component that waits
            // forever, or waits for a body that the host had only partly passed on when the guest trapped.
            let is_whole = |outcome: &GuestRun| outcome.response != "none" && !is_cut(outcome);
            let is_compared = !waits(direct) && !waits(component) && (is_whole(direct) || is_whole(component));
            let is_another = is_compared && direct.response != component.response;
            return is_another.then(|| "the response before the trap is another one".to_owned());
        }
        // A guest has ended and left its body unfinished. As a component, it waits for that body until the time limit.
        // Linked directly, the body fails at once. If the guest passes on what it has received, the host may need more
        // turns for that in a component than it had before the exit.
        let passes_on = || input.program.iter().any(|word| ["consume", "consume-response"].contains(&self.name(*word)));
        let has_exited = || matches!(direct.ended, Ended::Exit(_)) && passes_on();
        if waits(component) && (is_cut(direct) || has_exited()) {
            return None;
        }
        if direct.ended != component.ended {
            return Some("it ends in another way".to_owned());
        }
        (direct.response != component.response).then(|| "the response is another one".to_owned())
    }

    fn listing(&self, input: &Input, direct: &GuestRun, component: &GuestRun) -> String {
        let mut text = format!("guest of {:?}, body {:?}, ends: {}\n", self.wasi, input.body, input.ends);
        for word in &input.program {
            let [_, operands @ .., _, _] = word.to_le_bytes();
            let _ = writeln!(text, "  {} {operands:?}", self.name(*word));
        }
        for (form, outcome) in [("directly", direct), ("component", component)] {
            let _ = writeln!(text, "{form}: {:?} {}", outcome.ended, outcome.response);
            for (what, value) in &outcome.trace {
                let name = self.name(u64::from(*what));
                let _ = match what >> 8 {
                    1 => write!(text, "\n  {name}"),
                    2 => write!(text, " = {value:#x}"),
                    3 => write!(text, " [{value:016x}]"),
                    _ => write!(text, " {what:#x}: {value:#x}"),
                };
            }
            text.push('\n');
        }
        text
    }
}
