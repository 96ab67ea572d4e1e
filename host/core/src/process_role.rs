//! The roles of a server's processes, in one word, for the metrics.

use crate::words::words;

words! {
    /// What a process of a server is for.
    pub enum ProcessRole;

    Supervisor = "supervisor", "owns the sockets, and starts the others";
    Observer = "observer", "writes the logs of workers, and serves the admin listener";
    Worker = "worker", "serves";
}
