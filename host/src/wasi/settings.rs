//! What a route's guests are granted, and their limits.

use std::sync::Arc;

use daylily_core::config::{Grants, RouteLimits, Value};

use crate::observe::mask::Mask;
use crate::observe::source_map::Bundle;
use crate::wasi::file_threads::RouteFiles;
#[cfg(any(test, feature = "fuzzing"))]
use crate::wasi::http::client::OutgoingClient;
use crate::wasi::http::client::OutgoingPolicy;
use crate::wasi::keyvalue::GrantedStores;

/// A route's settings for its component.
#[derive(Clone)]
pub(crate) struct AppSettings {
    /// The route's name, for the log.
    pub(crate) route: Arc<str>,
    /// Whether developers are shown what is known of a failed guest.
    pub(crate) dev: bool,
    pub(crate) limits: RouteLimits,
    pub(crate) grants: Arc<Grants>,
    /// The secrets that guests are granted, if there are any to look for in their output.
    pub(crate) mask: Option<Arc<Mask>>,
    /// The stores that guests may open.
    pub(crate) stores: Arc<GrantedStores>,
    /// What the component was made of, for developers.
    pub(crate) bundle: Option<Bundle>,
    pub(crate) outgoing: Arc<OutgoingPolicy>,
    /// The thread pool for the route's file operations.
    pub(crate) files: Arc<RouteFiles>,
}

/// Of the values that a route grants; None if none of them has to be looked for.
pub(crate) fn mask(grants: &Grants) -> Option<Arc<Mask>> {
    Mask::of(grants.env.values().chain(grants.vars.values()).filter_map(Value::secret))
}

#[cfg(any(test, feature = "fuzzing"))]
impl AppSettings {
    /// Of a route that grants nothing to its guests, for tests.
    pub(crate) fn granting_nothing(route: &str, limits: RouteLimits) -> Self {
        let grants = Grants::default();
        Self {
            route: route.into(),
            dev: false,
            limits,
            outgoing: OutgoingPolicy::new(&OutgoingClient::new(), grants.allow_http.clone(), &limits, Vec::new()),
            stores: GrantedStores::of(&grants, &[]),
            grants: Arc::new(grants),
            mask: None,
            bundle: None,
            files: RouteFiles::new(route.into()),
        }
    }
}
