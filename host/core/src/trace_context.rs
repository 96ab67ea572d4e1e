//! The fields of W3C Trace Context (<https://www.w3.org/TR/trace-context/>), as they are received.

/// The most members of a `tracestate` (§3.3.1.1).
const MAX_STATE_MEMBERS: usize = 32;

/// How much of a `tracestate` is passed on (§3.3.1.5).
const MAX_STATE_BYTES: usize = 512;

/// Members of a `tracestate` that is too long are removed first if they are longer (§3.3.1.5).
const LONG_MEMBER_BYTES: usize = 128;

/// The flags of version 00 that are known: sampled, and, since level 2 of the specification, that the trace id is random.
/// All others have to be 0 in what is sent (§3.2.2.5).
const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;

/// What is used of a valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Not 0.
    pub trace: u128,
    /// The flags, as far as they are known.
    pub flags: u8,
}

impl TraceParent {
    /// Parses a value of version 00, or of a higher version as §4.3 says: what follows its first four parts is ignored.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(55)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let (version, trace, parent) = (parts.next()?, parts.next()?, parts.next()?);
        let (version, trace) = (hex::<2>(version)?, hex::<32>(trace)?);
        let (parent, flags) = (hex::<16>(parent)?, hex::<2>(parts.next()?)?);
        if parts.next().is_some() || trace == 0 || parent == 0 {
            return None;
        }
        let known = match version {
            0 if rest.is_empty() => SAMPLED | RANDOM,
            0 | 255 => return None,
            _ if rest.is_empty() || rest.starts_with(b"-") => SAMPLED,
            _ => return None,
        };
        Some(Self { trace, flags: u8::try_from(flags).ok()? & known })
    }
}

/// The number that `DIGITS` hex digits in lower case write.
fn hex<const DIGITS: usize>(text: &[u8]) -> Option<u128> {
    let digits: &[u8; DIGITS] = text.try_into().ok()?;
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// The `tracestate` that is passed on for the values of all such fields of a request, in their order. None if they have
/// no members, or one that is invalid (§4.2: the `traceparent` is used all the same). Of one that is too long, whole
/// members are left out.
pub fn trace_state<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut members = Vec::new();
    for value in values {
        for member in std::str::from_utf8(value).ok()?.split(',') {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            if !is_member(member) {
                return None;
            }
            members.push(member);
        }
    }
    let mut bytes = members.iter().map(|member| member.len() + 1).sum::<usize>();
    if members.len() > MAX_STATE_MEMBERS || bytes > MAX_STATE_BYTES + 1 {
        members.retain(|member| member.len() <= LONG_MEMBER_BYTES);
        members.truncate(MAX_STATE_MEMBERS);
        bytes = members.iter().map(|member| member.len() + 1).sum();
        while bytes > MAX_STATE_BYTES + 1 {
            bytes -= members.pop()?.len() + 1;
        }
    }
    (!members.is_empty()).then(|| members.join(","))
}

/// Whether this is `key=value` (§3.3.1.3). Keys of either level are valid.
fn is_member(member: &str) -> bool {
    const MAX_BYTES: usize = 256;
    let Some((key, value)) = member.split_once('=') else { return false };
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_key = key.bytes().next().is_some_and(is_word)
        && key.len() <= MAX_BYTES
        && key.bytes().all(|byte| is_word(byte) || b"_-*/@".contains(&byte));
    // A space at its end has been trimmed.
    let is_value =
        (1..=MAX_BYTES).contains(&value.len()) && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=');
    is_key && is_value
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;

    #[test]
    fn parents() {
        /// With `T` for the trace id and `P` for the parent's.
        #[track_caller]
        fn check(value: &str, expected: Option<u8>) {
            let text = value.replace('T', "0af7651916cd43dd8448eb211c80319c").replace('P', "b7ad6b7169203331");
            let expected = expected.map(|flags| TraceParent { trace: TRACE, flags });
            assert_eq!(TraceParent::parse(text.as_bytes()), expected, "{text}");
        }
        check("00-T-P-01", Some(1));
        check("00-T-P-00", Some(0));
        check("00-T-P-02", Some(2));
        check("00-T-P-03", Some(3));
        // Unknown flags are not passed on.
        check("00-T-P-ff", Some(3));
        check("00-T-P-fc", Some(0));
        // Version 00 has nothing more, a higher one may.
        check("00-T-P-01-", None);
        check("00-T-P-01-what", None);
        check("00-T-P-01.", None);
        check("01-T-P-01", Some(1));
        check("cc-T-P-03-what-the-future", Some(1));
        check("fe-T-P-01-", Some(1));
        check("cc-T-P-01.what", None);
        check("cc-T-P-011", None);
        check("ff-T-P-01", None);
        // Zeros, upper case, lengths and separators.
        check("00-00000000000000000000000000000000-P-01", None);
        check("00-T-0000000000000000-01", None);
        check("00-0AF7651916CD43DD8448EB211C80319C-P-01", None);
        check("00-T-B7AD6B7169203331-01", None);
        check("00-T-P-0A", None);
        check("CC-T-P-01", None);
        check("00-Ta-P-01", None);
        check("00-T-Pa-01", None);
        check("000-T-P-01", None);
        check("0-T-P-01", None);
        check("00-T-P-1", None);
        check("00-T-P-001", None);
        check("00-T-P-", None);
        check("00-T-P", None);
        check("00_T-P-01", None);
        check("00-T_P-01", None);
        check("00-T-P_01", None);
        check("00-0af7651916cd43dd8448eb211c80319g-P-01", None);
        check("00-0af7651916cd43dd-448eb211c80319c-P-01", None);
        check(" 00-T-P-01", None);
        check("", None);
        check("-", None);
        check(&"-".repeat(55), None);
        check("00-T-P-01, 00-T-P-01", None);
        check("00-T-P-é", None);
    }

    #[test]
    fn states() {
        #[track_caller]
        fn check(values: &[&str], expected: Option<&str>) {
            let state = trace_state(values.iter().map(|value| value.as_bytes()));
            assert_eq!(state.as_deref(), expected, "{values:?}");
        }
        check(&[], None);
        check(&[""], None);
        check(&[" , ,"], None);
        check(&["a=1"], Some("a=1"));
        check(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
        check(&["a=1 ,\tb= 2,,"], Some("a=1,b= 2"));
        check(&["a=1", "b=2,c=3"], Some("a=1,b=2,c=3"));
        check(&["t@s=1,0a_-*/=~"], Some("t@s=1,0a_-*/=~"));
        // One that is invalid takes the others with it.
        for invalid in ["a", "=1", "a=", "A=1", "a=b=c", "_a=1", "a b=1", "a=\u{7f}", "a=é", "é=a"] {
            check(&["b=2", invalid], None);
        }
        check(&[&format!("{}=1", "k".repeat(257))], None);
        check(&[&format!("k={}", "v".repeat(257))], None);
    }

    #[test]
    fn states_that_are_too_long() {
        #[track_caller]
        fn check(members: &[String], expected: &[String]) {
            let all = members.join(",");
            assert_eq!(trace_state([all.as_bytes()].into_iter()), Some(expected.join(",")));
        }
        let short: Vec<_> = (0..40).map(|number| format!("k{number}=1")).collect();
        check(&short[..32], &short[..32]);
        check(&short, &short[..32]);
        let member = |bytes: usize| format!("k={}", "v".repeat(bytes - 2));
        // 512 bytes in all, and one more.
        let full = vec![member(127), member(127), member(127), member(128)];
        check(&full, &full);
        let over = vec![member(127), member(127), member(128), member(128)];
        check(&over, &over[..3]);
        // Long members go first, and stay if there is room.
        check(&[member(200), member(200)], &[member(200), member(200)]);
        check(&[member(129), member(128), member(200), member(128)], &[member(128), member(128)]);
        check(&[member(256), member(258), "a=1".to_owned()], &["a=1".to_owned()]);
        let long = [member(258), member(258)].join(",");
        assert_eq!(trace_state([long.as_bytes()].into_iter()), None, "nothing is left");
        assert_eq!(trace_state([&b"a=\xff"[..]].into_iter()), None, "not UTF-8");
    }
}
