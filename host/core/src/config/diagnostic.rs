use std::fmt;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::ValueError;

/// All errors of a configuration file. Never empty.
///
/// `Display` prints every error as rustc does, with file, line, column and a caret, in the order of the file and
/// without colour.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    path: String,
    source: String,
    problems: Vec<Problem>,
}

/// Most errors that are printed. A file that is not a configuration at all has about one error per line.
const MAX_PRINTED: usize = 100;

impl Diagnostics {
    pub(super) fn new(path: &Path, source: &str, problems: Problems) -> Self {
        let mut problems = problems.0;
        problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
        Self { path: path.display().to_string(), source: source.to_owned(), problems }
    }

    /// The number of errors.
    #[expect(clippy::len_without_is_empty, reason = "without an error there are no diagnostics")]
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    fn render(&self, problem: &Problem) -> String {
        let title = Level::ERROR.primary_title(&problem.message);
        let mut group = match &problem.span {
            Some(span) => {
                let place = AnnotationKind::Primary.span(self.on_one_line(span));
                let mut snippet = Snippet::source(&self.source).path(&self.path).annotation(place);
                if let Some((span, label)) = &problem.related {
                    snippet = snippet.annotation(AnnotationKind::Context.span(self.on_one_line(span)).label(*label));
                }
                title.element(snippet)
            }
            None => Group::with_title(title),
        };
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help));
        }
        Renderer::plain().render(&[group])
    }

    /// The part of a span that is on its first line: a caret below one line is clearer than a bracket over many.
    fn on_one_line(&self, span: &Range<usize>) -> Range<usize> {
        let line = self.source.get(span.clone()).and_then(|text| text.lines().next()).unwrap_or_default();
        span.start..span.start + line.len()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(MAX_PRINTED).enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str(&self.render(problem))?;
        }
        match self.problems.len().checked_sub(MAX_PRINTED) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\n\n… and {more} more"),
        }
    }
}

impl std::error::Error for Diagnostics {}

/// The errors found so far, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

#[derive(Debug, Clone)]
struct Problem {
    /// In bytes of the source. None if the problem is not in the file, but in a flag.
    span: Option<Range<usize>>,
    message: String,
    help: Option<String>,
    /// Another location that belongs to the problem, with its description.
    related: Option<(Range<usize>, &'static str)>,
}

impl Problems {
    pub(super) fn add(&mut self, span: Range<usize>, error: ValueError) {
        self.add_at(Some(span), error);
    }

    /// Adds a problem of the file, or of a flag.
    pub(super) fn add_at(&mut self, span: Option<Range<usize>>, error: ValueError) {
        let (message, help) = error.into_parts();
        self.0.push(Problem { span, message, help, related: None });
    }

    pub(super) fn add_related(
        &mut self,
        span: Range<usize>,
        error: ValueError,
        place: Range<usize>,
        label: &'static str,
    ) {
        let (message, help) = error.into_parts();
        self.0.push(Problem { span: Some(span), message, help, related: Some((place, label)) });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes the problems that only follow from an invalid TOML line above, in the same table: a value that was made
    /// up, or keys that were assigned to another table.
    pub(super) fn without_consequences(mut self, of: &Self, source: &str) -> Self {
        self.0.retain(|problem| {
            let Some(span) = &problem.span else { return true };
            let end = source.get(span.start..).and_then(|rest| rest.find('\n'));
            let end = end.map_or(source.len(), |length| span.start + length);
            let table = source.get(..end).and_then(|before| before.rfind("\n[")).unwrap_or(0);
            let causes = of.0.iter().filter_map(|cause| cause.span.as_ref());
            !causes.map(|cause| cause.start).any(|cause| (table..=end).contains(&cause))
        });
        self
    }

    pub(super) fn and(mut self, mut others: Self) -> Self {
        self.0.append(&mut others.0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_has_an_end() {
        fn check(errors: usize, expected: &str) {
            let source = "x\n".repeat(errors);
            let mut problems = Problems::default();
            for line in 0..errors {
                problems.add(line * 2..line * 2 + 1, ValueError::new("bad"));
            }
            let diagnostics = Diagnostics::new(Path::new("a.toml"), &source, problems);
            assert_eq!(diagnostics.len(), errors);
            assert_eq!(diagnostics.to_string().lines().last(), Some(expected));
        }
        check(1, "  | ^");
        check(100, "    | ^");
        check(101, "… and 1 more");
        check(250, "… and 150 more");
    }
}
