//! Damaged components. Inspecting a file never panics, whatever it contains. A valid component, relinked without its
//! shim or reduced to its main module, is still valid and behaves the same. An invalid component is not transformed.

use std::sync::LazyLock;

use daylily::fuzzing::{Ended, Form, Forms, GuestRun, Input, digest, inspected, main_module, relinked};
use residue_guest::Wasi;
use wasmparser::Validator;

/// The components to damage. They have the structure that wit-component writes, so that inspection covers all of it.
static WHOLE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let large = [Wasi::P2, Wasi::P3].map(|wasi| residue_guest::component(wasi).expect("a guest"));
    let small = residue_guest::encode(include_str!("../guests/echo.wat"), Wasi::P2).expect("a guest");
    [small].into_iter().chain(large).collect()
});

/// Runs one of this many runnable components: compiling one in both forms takes as long as inspecting hundreds.
const RUN_ONE_IN: u8 = 16;

/// Bytes of the input for one change.
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
    // Only the small guest is run, because it compiles quickly.
    look(&bytes, usize::from(*which) % WHOLE.len() == 0);
}

/// Applies one change: the offset, the kind and the value.
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

/// Checks that a damaged guest behaves the same when it is linked directly and as a component.
fn compare(component: &[u8]) {
    let input = Input { body: vec![b"0123", b"456789"], ends: true, ..Input::default() };
    // A damaged component may fail to link in either form.
    let Ok(forms) = Forms::new(component, daylily::fuzzing::Wasi::P2) else { return };
    let direct = forms.run(Form::Direct, &input).expect("a request");
    let component = forms.run(Form::Component, &input).expect("a request");
    let traps = |outcome: &GuestRun| matches!(&outcome.ended, Ended::Trap(_));
    let is_same = direct.ended == component.ended && direct.response == component.response;
    assert!(is_same || (traps(&direct) && traps(&component)), "directly: {direct:?}\nas a component: {component:?}");
}
