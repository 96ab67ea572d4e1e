//! Parses the files that `env_file` names.
//!
//! Known parsers of this format differ in what they do with quotes, comments and variables in values, and those for Rust
//! replace variables by what the process's environment has. Here, what could be read in two ways is an error. An error
//! has the number of a line and never its text, which may be a secret.

use std::collections::BTreeMap;

use crate::ValueError;
use crate::grants::{check_env, not_expanded};

/// An error, and the line that it is in, from 1.
pub type LineError = (usize, ValueError);

/// The variables of a file.
///
/// # Errors
///
/// All that is invalid in it.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, Vec<LineError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut parser = Parser { rest: &text, line: 1 };
    let (mut variables, mut lines) = (BTreeMap::new(), BTreeMap::new());
    let mut errors = Vec::new();
    while !parser.rest.is_empty() {
        let line = parser.line;
        match parser.variable() {
            Ok(None) => {}
            Ok(Some((name, value))) => {
                if let Some(first) = lines.insert(name.clone(), line) {
                    let error = ValueError::new(format!("the variable is also set in line {first}"));
                    errors.push((line, error.help("remove one of the two")));
                }
                variables.insert(name, value);
            }
            Err(error) => errors.push((line, error)),
        }
        parser.skip_line();
    }
    if errors.is_empty() { Ok(variables) } else { Err(errors) }
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
}

impl Parser<'_> {
    /// Parses one line without its end, or the lines of a quoted value. None for an empty line or a comment.
    fn variable(&mut self) -> Result<Option<(String, String)>, ValueError> {
        self.skip_blanks();
        if self.is_at_end() {
            return Ok(None);
        }
        let name = self.name()?;
        let has_blanks = self.skip_blanks();
        let value = match self.peek() {
            Some('\'') => self.quoted('\'')?,
            Some('"') => self.quoted('"')?,
            Some('`') => return Err(ValueError::new("invalid quote").help("quote a value with ' or \"")),
            Some('#') if !has_blanks => {
                return Err(
                    ValueError::new("the value begins with `#`").help("quote it, or put a space before a comment")
                );
            }
            _ => self.unquoted()?,
        };
        if value.contains('\0') {
            return Err(ValueError::new("the value has a NUL character"));
        }
        Ok(Some((name, value)))
    }

    /// The name, without the `export` before it, and the `=`.
    fn name(&mut self) -> Result<String, ValueError> {
        let line = self.rest.lines().next().unwrap_or_default();
        let Some((name, _)) = line.split_once('=') else {
            let help = "write NAME=value, and quote a value that has several lines";
            return Err(ValueError::new("there is no `=`").help(help));
        };
        for _ in 0..=name.chars().count() {
            self.next();
        }
        let name = name.trim_end();
        let name = match name.split_once([' ', '\t']) {
            Some(("export", name)) => name.trim_start(),
            _ => name,
        };
        if check_env(name, "").is_err() || name.contains(['"', '\'', '`']) {
            let help = "a name must not be empty or contain white space, quotes or control characters";
            return Err(ValueError::new("invalid name of a variable").help(help));
        }
        Ok(name.to_owned())
    }

    fn unquoted(&mut self) -> Result<String, ValueError> {
        let mut value = String::new();
        while let Some(next) = self.peek().filter(|next| *next != '\n') {
            if next == '#' && (value.is_empty() || value.ends_with([' ', '\t'])) {
                break;
            }
            self.next();
            self.take(next, &mut value)?;
        }
        Ok(value.trim_end().to_owned())
    }

    fn quoted(&mut self, quote: char) -> Result<String, ValueError> {
        let mut value = String::new();
        self.next();
        loop {
            match self.next() {
                None => return Err(ValueError::new("the value has no closing quote")),
                Some(next) if next == quote => break,
                Some(next) if quote == '\'' => value.push(next),
                Some('\\') => value.push(match self.next() {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some(escaped @ ('\\' | '"' | '\'' | '$')) => escaped,
                    _ => {
                        let help =
                            "in double quotes, write \\n, \\r, \\t, \\\\, \\\" or \\$; in single quotes there are none";
                        return Err(ValueError::new("unknown escape").help(help));
                    }
                }),
                Some(next) => self.take(next, &mut value)?,
            }
        }
        self.skip_blanks();
        if self.is_at_end() {
            return Ok(value);
        }
        Err(ValueError::new("there is text after the closing quote").help("quote the whole value"))
    }

    /// Appends `next`, which was read, unless it begins an expansion.
    fn take(&mut self, next: char, value: &mut String) -> Result<(), ValueError> {
        if next == '$' && self.rest.starts_with('{') {
            return Err(not_expanded("the value", "NAME"));
        }
        if next == '$' && self.rest.starts_with("${") {
            self.next();
        }
        value.push(next);
        // The brace of an escaped `${`.
        if next == '$' && self.rest.starts_with('{') {
            value.extend(self.next());
        }
        Ok(())
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut rest = self.rest.chars();
        let next = rest.next();
        self.rest = rest.as_str();
        self.line += usize::from(next == Some('\n'));
        next
    }

    /// Whether the line ends here, with or without a comment.
    fn is_at_end(&self) -> bool {
        matches!(self.peek(), None | Some('\n' | '#'))
    }

    fn skip_blanks(&mut self) -> bool {
        let rest = self.rest.trim_start_matches([' ', '\t']);
        let is_any = rest.len() < self.rest.len();
        self.rest = rest;
        is_any
    }

    /// Goes to the start of the next line.
    fn skip_line(&mut self) {
        while self.next().is_some_and(|next| next != '\n') {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        fn check(text: &str, expected: &[(&str, &str)]) {
            let expected = expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            assert_eq!(parse(text), Ok(expected), "{text:?}");
        }
        check("", &[]);
        check("\n \n# a comment\n  # another", &[]);
        check("A=b", &[("A", "b")]);
        check("\u{feff}A=b\r\nB=c\r\n", &[("A", "b"), ("B", "c")]);
        check("export A=b\n\texport\tB = c\nexported=d", &[("A", "b"), ("B", "c"), ("exported", "d")]);
        check("A=\nB= \nC= # none\n", &[("A", ""), ("B", ""), ("C", "")]);
        check("A=b c # a comment\nB=c#d\n", &[("A", "b c"), ("B", "c#d")]);
        check("A=it's \"so\"\nB=a=b\nC=\\n\n", &[("A", "it's \"so\""), ("B", "a=b"), ("C", "\\n")]);
        check("A=' b # c ' # d\nB=\" e \"#f", &[("A", " b # c "), ("B", " e ")]);
        check("A='one\ntwo'\nB=\"three\r\nfour\"\nC=5", &[("A", "one\ntwo"), ("B", "three\nfour"), ("C", "5")]);
        check(r#"A="\n\t\r\\\"\$\'"  B"#.trim_end_matches("  B"), &[("A", "\n\t\r\\\"$'")]);
        check(r"A='\n\'", &[("A", r"\n\")]);
        check("A=$B $ {C} $", &[("A", "$B $ {C} $")]);
        check(
            "A=a$${B}\nB=\"$${C}\\${D}\"\nC='${D}'\nD=$$${E}",
            &[("A", "a${B}"), ("B", "${C}${D}"), ("C", "${D}"), ("D", "$${E}")],
        );
    }

    #[test]
    fn errors_have_lines_and_no_text() {
        fn check(text: &str, expected: &[(usize, &str)]) {
            let errors = parse(text).expect_err(text);
            let lines: Vec<usize> = errors.iter().map(|(line, _)| *line).collect();
            assert_eq!(lines, expected.iter().map(|(line, _)| *line).collect::<Vec<_>>(), "{text:?}: {errors:?}");
            for ((_, error), (_, expected)) in errors.iter().zip(expected) {
                let error = error.to_string();
                assert!(error.contains(expected), "{text:?}: {error}");
                assert!(!error.contains("s3cret"), "{text:?}: {error}");
            }
        }
        check("s3cret", &[(1, "no `=`")]);
        check("A=1\n\ns3cret\n=s3cret\ns3cret x=1", &[(3, "no `=`"), (4, "invalid name"), (5, "invalid name")]);
        check("A='s3cret\n", &[(1, "no closing quote")]);
        check("A=\"s3cret\n\nB=1", &[(1, "no closing quote")]);
        check("A=`s3cret`", &[(1, "invalid quote")]);
        check("A=#s3cret", &[(1, "begins with `#`")]);
        check("A='s3cret' s3cret\nB=\"\\s3cret\"", &[(1, "after the closing quote"), (2, "unknown escape")]);
        check(
            "A=1\nB=${s3cret}\nC=\"a${s3cret}\"\nD=$${B}${C}",
            &[(2, "{ env = \"NAME\" }"), (3, "`$${`"), (4, "not expanded")],
        );
        check("A='1\n2'\nB=1\nA=s3cret", &[(4, "line 1")]);
        check("A=\0", &[(1, "NUL")]);
        check("\"A\"=1", &[(1, "quotes")]);
    }
}
