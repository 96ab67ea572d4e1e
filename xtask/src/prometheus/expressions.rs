//! The expressions of the dashboard and of the rules, in a form that has a result whenever the metrics exist.

use anyhow::{Context, Result};
use serde_json::Value;

use super::api::{Mode, Rule};

/// A query of the dashboard.
#[derive(Debug, PartialEq)]
pub(super) struct Query {
    pub(super) panel: String,
    pub(super) expression: String,
    /// The mode in which it has results, unless it has them in each.
    only: Option<Mode>,
}

impl Query {
    pub(super) fn is_for(&self, mode: Mode) -> bool {
        self.only.is_none_or(|only| only == mode)
    }
}

/// All queries of a dashboard, with a value for each variable.
pub(super) fn of_dashboard(text: &str) -> Result<Vec<Query>> {
    let json: Value = serde_json::from_str(text).context("the dashboard is not JSON")?;
    let mut queries = Vec::new();
    let mut only = None;
    for panel in list(&json, "panels")? {
        let title = text_of(panel, "title")?;
        if text_of(panel, "type")? == "row" {
            only = Mode::ALL.into_iter().find(|mode| title.ends_with(&format!("({mode})")));
            continue;
        }
        for target in list(panel, "targets").with_context(|| format!("panel {title}"))? {
            let expression = with_values(text_of(target, "expr")?);
            queries.push(Query { panel: title.to_owned(), expression, only });
        }
    }
    for variable in list(json.get("templating").context("there are no variables")?, "list")? {
        let name = text_of(variable, "name")?;
        let definition = variable.get("definition").and_then(Value::as_str).unwrap_or_default();
        let Some(arguments) = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')) else {
            continue;
        };
        let (series, label) = arguments.rsplit_once(", ").with_context(|| format!("variable {name}"))?;
        let expression = format!("count by ({label}) ({})", with_values(series));
        queries.push(Query { panel: format!("variable {name}"), expression, only: None });
    }
    Ok(queries)
}

/// The expression of a rule; an alert's is 0 instead of empty where it does not fire.
pub(super) fn of_rule(rule: &Rule) -> String {
    if !rule.is_alert {
        return rule.expression.clone();
    }
    [" == ", " > ", " < "]
        .iter()
        .fold(rule.expression.clone(), |text, comparison| text.replace(comparison, &format!("{comparison}bool ")))
}

fn with_values(expression: &str) -> String {
    let values = [("$__rate_interval", "30s"), ("$job", ".*"), ("$instance", ".*"), ("$route", ".*")];
    values.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn list<'a>(json: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    json.get(name).and_then(Value::as_array).with_context(|| format!("there is no list {name}"))
}

fn text_of<'a>(json: &'a Value, name: &str) -> Result<&'a str> {
    json.get(name).and_then(Value::as_str).with_context(|| format!("there is no text {name} in {json}"))
}

#[cfg(test)]
mod tests {
    use super::{Mode, Query, Rule, of_dashboard, of_rule};
    use daylily_core::request_outcome::RequestOutcome;

    const DASHBOARD: &str = include_str!("../../../contrib/grafana/daylily.json");
    const RULES: &str = include_str!("../../../contrib/prometheus/daylily-rules.yml");

    #[test]
    fn queries_have_values_for_variables() {
        let text = r#"{"panels": [{"type": "row", "title": "Of x (native histograms)"}, {"type": "stat", "title": "A",
            "targets": [{"expr": "rate(x{route=~\"$route\"}[$__rate_interval])"}]}], "templating": {"list": [
            {"name": "datasource"}, {"name": "job", "definition": "label_values(x{a=~\"$job\"}, job)"}]}}"#;
        let query =
            |panel: &str, expression: &str, only| Query { panel: panel.into(), expression: expression.into(), only };
        let want = vec![
            query("A", "rate(x{route=~\".*\"}[30s])", Some(Mode::Native)),
            query("variable job", "count by (job) (x{a=~\".*\"})", None),
        ];
        assert_eq!(of_dashboard(text).unwrap(), want);
        assert!(of_dashboard("{}").is_err());
    }

    #[test]
    fn no_variable_of_the_dashboard_is_left() {
        let queries = of_dashboard(DASHBOARD).unwrap();
        assert!(queries.len() > 30, "{queries:?}");
        assert!(queries.iter().all(|query| !query.expression.contains('$')), "{queries:?}");
        let for_mode = Mode::ALL.map(|mode| queries.iter().filter(|query| query.is_for(mode)).count());
        assert!(for_mode.iter().all(|count| *count < queries.len()), "{for_mode:?}");
    }

    #[test]
    fn alerts_have_a_result_when_they_do_not_fire() {
        let rule = |expression: &str, is_alert| Rule {
            name: String::new(),
            expression: expression.into(),
            is_alert,
            error: String::new(),
        };
        assert_eq!(of_rule(&rule("a > 1 and b == 0", true)), "a > bool 1 and b == bool 0");
        assert_eq!(of_rule(&rule("a / (b > 0)", false)), "a / (b > 0)");
    }

    #[test]
    fn outcomes_of_the_dashboard_and_the_rules_exist_and_are_the_same() {
        let outcomes = |text: &str| -> Vec<String> {
            let text = text.replace('\\', "");
            let (_, rest) = text.split_once("outcome=~\"").unwrap();
            rest.split_once('"').unwrap().0.split('|').map(str::to_owned).collect()
        };
        assert_eq!(outcomes(DASHBOARD), outcomes(RULES));
        for outcome in outcomes(RULES) {
            assert!(RequestOutcome::ALL.iter().any(|known| known.as_str() == outcome), "{outcome}");
        }
    }
}
