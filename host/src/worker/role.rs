//! Whether each component can be what the configuration makes it: middleware, which passes requests on, or the end of a
//! chain.

use daylily_core::config::{ComponentSource, Link, Place, Route};

use super::load::source_of;
use crate::artifact::{LoadError, Source};

/// What counts of a component.
#[derive(Clone, Copy)]
pub(super) struct Abilities {
    /// Whether it exports a handler of WASI 0.3.
    pub(super) exports_p3: bool,
    /// Whether it imports the handler that follows it.
    pub(super) imports_next: bool,
}

/// All components of `routes` that cannot be what they are to be. `abilities` are None for a component that has another
/// error.
pub(super) fn faults(routes: &[Route], abilities: impl Fn(&Source) -> Option<Abilities>) -> Vec<LoadError> {
    let abilities = |component: &ComponentSource| abilities(&source_of(component));
    let mut faults = Vec::new();
    for route in routes {
        let links = route.middleware.iter().filter_map(|link| Some((link, abilities(&link.component)?)));
        faults.extend(links.filter_map(|(link, has)| of_link(link, has)));
        let end = route.component.as_ref().filter(|end| abilities(end).is_some_and(|has| has.imports_next));
        faults.extend(end.map(|end| of_end(end, &route.component_place)));
    }
    faults
}

fn of_end(component: &ComponentSource, place: &Place) -> LoadError {
    let name = source_of(component).name();
    LoadError::InFile(Box::new(place.error(
        format!(
            "component {name} imports wasi:http/handler@0.3.0, the handler that follows a middleware, and none follows"
        ),
        "list it in `middleware`, and make what follows it the route's `component`",
    )))
}

fn of_link(link: &Link, has: Abilities) -> Option<LoadError> {
    let name = source_of(&link.component).name();
    let error = match has {
        Abilities { exports_p3: false, .. } => link.place.error(
            format!("component {name} is of WASI 0.2, whose middleware can pass a request on, but not make one"),
            "build it for the world wasi:http/middleware of WASI 0.3, or compose it with the route's component (`wac plug`)",
        ),
        Abilities { imports_next: false, .. } => link.place.error(
            format!("component {name} is no middleware: it does not import wasi:http/handler@0.3.0, what follows it"),
            "build it for the world wasi:http/middleware, or make it the route's `component`",
        ),
        _ => return None,
    };
    Some(LoadError::InFile(Box::new(error)))
}
