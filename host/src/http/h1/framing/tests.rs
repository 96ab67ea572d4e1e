//! Single cases, and a comparison with [`super::reference`] over generated input.

use super::reference::{End, Message, read};
use super::{Body, Error, Framing, Limits, MAX_EMPTY_LINES, Step};
use crate::message::transfer_coding::chunked::{self, MAX_EXTENSION_BYTES, MAX_TRAILER_BYTES};

const LIMITS: Limits = Limits { head_bytes: 64 * 1024, fields: 3 };

/// Pseudo-random numbers from a fixed seed (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// The body that a head in these tests announces.
fn body_of(head: &[u8]) -> Body {
    let head = String::from_utf8_lossy(head);
    if head.contains("chunked") {
        return Body::Chunked;
    }
    let length = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok();
    Body::Length(head.lines().rev().find_map(length).unwrap_or(0))
}

/// All complete messages of `input`, which is read in pieces whose sizes `piece` returns.
fn run(input: &[u8], mut piece: impl FnMut() -> usize) -> (Vec<Message>, End) {
    let mut framing = Framing::new(LIMITS);
    let mut messages = Vec::new();
    let mut message: Option<Message> = None;
    let (mut at, mut came) = (0, 0);
    loop {
        if at == came {
            if came == input.len() {
                return (messages, End::Open);
            }
            came = (came + piece()).min(input.len());
        }
        let was_head = framing.is_head();
        let Ok(Step { skip, pass }) = framing.step(&input[at..came]) else { return (messages, End::Wrong) };
        assert!(skip + pass > 0 && (skip == 0 || was_head), "{skip} and {pass}");
        let passed = &input[at + skip..at + skip + pass];
        at += skip + pass;
        let whole = message.get_or_insert(Message { head: Vec::new(), body: Vec::new(), has_fragment: false });
        let (head, body) = passed.split_at(if was_head { pass - framing.ahead() as usize } else { 0 });
        whole.head.extend(head);
        whole.body.extend(body);
        if framing.has_head_passed() {
            whole.has_fragment = framing.has_fragment();
            framing.begin_body(body_of(&whole.head)).unwrap();
            if framing.is_head() {
                messages.extend(message.take());
            }
        } else if framing.is_head() && !was_head {
            messages.extend(message.take());
        }
    }
}

fn a_head(numbers: &mut Numbers, framing: &str) -> Vec<u8> {
    let mut head = Vec::new();
    for _ in 0..numbers.pick(&[0, 0, 0, 1, 2, 15, 17]) {
        head.extend_from_slice(numbers.pick(&[&b"\r\n"[..], b"\n"]));
    }
    let target = numbers.pick(&["/", "/a?b=c", "/#f", "/?x#", "http://a/b", "*"]);
    let method = numbers.pick(&["GET", "POST", "X#Y"]);
    let lines = [&format!("{method} {target} HTTP/1.1"), "Host: a", "x: #\ry", framing, ""];
    for line in lines {
        if line.is_empty() && !head.is_empty() && numbers.one_in(10) {
            continue;
        }
        head.extend(line.as_bytes());
        head.extend_from_slice(if numbers.one_in(6) { b"\n" } else { b"\r\n" });
    }
    head
}

fn a_body(numbers: &mut Numbers) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..numbers.below(4) {
        let size = numbers.pick(&[1, 2, 9, 16, 200]);
        let zeros = numbers.pick(&["", "", "", "0", "00000000000000", "0000000000000000"]);
        let extension = numbers.pick(&["", "", "", ";a", " ; a=b", "\t;q=\"x;y\"", ";", " "]);
        let data: Vec<u8> = (0..size).map(|_| numbers.pick(b"x\r\n0")).collect();
        body.extend(format!("{zeros}{size:x}{extension}\r\n").into_bytes());
        body.extend(data);
        body.extend(b"\r\n");
    }
    body.extend_from_slice(numbers.pick(&[&b"0\r\n"[..], b"00;last\r\n", b"0\r\n"]));
    for _ in 0..numbers.pick(&[0, 0, 1, 2, 3, 4]) {
        body.extend_from_slice(numbers.pick(&[&b"a: b\r\n"[..], b"c:\r\n", b"d:\te \xff\r\n", b"#:~\r\n"]));
    }
    body.extend(b"\r\n");
    body
}

fn some_messages(numbers: &mut Numbers) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..=numbers.below(3) {
        match numbers.below(3) {
            0 => input.extend(a_head(numbers, "a: b")),
            1 => {
                let length = numbers.below(30);
                input.extend(a_head(numbers, &format!("Content-Length: {length}")));
                input.extend((0..length).map(|_| numbers.pick(b"x\r\n")));
            }
            _ => {
                input.extend(a_head(numbers, "Transfer-Encoding: chunked"));
                input.extend(a_body(numbers));
            }
        }
    }
    for _ in 0..numbers.pick(&[0, 0, 1, 1, 2, 5]) {
        let at = numbers.below(input.len());
        let byte = numbers.pick(b"\r\n\r\n;: \t0aZ#\x00\x7f\xff\"");
        match numbers.below(3) {
            0 => input[at] = byte,
            1 => input.insert(at, byte),
            _ => drop(input.remove(at)),
        }
    }
    input
}

#[test]
fn both_readers_agree_on_generated_connections() {
    const CASES: u64 = 40_000;
    let (mut open, mut wrong, mut whole) = (0, 0, 0);
    for seed in 1..=CASES {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let input = some_messages(&mut numbers);
        let expected = read(&input, LIMITS, body_of);
        let most = numbers.pick(&[1, 2, 7, 100, 100_000]);
        let seen = run(&input, || 1 + numbers.below(most));
        assert_eq!(seen, expected, "seed {seed}: {:?}", String::from_utf8_lossy(&input));
        whole += expected.0.len();
        match expected.1 {
            End::Open => open += 1,
            End::Wrong => wrong += 1,
        }
    }
    // The generator produced enough input of each kind.
    assert!(open > 10_000 && wrong > 5_000 && whole > 30_000, "{open} open, {wrong} wrong, {whole} whole");
}

/// Reads a chunked body in one piece and byte by byte, and checks how many of its bytes pass and the error after them.
#[track_caller]
fn check(body: &[u8], passes: usize, error: Option<chunked::Error>) {
    for most in [1_usize, usize::MAX] {
        let mut framing = Framing::new(LIMITS);
        framing.step(b"POST / HTTP/1.1\r\n\r\n").unwrap();
        framing.begin_body(Body::Chunked).unwrap();
        let mut at = 0_usize;
        let seen = loop {
            let piece = &body[at..(at.saturating_add(most)).min(body.len())];
            if piece.is_empty() || framing.is_head() {
                break None;
            }
            match framing.step(piece) {
                Ok(step) => at += step.pass,
                Err(error) => break Some(error),
            }
        };
        let text = String::from_utf8_lossy(&body[..body.len().min(100)]);
        assert_eq!((at, seen), (passes, error.map(Error::Chunked)), "{text:?} in pieces of {most}");
        assert_eq!(framing.step(b"GET").is_err(), error.is_some(), "{text:?}: nothing comes after an error");
    }
}

#[test]
fn chunks_end_where_rfc_9112_says() {
    let next = b"GET / HTTP/1.1\r\n";
    let whole: [&[u8]; 8] = [
        b"0\r\n\r\n",
        b"0000000000000000\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"A;x\r\n0123456789\r\n0\r\n\r\n",
        b"1 ;a=\"\\\"\"\t; b\r\n\n\r\n0;z\r\n\r\n",
        b"0\r\nX: a\r\n\r\n",
        b"0\r\nX:\r\ny:\tb \r\n\r\n",
        b"000000000000001\r\n\r\r\n0\r\n\r\n",
    ];
    for body in whole {
        check(&[body, next].concat(), body.len(), None);
    }
}

#[test]
fn what_is_no_chunk() {
    check(b"\r\n", 0, Some(chunked::Error::ChunkSize));
    check(b"0x5\r\n", 1, Some(chunked::Error::ChunkSize));
    check(b"5 \r\n", 2, Some(chunked::Error::ChunkSize));
    check(b"5\nhello", 1, Some(chunked::Error::ChunkSize));
    check(&[b'0'; 40], 16, Some(chunked::Error::ChunkSizeDigits));
    check(b"00000000000000005\r\n", 16, Some(chunked::Error::ChunkSizeDigits));
    check(b"5\rh", 2, Some(chunked::Error::BareCr));
    check(b"5;a\nhello", 3, Some(chunked::Error::Extension));
    check(b"5;a\0", 3, Some(chunked::Error::Extension));
    check(b"1\r\nhello", 4, Some(chunked::Error::ChunkEnd));
    check(b"1\r\nh\n0\r\n\r\n", 4, Some(chunked::Error::ChunkEnd));
    check(b"1\r\nh\r\r\n", 5, Some(chunked::Error::ChunkEnd));
}

#[test]
fn what_is_no_trailer_section() {
    check(b"0\r\n\n", 3, Some(chunked::Error::Trailer));
    check(b"0\r\nX: a\n\r\n", 7, Some(chunked::Error::Trailer));
    check(b"0\r\nX: a\r\n\n", 9, Some(chunked::Error::Trailer));
    check(b"0\r\nX: a\r\n folded\r\n\r\n", 9, Some(chunked::Error::Trailer));
    check(b"0\r\nX : a\r\n\r\n", 4, Some(chunked::Error::Trailer));
    check(b"0\r\n: a\r\n\r\n", 3, Some(chunked::Error::Trailer));
    check(b"0\r\nX\r\n\r\n", 4, Some(chunked::Error::Trailer));
    check(b"0\r\nX: a\rb\r\n\r\n", 8, Some(chunked::Error::BareCr));
    check(b"0\r\n\rX", 4, Some(chunked::Error::BareCr));
    check(b"0\r\na:\r\nb:\r\nc:\r\nd:\r\n\r\n", 15, Some(chunked::Error::TrailerFields));
}

#[test]
fn what_yields_nothing_is_bounded() {
    let extension = |bytes: usize| [b"1;".to_vec(), vec![b'x'; bytes - 1], b"\r\nx\r\n0\r\n\r\n".to_vec()].concat();
    check(&extension(MAX_EXTENSION_BYTES), MAX_EXTENSION_BYTES + 11, None);
    check(&extension(MAX_EXTENSION_BYTES + 1), MAX_EXTENSION_BYTES + 1, Some(chunked::Error::ExtensionBytes));
    // The limit counts the extensions of all chunks of a body.
    let many = b"1;12345678\r\nx\r\n".repeat(MAX_EXTENSION_BYTES / 9 + 1);
    check(&many, MAX_EXTENSION_BYTES / 9 * 15 + 1 + MAX_EXTENSION_BYTES % 9, Some(chunked::Error::ExtensionBytes));
    let trailer = |bytes: usize| [b"0\r\nX:".to_vec(), vec![b'x'; bytes - 6], b"\r\n\r\n".to_vec()].concat();
    check(&trailer(MAX_TRAILER_BYTES), MAX_TRAILER_BYTES + 3, None);
    check(&trailer(MAX_TRAILER_BYTES + 1), MAX_TRAILER_BYTES + 3, Some(chunked::Error::TrailerBytes));

    let mut framing = Framing::new(LIMITS);
    let lines = b"\r\n".repeat(usize::from(MAX_EMPTY_LINES));
    assert_eq!(framing.step(&lines), Ok(Step { skip: lines.len(), pass: 0 }));
    assert_eq!(framing.step(b"\n"), Err(Error::EmptyLines));
}

#[test]
fn what_yields_nothing_takes_turns() {
    fn check(body: &[u8], expected: usize) {
        let mut framing = Framing::new(LIMITS);
        framing.step(b"POST / HTTP/1.1\r\n\r\n").unwrap();
        framing.begin_body(Body::Chunked).unwrap();
        let turns = body.chunks(100).filter(|piece| {
            framing.step(piece).unwrap();
            framing.is_turn_over()
        });
        assert_eq!(turns.count(), expected);
    }
    check(&b"1\r\nx\r\n".repeat(10_000), 12);
    check(&b"1;extension\r\nx\r\n".repeat(1_000), 3);
    check(&[b"0\r\nX:", &[b'x'; 16_000][..]].concat(), 3);
    check(&[b"100000\r\n", &[b'x'; 1_000_000][..]].concat(), 0);
}

#[test]
fn a_head_and_the_parser_must_agree() {
    let mut framing = Framing::new(LIMITS);
    framing.step(b"GET / HTTP/1.1\r\n").unwrap();
    assert_eq!(framing.begin_body(Body::Length(0)), Err(Error::Ambiguous), "the head has not ended");
    assert_eq!(framing.step(b"\r\n"), Err(Error::Ambiguous));

    let mut framing = Framing::new(LIMITS);
    assert_eq!(framing.step(b"GET / HTTP/1.1\n\nGET"), Ok(Step { skip: 0, pass: 16 }));
    assert_eq!(framing.step(b"GET"), Err(Error::Ambiguous), "the parser wants more of a head that has ended");
    assert_eq!(framing.begin_body(Body::Length(0)), Err(Error::Ambiguous));
}

#[test]
fn a_whole_body_passes_with_its_head() {
    fn check(fields: &str, behind: &str, expected: u64) {
        let head = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
        let mut framing = Framing::new(LIMITS);
        let step = framing.step(format!("{head}{behind}").as_bytes()).unwrap();
        assert_eq!((step.pass, framing.ahead()), (head.len() + expected as usize, expected), "{fields}");
        if expected > 0 {
            assert_eq!(framing.begin_body(Body::Chunked), Err(Error::Ambiguous), "{fields}");
        }
    }
    check("Content-Length: 3", "abc", 3);
    check("Host: a\r\ncontent-LENGTH:\t3 ", "abcGET", 3);
    check("Content-Length: 3", "ab", 0);
    check("Content-Length: 0", "GET", 0);
    check("Content-Length: 3\r\nContent-Length: 3", "abc", 0);
    check("Content-Length: 3\r\nTransfer-Encoding: chunked", "abc", 0);
    check("Transfer-Encoding: x\r\nContent-Length: 3", "abc", 0);
    check("Content-Length: +3", "abc", 0);
    check("Content-Length: 3, 3", "abc", 0);
    check("Content-Length: ", "abc", 0);
    check("Content-Length: 99999999999999999999", "abc", 0);
    check("X-Content-Length: 3", "abc", 0);

    let mut framing = Framing::new(LIMITS);
    framing.step(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").unwrap();
    assert_eq!(framing.begin_body(Body::Length(3)), Ok(()));
    assert!(framing.is_head());

    // A field that is received in pieces is not evaluated.
    let mut framing = Framing::new(LIMITS);
    framing.step(b"POST / HTTP/1.1\r\nContent-Len").unwrap();
    assert_eq!(framing.step(b"gth: 3\r\n\r\nabc"), Ok(Step { skip: 0, pass: 10 }));
}

#[test]
fn a_request_line_that_is_too_long_is_told_from_a_head() {
    fn check(pieces: &[&[u8]], expected: bool) {
        let mut framing = Framing::new(Limits { head_bytes: 20, fields: 3 });
        for piece in pieces {
            framing.step(piece).unwrap();
        }
        assert_eq!(framing.is_request_line_too_long(), expected, "{pieces:?}");
    }
    check(&[b"GET /aaaaaaaaaaaaaaaaaaaaaaaaa"], true);
    check(&[b"GET /aaaaaaaaaaaaaa", b"aaaa HTTP/1.1\r\n\r\n"], true);
    check(&[b"GET / HTTP/1.1\r\n"], false);
    check(&[b"\r\n\r\nGET / HTTP/1.1\r\nx: yyyyyyyyy"], false);
}
