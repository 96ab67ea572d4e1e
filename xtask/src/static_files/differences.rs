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
        reason: "206, 304, 412 and 416 have the fields of the file, too: accept-ranges, etag, last-modified",
        is: |_, difference| {
            ["accept-ranges", "etag", "last-modified"].contains(&difference.of) && difference.theirs == "none"
        },
    },
    Intended {
        reason: "a range that ends before it begins is invalid and ignored (RFC 9110, section 14.1.1); nginx answers 416",
        is: |request, difference| request.has("range", "bytes=2-1") && difference.is_status("200", "416"),
    },
    Intended {
        reason: "no range of an empty file can be satisfied (416); nginx sends the file if the range begins at 0",
        is: |request, difference| request.target == "/empty.txt" && difference.is_status("416", "200"),
    },
    Intended {
        reason: "another method than GET and HEAD is not allowed, whatever the path",
        is: |request, difference| request.method == "POST" && difference.of == "status" && difference.ours == "405",
    },
];

impl Request {
    fn has(&self, name: &str, value: &str) -> bool {
        self.fields.contains(&(name, value))
    }

    /// Whether it asks for several ranges.
    fn has_several_ranges(&self) -> bool {
        self.fields.iter().any(|(name, value)| *name == "range" && value.contains(','))
    }
}

impl Difference {
    fn is_status(&self, ours: &str, theirs: &str) -> bool {
        self.of == "status" && (self.ours.as_str(), self.theirs.as_str()) == (ours, theirs)
    }
}

/// The number of the first intended difference that this one is.
pub(super) fn intended(request: &Request, difference: &Difference) -> Option<usize> {
    INTENDED.iter().position(|intended| (intended.is)(request, difference))
}
