//! Writes to stdout and stderr what the path names, and responds with `ok`.

use std::io::Write as _;

use kit::{IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    match target.path() {
        "/lines" => {
            write(b"one\ntwo\n");
            let _ = std::io::stderr().write_all(b"err\n");
        }
        "/partial" => write(b"no newline"),
        "/flood" => {
            let line = [[b'x'; 79].as_slice(), b"\n"].concat();
            for _ in 0..target.number("kib").unwrap_or(0) * 1024 / 80 {
                write(&line);
            }
        }
        // Lines of one character, in a single call.
        "/short-lines" => {
            let lines = b"x\n".repeat(target.number("count").unwrap_or(1) as usize);
            let stdout = kit::wasi::cli::stdout::get_stdout();
            let _ = stdout.check_write().and_then(|_| stdout.write(&lines));
        }
        // A line for each byte, on stdout and on stderr.
        "/bytes" => {
            for byte in 0..=u8::MAX {
                let line = [b'<', byte, b'"', byte, b'\\', b'>', b'\n'];
                write(&line);
                let _ = std::io::stderr().write_all(&line);
            }
        }
        "/utf8" => write(b"bad \xff\xfe, red \x1b[31m, bell \x07, return \r, nul \0.\n"),
        _ => {}
    }
    kit::text(out, "ok\n");
}

/// Ignores an error, because the host may refuse to accept more.
fn write(bytes: &[u8]) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

kit::serve!(handle);
