//! Differences to nginx that are intended.

use super::requests::{Difference, Request};

pub(super) struct Intended {
    pub(super) reason: &'static str,
    is: fn(&Request, &Difference) -> bool,
}

pub(super) const INTENDED: &[Intended] = &[
    Intended {
        reason: "several ranges: the whole file, which RFC 9110, section 14.2, allows, instead of multipart/byteranges",
        is: |request, _| request.has_several_ranges(),
    },
    Intended {
        reason: "a directory without index.html is not found; nginx says that it may not list it (403), and redirects to it",
        is: |request, difference| request.target.starts_with("/no-index") && difference.of == "status",
    },
    Intended {
        reason: "paths with dot segments or empty ones are not found; nginx removes them, or refuses the request",
        is: |request, difference| {
            ["..", "%2e%2e", "//"].iter().any(|part| request.target.contains(part)) && difference.of == "status"
        },
    },
    Intended {
        reason: "text has charset=utf-8, JavaScript is text/javascript (RFC 9239)",
        is: |_, difference| {
            let media_type = |value: &str| {
                value.split(';').next().unwrap_or_default().replace("application/javascript", "text/javascript")
            };
            difference.of == "content-type" && media_type(&difference.ours) == media_type(&difference.theirs)
        },
    },
    Intended {
        reason: "all files have vary: accept-encoding, also those that have no compressed sibling now",
        is: |_, difference| difference.of == "vary" && difference.theirs == "none",
    },
    Intended {
        reason: "a redirect has the path, not a whole address",
        is: |_, difference| difference.of == "location" && difference.theirs.ends_with(&difference.ours),
    },
];

/// The number of the first intended difference that this one is.
pub(super) fn intended(request: &Request, difference: &Difference) -> Option<usize> {
    INTENDED.iter().position(|intended| (intended.is)(request, difference))
}
