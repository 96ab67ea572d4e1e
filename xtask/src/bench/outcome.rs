//! The result of a case, and the arithmetic for it.

/// The result of a case: a table and, for some cases, figures for the plots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) title: String,
    /// What was measured, in a sentence or two.
    pub(crate) text: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// CPU time per request in µs, for the plot.
    pub(crate) cpu_us: Vec<(String, f64)>,
    /// The 99th percentile in µs, for the plot.
    pub(crate) p99_us: Vec<(String, f64)>,
}

impl Outcome {
    /// The table in Markdown, with aligned columns, so that it is also readable as text.
    pub(crate) fn markdown(&self) -> String {
        let count = self.head.len();
        let mut widths = vec![3; count];
        for row in std::iter::once(&self.head).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &[String]| {
            let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| {
                if at == 0 { format!(" {cell:width$} ") } else { format!(" {cell:>width$} ") }
            });
            format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
        };
        let rule = widths
            .iter()
            .enumerate()
            .map(|(at, width)| if at == 0 { "-".repeat(width + 2) } else { format!("{}:", "-".repeat(width + 1)) });
        let mut out = line(&self.head);
        out.push_str(&format!("|{}|\n", rule.collect::<Vec<_>>().join("|")));
        for row in &self.rows {
            out.push_str(&line(row));
        }
        out
    }
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 { at(middle) } else { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 }
}

/// Formats a figure with three significant digits, or with commas between thousands: `112,000`, `7.60`, `0.0123`.
pub(crate) fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    if value.abs() < 99.95 {
        let decimals = if value.abs() < 0.1 {
            4
        } else if value.abs() < 9.995 {
            2
        } else {
            1
        };
        return format!("{value:.decimals$}");
    }
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    format!("{sign}{out}")
}

/// Formats `value` as a multiple of `base`.
pub(crate) fn ratio(value: f64, base: f64) -> String {
    format!("{} ×", figure(value / base))
}

#[cfg(test)]
mod tests {
    use super::{Outcome, figure, median, ratio};

    #[test]
    fn the_middle_of_an_even_count_is_between_two() {
        assert_eq!([median([3.0, 1.0, 2.0]), median([4.0, 1.0, 2.0, 3.0])], [2.0, 2.5]);
        assert!(median([]).is_nan());
    }

    #[test]
    fn figures_have_three_digits_or_commas() {
        let cases = [
            (112_345.6, "112,346"),
            (999.6, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-2048.0, "-2,048"),
            (99.94, "99.9"),
            (7.6, "7.60"),
            (0.0123, "0.0123"),
            (f64::NAN, "–"),
        ];
        for (value, want) in cases {
            assert_eq!(figure(value), want);
        }
        assert_eq!(ratio(19.0, 7.6), "2.50 ×");
    }

    #[test]
    fn tables_are_aligned() {
        let row = |cells: [&str; 2]| cells.map(String::from).to_vec();
        let outcome = Outcome { head: row(["server", "µs"]), rows: vec![row(["a", "7.60"])], ..Outcome::default() };
        assert_eq!(outcome.markdown(), "| server |   µs |\n|--------|-----:|\n| a      | 7.60 |\n");
    }
}
