//! Bar charts as SVG, with a background that follows the reader's light or dark colour scheme.

use std::fmt::Write as _;

use super::outcome::figure;

const WIDTH: f64 = 760.0;
const LABEL_WIDTH: f64 = 250.0;
const BAR_HEIGHT: f64 = 16.0;
const ROW_HEIGHT: f64 = 22.0;
/// Space for the figure after the longest bar.
const FIGURE_WIDTH: f64 = 80.0;

const STYLE: &str = "\
.card{fill:#ffffff;stroke:#d0d7de}text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:16px}\
.group{font-weight:600}.figure{font-variant-numeric:tabular-nums}.bar{fill:#8c959f}.ours{fill:#bf6a02}\
@media(prefers-color-scheme:dark){.card{fill:#161b22;stroke:#30363d}text{fill:#e6edf3}.bar{fill:#6e7681}.ours{fill:#f0a030}}";

/// A group of bars.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) bars: Vec<(String, f64)>,
}

/// Draws all groups on one scale that starts at zero, so that lengths can be compared.
pub(crate) fn svg(title: &str, groups: &[Group]) -> String {
    let longest =
        groups.iter().flat_map(|group| &group.bars).map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABEL_WIDTH - FIGURE_WIDTH - 20.0) / longest;
    let mut body = String::new();
    let mut y = 34.0;
    // Writing to a String cannot fail.
    let _ = writeln!(body, "<text class=\"title\" x=\"16\" y=\"{y}\">{}</text>", escape(title));
    for group in groups {
        y += 34.0;
        let _ = writeln!(body, "<text class=\"group\" x=\"16\" y=\"{y}\">{}</text>", escape(&group.title));
        y += 10.0;
        for (label, value) in &group.bars {
            let class = if label.starts_with("daylily") { "bar ours" } else { "bar" };
            let (middle, width) = (y + BAR_HEIGHT - 3.0, (value * scale).max(1.0));
            let end = LABEL_WIDTH + width + 6.0;
            let _ = writeln!(
                body,
                "<text x=\"{:.0}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\
                 <rect class=\"{class}\" x=\"{LABEL_WIDTH}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\"/>\
                 <text class=\"figure\" x=\"{end:.1}\" y=\"{middle}\">{}</text>",
                LABEL_WIDTH - 8.0,
                escape(&label.replace('`', "")),
                figure(*value)
            );
            y += ROW_HEIGHT;
        }
    }
    let height = y + 14.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{0}\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{1}\" height=\"{2}\" rx=\"6\"/>\n{body}</svg>\n",
        escape(title),
        WIDTH - 1.0,
        height - 1.0
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{Group, svg};

    #[test]
    fn bars_are_in_proportion_and_text_is_escaped() {
        let bars = vec![("a & b".to_owned(), 10.0), ("daylily".to_owned(), 5.0)];
        let text = svg("µs < ms", &[Group { title: "g".into(), bars }]);
        for part in ["width=\"410.0\"", "width=\"205.0\"", "bar ours", "a &amp; b", "µs &lt; ms", ">10.0<", ">5.00<"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
