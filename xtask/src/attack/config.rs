//! The attacked server: two workers, the default limits, and a route for each guest.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::process;

/// Makes what the server needs in its directory, and returns its configuration.
pub(super) fn configure(port: u16, dir: &Path, guests: &Path) -> Result<String> {
    let granted = dir.join("granted");
    fs::create_dir(&granted)?;
    let mut mkfifo = Command::new("mkfifo");
    mkfifo.arg(granted.join("fifo"));
    process::run(mkfifo, Duration::from_secs(30), &dir.join("mkfifo.log"))?;
    let route = |host: &str, package: &str, keys: &str| {
        let component = guests.join(format!("{package}.wasm"));
        format!("[[route]]\n{host}component = \"{}\"\n{keys}\n", component.display())
    };
    let host = |name: &str| format!("host = \"{name}.test\"\n");
    Ok([
        format!("listen = \"127.0.0.1:{port}\"\nworkers = 2\n"),
        route("", "hello", ""),
        route(&host("echo"), "echo", ""),
        route(&host("stream"), "stream", ""),
        route(&host("trap"), "trap", ""),
        route(&host("excess"), "excess", ""),
        route(&host("outgoing"), "outgoing", "allow_http = [\"http://127.0.0.1:*\"]\n"),
        route(&host("files"), "env", "dirs = [\"granted::/granted\"]\nwall_time = \"300ms\"\n"),
    ]
    .concat())
}
