//! Which requests are a browser's for a page.

use http::HeaderMap;
use http::header::ACCEPT;

/// Whether a browser wants to show the response as a page. Browsers say so in `sec-fetch-mode`; older ones, and other
/// clients, ask for `text/html`.
pub(crate) fn is_navigation(headers: &HeaderMap) -> bool {
    if let Some(mode) = headers.get("sec-fetch-mode") {
        return mode == "navigate";
    }
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.split(',').any(|range| range.trim_start().starts_with("text/html")))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn navigations() {
        fn check(fields: &[(&'static str, &'static str)], expected: bool) {
            let headers =
                fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            assert_eq!(is_navigation(&headers.collect()), expected, "{fields:?}");
        }
        let page = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        check(&[], false);
        check(&[("accept", page)], true);
        check(&[("accept", "*/*")], false);
        check(&[("accept", "application/json, text/html;q=0.5")], true);
        check(&[("accept", page), ("sec-fetch-mode", "navigate")], true);
        check(&[("accept", page), ("sec-fetch-mode", "no-cors")], false);
        check(&[("accept", "*/*"), ("sec-fetch-mode", "navigate")], true);
    }
}
