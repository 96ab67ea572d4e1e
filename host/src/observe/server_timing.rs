//! `server-timing` (<https://www.w3.org/TR/server-timing/>): where the time of a request went until its response began.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The times of a request until its response's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerTiming {
    /// Until it had a permit, or was refused.
    pub(crate) queued: Duration,
    /// None if no guest began.
    pub(crate) guest: Option<GuestTiming>,
}

/// The times of its guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestTiming {
    /// Until the instance was ready.
    pub(crate) instantiate: Duration,
    /// From there on: what it ran and waited.
    pub(crate) ran: Duration,
}

impl ServerTiming {
    /// Adds the field after those of the guest, which may have times of its own.
    pub(crate) fn append_to(self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.value()) {
            headers.append(SERVER_TIMING, value);
        }
    }

    /// Durations are in milliseconds.
    fn value(self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let queued = format!("queue;dur={:.3}", ms(self.queued));
        match self.guest {
            None => queued,
            Some(GuestTiming { instantiate, ran }) => {
                format!("{queued}, instantiate;dur={:.3}, guest;dur={:.3}", ms(instantiate), ms(ran))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        #[track_caller]
        fn check(queued_us: u64, guest_us: Option<(u64, u64)>, expected: &str) {
            let us = Duration::from_micros;
            let guest = guest_us.map(|(ready, ran)| GuestTiming { instantiate: us(ready), ran: us(ran) });
            let mut headers = HeaderMap::new();
            headers.append(SERVER_TIMING, HeaderValue::from_static("db;dur=5"));
            ServerTiming { queued: us(queued_us), guest }.append_to(&mut headers);
            let values: Vec<_> =
                headers.get_all(SERVER_TIMING).iter().filter_map(|value| value.to_str().ok()).collect();
            assert_eq!(values, ["db;dur=5", expected]);
        }
        check(0, None, "queue;dur=0.000");
        check(1_234_567, None, "queue;dur=1234.567");
        check(7, Some((120, 30_000)), "queue;dur=0.007, instantiate;dur=0.120, guest;dur=30.000");
    }
}
