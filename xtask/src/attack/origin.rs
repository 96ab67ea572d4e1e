//! An origin that sends interim responses without end.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Duration;

use anyhow::{Context, Result};

const HEAD: &[u8] = b"HTTP/1.1 103 Early Hints\r\n\r\n";

/// Interim responses in one write.
const HEADS: usize = 4_000;

/// Time-out of reads and writes, after which the origin checks whether the attack is over.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Serves until `over` is set, and returns its port.
pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>, over: &'scope AtomicBool) -> Result<u16> {
    let listener = TcpListener::bind(crate::http::local(0)).context("failed to listen as an origin")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    scope.spawn(move || {
        while !over.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((stream, _)) => drop(scope.spawn(move || flood(stream, over))),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    });
    Ok(port)
}

fn flood(mut stream: TcpStream, over: &AtomicBool) {
    let heads = HEAD.repeat(HEADS);
    let is_set = stream.set_nonblocking(false).is_ok()
        && stream.set_read_timeout(Some(LOOK_EVERY)).is_ok()
        && stream.set_write_timeout(Some(LOOK_EVERY)).is_ok();
    let _ = stream.read(&mut [0; 4096]);
    // A write that times out leaves an incomplete head. That ends this flood, and the guest's next request starts
    // another.
    while is_set && !over.load(Ordering::SeqCst) && stream.write_all(&heads).is_ok() {}
}
