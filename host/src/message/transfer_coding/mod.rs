//! Transfer codings, for clients and origins alike: checks the list in `Transfer-Encoding` over all its fields (RFC
//! 9110 §5.3, RFC 9112 §6.1), and reads [chunks](chunked). Only `chunked` is supported. Pure: no socket, no clock, no
//! allocation.

pub(crate) mod chunked;

/// Why a list of transfer codings is not exactly `chunked`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodingError {
    /// The list is invalid (RFC 9112 §6.1, §6.3): 400.
    Malformed(&'static str),
    /// The list ends in `chunked`, but also has a coding that daylily does not support (RFC 9112 §6.1): 501.
    Unknown,
}

/// Checks the values of all `Transfer-Encoding` fields, in order. Empty elements are errors deliberately: RFC 9110
/// §5.6.1.2 lets a recipient ignore a few of them, so recipients could read `chunked,` differently.
///
/// # Errors
///
/// Unless the only coding is `chunked`.
pub(crate) fn judge<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<(), CodingError> {
    let (mut is_chunked, mut has_unknown) = (false, false);
    for value in values {
        let mut rest = Some(value);
        while let Some(list) = rest {
            let (element, more) = split(list);
            rest = more;
            if is_chunked {
                return Err(CodingError::Malformed("Transfer-Encoding has something after `chunked`"));
            }
            if element.is_empty() {
                return Err(CodingError::Malformed("Transfer-Encoding has an empty element"));
            }
            let name = trim(element.split(|&byte| byte == b';').next().unwrap_or_default());
            if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
                return Err(CodingError::Malformed("Transfer-Encoding has an element that names no coding"));
            }
            is_chunked = name.eq_ignore_ascii_case(b"chunked");
            if is_chunked && name.len() < element.len() {
                return Err(CodingError::Malformed("Transfer-Encoding has `chunked` with a parameter"));
            }
            has_unknown |= !is_chunked;
        }
    }
    match (is_chunked, has_unknown) {
        (false, _) => Err(CodingError::Malformed("Transfer-Encoding does not end in `chunked`")),
        (true, true) => Err(CodingError::Unknown),
        (true, false) => Ok(()),
    }
}

/// The first element, and the rest of the list if there is a comma. Commas in quoted strings (RFC 9110 §5.6.4) do not
/// separate elements.
fn split(list: &[u8]) -> (&[u8], Option<&[u8]>) {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => return (trim(list.get(..at).unwrap_or_default()), list.get(at + 1..)),
            _ => {}
        }
    }
    (trim(list), None)
}

/// Removes optional whitespace at both ends (RFC 9110 §5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether `byte` is a `tchar` (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_alone() {
        const EMPTY: CodingError = CodingError::Malformed("Transfer-Encoding has an empty element");
        const AFTER: CodingError = CodingError::Malformed("Transfer-Encoding has something after `chunked`");
        const NAME: CodingError = CodingError::Malformed("Transfer-Encoding has an element that names no coding");
        const PARAMETER: CodingError = CodingError::Malformed("Transfer-Encoding has `chunked` with a parameter");
        const LAST: CodingError = CodingError::Malformed("Transfer-Encoding does not end in `chunked`");
        fn check(fields: &[&str], expected: Result<(), CodingError>) {
            assert_eq!(judge(fields.iter().map(|field| field.as_bytes())), expected, "{fields:?}");
        }
        check(&["chunked"], Ok(()));
        check(&["\t Chunked "], Ok(()));
        check(&["gzip, chunked"], Err(CodingError::Unknown));
        check(&["gzip", "chunked"], Err(CodingError::Unknown));
        check(&["identity, chunked"], Err(CodingError::Unknown));
        check(&["x;a=\"b,c\\\",\";d=1 , chunked"], Err(CodingError::Unknown));
        check(&["chunked, chunked"], Err(AFTER));
        check(&["chunked", "chunked"], Err(AFTER));
        check(&["chunked, gzip"], Err(AFTER));
        check(&["chunked", "gzip"], Err(AFTER));
        check(&["gzip, chunked, chunked"], Err(AFTER));
        check(&["chunked,"], Err(AFTER));
        check(&[",chunked"], Err(EMPTY));
        check(&["gzip,,chunked"], Err(EMPTY));
        check(&["", "chunked"], Err(EMPTY));
        check(&["chunked", ""], Err(AFTER));
        check(&[""], Err(EMPTY));
        check(&[], Err(LAST));
        check(&["gzip"], Err(LAST));
        check(&["\"chunked\""], Err(NAME));
        check(&[";q=1, chunked"], Err(NAME));
        check(&["a b, chunked"], Err(NAME));
        check(&["\"x, chunked"], Err(NAME));
        check(&["chunked;q=1"], Err(PARAMETER));
        check(&["chunked ;q=1"], Err(PARAMETER));
        check(&["xchunked"], Err(LAST));
    }
}
