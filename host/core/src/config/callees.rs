//! The routes that guests of other routes may call: `route:NAME` in `allow_http`.

use std::collections::BTreeSet;

use super::diagnostic::Problems;
use super::{Config, Grants, Route};
use crate::ValueError;
use crate::similar::closest;

/// Reports grants of routes that do not exist, each once: those of `[defaults]` are in many routes.
pub(super) fn check(config: &Config, defaults: &Grants, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    let names = || config.routes.iter().map(|route| route.name.as_str());
    for grants in config.routes.iter().flat_map(Route::grants).chain([defaults]) {
        for grant in grants.allow_http.routes().iter().filter(|grant| names().all(|name| name != grant.name)) {
            let place = grant.place.clone();
            if !seen.insert((place.as_ref().map(|place| (place.start, place.end)), &grant.name)) {
                continue;
            }
            let error = ValueError::new(format!("there is no route named `{}`", grant.name));
            let help = match closest(&grant.name, names()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("add `name = \"{}\"` to the route that is meant", grant.name),
            };
            problems.add_at(place, error.help(help));
        }
    }
}
