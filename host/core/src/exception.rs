//! The exception or panic that ended a guest, in the form in which the runtime of its language writes it to stderr.

/// Where in a line or below it the message is.
enum Message {
    /// After these words, at the start of a line.
    After(&'static str),
    /// The next line after a line that begins with these words.
    Below(&'static str),
}

/// What runtimes write. The first one that the output has counts: Python's runtime panics after an exception.
const FORMS: [Message; 5] = [
    // JavaScript (StarlingMonkey): the handler's promise was rejected; the event listener or a timer has thrown; and a
    // promise was rejected that has no handler.
    Message::After("Error while running request handler: "),
    Message::Below("Exception while "),
    Message::After("Promise rejected but never handled: "),
    // Python writes the stack in between, in lines that begin with spaces.
    Message::Below("Traceback (most recent call last):"),
    // Go, and TinyGo.
    Message::After("panic: "),
];

/// The first line of the message of the exception that was written last.
pub(crate) fn find(stderr: &str) -> Option<&str> {
    let lines: Vec<&str> = stderr.lines().collect();
    FORMS.iter().find_map(|form| form.last_in(&lines)).or_else(|| panic(&lines))
}

impl Message {
    fn last_in<'a>(&self, lines: &[&'a str]) -> Option<&'a str> {
        let message = match self {
            Self::After(words) => lines.iter().rev().find_map(|line| line.strip_prefix(words))?,
            Self::Below(words) => below(lines, lines.iter().rposition(|line| line.starts_with(words))?)?,
        };
        Some(message.trim()).filter(|message| !message.is_empty())
    }
}

/// A panic of Rust: `thread 'main' (1) panicked at src/lib.rs:5:9:`, and the message in the next line.
fn panic<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let at = lines.iter().rposition(|line| line.starts_with("thread '") && line.contains(" panicked at "))?;
    below(lines, at)
}

/// The first line after this one that neither is empty nor begins with a space.
fn below<'a>(lines: &[&'a str], at: usize) -> Option<&'a str> {
    lines.iter().skip(at + 1).find(|line| !line.is_empty() && !line.starts_with(char::is_whitespace)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_of_languages() {
        fn check(stderr: &str, expected: Option<&str>) {
            assert_eq!(find(stderr), expected, "{stderr:?}");
        }
        check("", None);
        check("some text\n", None);
        let thrown = "Error while running request handler: very\nbad\nStack:\n  respond@dist/app.js:13:15\n";
        check(thrown, Some("very"));
        check(&format!("before\n{thrown}\nCaused by: inner\nStack:\n  f@dist/app.js:1:2\n"), Some("very"));
        check("Error while running request handler: \nStack:\n", None);
        let timer = "Exception while evaluating incoming request\ndist/app.js:29:15 Error: later\nWarning: no\n";
        check(timer, Some("dist/app.js:29:15 Error: later"));
        let listener = "Exception while Exception in event listener for fetch\ndist/app.js:5:3 TypeError: x\n";
        check(listener, Some("dist/app.js:5:3 TypeError: x"));
        let rejected = "Warning: Unhandled promise rejections\nPromise rejected but never handled: why\nStack:\n";
        check(rejected, Some("why"));
        let traceback =
            "Traceback (most recent call last):\n  File \"/0/app.py\", line 5, in price\n    return\nKeyError: 'a'\n";
        check(traceback, Some("KeyError: 'a'"));
        let during = "\nDuring handling of the above exception, another exception occurred:\n\n";
        let second = traceback.replace("KeyError", "ValueError");
        check(&format!("{traceback}{during}{second}"), Some("ValueError: 'a'"));
        let panicked = "\nthread '<unnamed>' (1) panicked at src/lib.rs:12:5:\nthe cart is empty\nnote: run with\n";
        check(panicked, Some("the cart is empty"));
        check(&format!("{traceback}{panicked}"), Some("KeyError: 'a'"));
        check("panic: no such item\n\ngoroutine 1 [running]:\n", Some("no such item"));
        check("Traceback (most recent call last):\n  File", None);
        check("thread 'main' panicked at src/lib.rs:12:5:", None);
    }
}
