//! The script of pages, and the page that shows an error.

/// Loads the page again when another generation serves than the one that the page is of. Only the page that is looked
/// at keeps a connection: browsers have six for each server.
pub(super) const SCRIPT: &str = include_str!("reload.js");

const STYLE: &str = include_str!("error.css");

/// A page in HTML with a title and, below it, a reason, which may be empty, and text as it is.
pub(super) fn error(title: &str, reason: &str, text: &str) -> String {
    let (title, reason, text) = (escaped(title), escaped(reason), escaped(text));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n\
         <main>\n<h1>{title}</h1>\n<p>{reason}</p>\n<pre>{text}</pre>\n\
         <p>This page loads again by itself when something was built or changed.</p>\n</main>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_not_markup() {
        let page = error("a < b", "b > a & c", "<script>&amp;</script>");
        assert!(
            page.contains("<h1>a &lt; b</h1>\n<p>b > a &amp; c</p>")
                && page.contains("<pre>&lt;script>&amp;amp;&lt;/script></pre>"),
            "{page}"
        );
    }
}
