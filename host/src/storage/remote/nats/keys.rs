//! Keys as parts of subjects, which have few characters: all others are `=` and two hexadecimal digits for each byte. The
//! empty key is `=` alone.

/// Longer subjects are refused: a line of the protocol has at most 4 KiB.
const MAX_ENCODED_BYTES: usize = 3_500;

/// None if it is too long for a subject.
pub(super) fn encode(key: &str) -> Option<String> {
    if key.is_empty() {
        return Some("=".to_owned());
    }
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("={other:02X}")),
        }
    }
    Some(encoded).filter(|encoded| encoded.len() <= MAX_ENCODED_BYTES)
}

/// None for what [`encode`] does not make: other programs have set it.
pub(super) fn decode(encoded: &str) -> Option<String> {
    if encoded == "=" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut left = encoded.bytes();
    while let Some(byte) = left.next() {
        bytes.push(match byte {
            b'=' => {
                let mut digit = || char::from(left.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            other => other,
        });
    }
    let key = String::from_utf8(bytes).ok()?;
    (encode(&key).as_deref() == Some(encoded)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_again() {
        for (key, encoded) in [
            ("", "="),
            ("user/1_a-B", "user/1_a-B"),
            ("a.b", "a=2Eb"),
            ("=", "=3D"),
            ("*>", "=2A=3E"),
            ("é\0 ", "=C3=A9=00=20"),
        ] {
            assert_eq!(encode(key).as_deref(), Some(encoded));
            assert_eq!(decode(encoded).as_deref(), Some(key));
        }
        for foreign in ["a.b", "=2e", "=", "=4", "=zz", "=41", "=FF", "a=", "é"] {
            assert!(foreign == "=" || decode(foreign).is_none(), "{foreign}");
        }
        assert_eq!(encode(&"k".repeat(MAX_ENCODED_BYTES + 1)), None);
    }
}
