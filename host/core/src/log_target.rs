//! The targets of log lines: what a line is about, as a name that does not change when source files move.
//!
//! Each line that daylily logs has one of these targets, and `log` in a configuration can set a level for each of
//! them. They are constants, so that a disabled line costs one comparison with the log's highest level.

/// All targets below it: matches each line of daylily itself, but not the output of guests. No line has it.
pub const DAYLILY: &str = "daylily";

/// The admin listener.
pub const ADMIN: &str = "daylily::admin";

/// Reading, compiling and linking components, and the cache of compiled code.
pub const COMPONENT: &str = "daylily::component";

/// Builds of `daylily dev`, and the files that start them.
pub const BUILD: &str = "daylily::build";

/// Client connections: accepting them, and why they ended.
pub const CONNECTION: &str = "daylily::connection";

/// The control socket.
pub const CONTROL: &str = "daylily::control";

/// File calls of guests that do not return.
pub const FILES: &str = "daylily::files";

/// The log itself.
pub const LOG: &str = "daylily::log";

/// Outgoing requests of guests.
pub const OUTGOING: &str = "daylily::outgoing";

/// Requests of clients: error responses, failed guests, and the end of each request.
pub const REQUEST: &str = "daylily::request";

/// Key-value stores: files that cannot be used, the process that keeps them, and operations that fail.
pub const STORAGE: &str = "daylily::storage";

/// Schedules: runs that failed, were lost, skipped or missed.
pub const SCHEDULE: &str = "daylily::schedule";

/// The server as a whole: reloads, upgrades, stops, and what systemd passed.
pub const SUPERVISOR: &str = "daylily::supervisor";

/// Worker processes: those that are ready, and those that ended, hung or are replaced.
pub const WORKER: &str = "daylily::worker";

/// What guests write to stdout and stderr, and log through `wasi:logging`.
pub const GUEST: &str = "guest";

/// Every target.
pub const ALL: [&str; 15] = [
    DAYLILY, ADMIN, BUILD, COMPONENT, CONNECTION, CONTROL, FILES, LOG, OUTGOING, REQUEST, SCHEDULE, STORAGE,
    SUPERVISOR, WORKER, GUEST,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The host's filter compares the beginnings of targets, which must not make one match another one's lines.
    #[test]
    fn no_target_is_the_beginning_of_another_one_except_its_parent() {
        for one in ALL {
            for other in ALL.into_iter().filter(|other| *other != one) {
                let rest = other.strip_prefix(one);
                assert!(rest.is_none_or(|rest| rest.starts_with("::")), "{one} and {other}");
            }
        }
    }
}
