//! The messages between daylily's processes, and the entries of the cache.

use daylily::fuzzing::{cache_entry, messages};

/// The magic bytes of a cache entry, and the offset of its facts.
const MAGIC: &[u8; 16] = b"daylily cache 1\n";
const FACTS_AT: usize = MAGIC.len() + 32 + 32 + 4;

pub(crate) fn run(data: &[u8]) {
    for message in messages(data) {
        let Some(understood) = message.understood else { continue };
        // A decoded message that is encoded again decodes to the same.
        let again = messages(&understood).into_iter().find(|again| again.kind == message.kind);
        let again = again.and_then(|again| again.understood);
        assert_eq!(again.as_deref(), Some(&*understood), "{}", message.kind);
    }
    entry(data);
}

/// An entry is read only if its key and its digest match. A mutation cannot produce them, so they are computed here.
fn entry(data: &[u8]) {
    let key = [7; 32];
    assert!(!data.starts_with(MAGIC) || cache_entry([8; 32], data).is_none(), "an entry of another key");
    let Some((facts_len, rest)) = data.split_first_chunk::<4>() else { return };
    let mut whole = MAGIC.to_vec();
    whole.extend_from_slice(&key);
    whole.extend_from_slice(&daylily::fuzzing::digest(data));
    whole.extend_from_slice(data);
    let facts = u32::from_le_bytes(*facts_len) as usize;
    let expected = rest.split_at_checked(facts).map(|(facts, code)| (facts.to_vec(), code.to_vec()));
    assert_eq!(cache_entry(key, &whole), expected);
    if let Some(at) = (FACTS_AT..whole.len()).next_back() {
        whole[at] ^= 1;
        assert_eq!(cache_entry(key, &whole), None, "a damaged entry");
    }
}
