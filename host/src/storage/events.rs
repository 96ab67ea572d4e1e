//! What the storage process tells its supervisor, which logs it: lines of a level and a text. An empty line is the
//! heartbeat.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daylily_core::excerpt::Excerpt;
use rustix::net::SendFlags;

use crate::sys::lock::lock;

/// The interval between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Maximum length of a text.
pub(crate) const MAX_EVENT_BYTES: usize = 1_024;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Events(Arc<Mutex<UnixStream>>);

impl Events {
    pub(super) fn new(supervisor: UnixStream) -> Self {
        Self(Arc::new(Mutex::new(supervisor)))
    }

    /// Something is wrong with a store.
    pub(super) fn error(&self, store: &str, error: &dyn Display) {
        self.send('E', store, error);
    }

    /// Something may be wrong.
    pub(super) fn warn(&self, store: &str, text: &dyn Display) {
        self.send('W', store, text);
    }

    pub(super) fn info(&self, store: &str, text: &dyn Display) {
        self.send('I', store, text);
    }

    fn send(&self, level: char, store: &str, text: &dyn Display) {
        let text = Excerpt::within(&text.to_string(), MAX_EVENT_BYTES);
        let line = format!("{level}store `{store}`: {}\n", text.as_str());
        // Few and short: a full socket means that the supervisor hangs.
        let _ = rustix::net::send(&*lock(&self.0), line.as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    /// Sends heartbeats until the supervisor has ended.
    pub(super) fn beat(mut supervisor: UnixStream) -> io::Result<()> {
        loop {
            supervisor.write_all(b"\n")?;
            std::thread::sleep(HEARTBEAT);
        }
    }
}
