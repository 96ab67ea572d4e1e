//! Damaged components: whatever is in a file, looking at it does not panic; what is made of a valid component, without
//! its shim or of its main module alone, is valid, and does the same; and nothing is made of others.

use std::sync::LazyLock;

use daylily::fuzzing::{Ended, Form, Forms, Input, Outcome, digest, inspected, main_module, relinked};
use residue_guest::Wasi;
use wasmparser::Validator;

/// Components that are damaged: of wit-component's form, so that all of it is looked at.
static WHOLE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let large = [Wasi::V2, Wasi::V3].map(|wasi| residue_guest::component(wasi).expect("a guest"));
    let small = residue_guest::encode(include_str!("../guests/echo.wat"), Wasi::V2).expect("a guest");
    [small].into_iter().chain(large).collect()
});

/// Of so many components that could be run, one is: compiling it in both forms takes as long as looking at hundreds.
const RUN_ONE_IN: u8 = 16;

/// Damage of one kind is so many bytes.
const CHANGE_BYTES: usize = 5;

pub(crate) fn run(data: &[u8]) {
    let Some((which, changes)) = data.split_first() else { return };
    if *which == 0xff {
        look(changes, false);
        return;
    }
    let mut bytes = WHOLE[usize::from(*which) % WHOLE.len()].clone();
    for change in changes.chunks_exact(CHANGE_BYTES) {
        damage(&mut bytes, change);
    }
    // Only the first one, which is quickly compiled.
    look(&bytes, usize::from(*which) % WHOLE.len() == 0);
}

/// Where, what is done there, and with which value.
fn damage(bytes: &mut Vec<u8>, change: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let at = usize::from(change[0]) << 16 | usize::from(change[1]) << 8 | usize::from(change[2]);
    let at = at % bytes.len();
    match change[3] % 5 {
        0 => bytes[at] = change[4],
        1 => bytes[at] = bytes[at].wrapping_add(change[4] as i8 as u8),
        2 => bytes.insert(at, change[4]),
        3 => drop(bytes.drain(at..(at + usize::from(change[4])).min(bytes.len()))),
        _ => {
            let piece = bytes[at..(at + usize::from(change[4])).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
    }
}

fn look(bytes: &[u8], runs: bool) {
    let is_valid = Validator::new().validate_all(bytes).is_ok();
    let _ = inspected(bytes);
    let relinked = relinked(bytes);
    let module = main_module(bytes);
    if !is_valid {
        assert!(relinked.is_none() && module.is_none(), "something is made of a component that is not valid");
        return;
    }
    let is_direct = module.is_some();
    for (what, made) in [("relinked", relinked), ("linked directly", module)] {
        let error = made.and_then(|made| Validator::new().validate_all(&made).err());
        assert!(error.is_none(), "{what}, a valid component is not valid any more: {error:?}");
    }
    if runs && is_direct && digest(bytes)[0].is_multiple_of(RUN_ONE_IN) {
        compare(bytes);
    }
}

/// A damaged guest does the same in both forms.
fn compare(component: &[u8]) {
    let input = Input { body: vec![b"0123", b"456789"], ends: true, ..Input::default() };
    // What is damaged may not be linked as either.
    let Ok(forms) = Forms::new(component, daylily::fuzzing::Wasi::V2) else { return };
    let direct = forms.run(Form::Direct, &input).expect("a request");
    let component = forms.run(Form::Component, &input).expect("a request");
    let traps = |outcome: &Outcome| matches!(&outcome.ended, Ended::Trap(_));
    let is_same = direct.ended == component.ended && direct.response == component.response;
    assert!(is_same || (traps(&direct) && traps(&component)), "directly: {direct:?}\nas a component: {component:?}");
}
