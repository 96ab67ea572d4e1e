//! Sums over workers, by the names of routes, of listeners and of schedules.

use std::collections::BTreeMap;

use daylily_core::process_role::ProcessRole;
use serde::{Deserialize, Serialize};

use super::block::{Snapshot, fields};

/// Names whose sums are kept, with those that no generation has any more: a route that returns continues its numbers.
const MAX_NAMES: usize = 20_000;

/// What precedes the name of a listener in JSON. The names of routes have no control characters.
const LISTENER: &str = "listener\n";

/// The same for a schedule.
const SCHEDULE: &str = "schedule\n";

/// Sums by the names of routes, of listeners and of schedules. The empty route is that of requests without a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    routes: Named,
    listeners: Named,
    schedules: Named,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Named(BTreeMap<String, Snapshot>);

impl Sums {
    pub(crate) fn of(
        routes: impl Iterator<Item = (String, Snapshot)>,
        listeners: impl Iterator<Item = (String, Snapshot)>,
    ) -> Self {
        let mut sums = Self::default();
        routes.for_each(|(name, snapshot)| sums.routes.add_one(&name, &snapshot));
        listeners.for_each(|(name, snapshot)| sums.listeners.add_one(&name, &snapshot));
        sums
    }

    pub(super) fn with_schedules(mut self, schedules: impl Iterator<Item = (String, Snapshot)>) -> Self {
        schedules.for_each(|(name, snapshot)| self.schedules.add_one(&name, &snapshot));
        self
    }

    /// Nothing but the CPU time of a process.
    pub(crate) fn of_cpu_ns(role: ProcessRole, ns: u64) -> Self {
        let mut snapshot = Snapshot::default();
        snapshot.add_to(fields::CPU_NS, role.number().into(), ns);
        Self::of(std::iter::once((String::new(), snapshot)), std::iter::empty())
    }

    pub(crate) fn get(&self, route: &str) -> Option<&Snapshot> {
        self.routes.0.get(route)
    }

    pub(crate) fn listener(&self, name: &str) -> Option<&Snapshot> {
        self.listeners.0.get(name)
    }

    pub(crate) fn schedule(&self, name: &str) -> Option<&Snapshot> {
        self.schedules.0.get(name)
    }

    /// Open connections of all listeners.
    pub(crate) fn connections_open(&self) -> u64 {
        self.listeners.0.values().map(Snapshot::connections_open).sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.routes.add(&other.routes);
        self.listeners.add(&other.listeners);
        self.schedules.add(&other.schedules);
    }

    /// The sums once all workers have ended.
    pub(crate) fn at_death(self) -> Self {
        let (routes, listeners) = (self.routes.at_death(), self.listeners.at_death());
        Self { routes, listeners, schedules: self.schedules }
    }

    /// What was counted since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            routes: self.routes.since(&before.routes),
            listeners: self.listeners.since(&before.listeners),
            schedules: self.schedules.since(&before.schedules),
        }
    }

    /// For another version of this program: numbers by their names.
    pub(crate) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let routes = self.routes.0.iter().map(|(name, sums)| (name.clone(), sums.to_named()));
        let listeners = self.listeners.0.iter().map(|(name, sums)| (format!("{LISTENER}{name}"), sums.to_named()));
        let schedules = self.schedules.0.iter().map(|(name, sums)| (format!("{SCHEDULE}{name}"), sums.to_named()));
        serde_json::to_vec(&routes.chain(listeners).chain(schedules).collect::<BTreeMap<_, _>>())
    }

    /// The counterpart of [`Self::to_json`].
    ///
    /// # Errors
    ///
    /// When it is not JSON of this form.
    pub(crate) fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        let named: BTreeMap<String, BTreeMap<String, u64>> = serde_json::from_slice(json)?;
        let mut sums = Self::default();
        for (name, numbers) in &named {
            let snapshot = Snapshot::from_named(numbers);
            match (name.strip_prefix(LISTENER), name.strip_prefix(SCHEDULE)) {
                (Some(listener), _) => sums.listeners.add_one(listener, &snapshot),
                (None, Some(schedule)) => sums.schedules.add_one(schedule, &snapshot),
                (None, None) => sums.routes.add_one(name, &snapshot),
            }
        }
        Ok(sums)
    }
}

impl Named {
    fn add(&mut self, other: &Self) {
        for (name, snapshot) in &other.0 {
            self.add_one(name, snapshot);
        }
    }

    fn add_one(&mut self, name: &str, snapshot: &Snapshot) {
        if let Some(sums) = self.0.get_mut(name) {
            sums.add(snapshot);
        } else if self.0.len() < MAX_NAMES {
            self.0.insert(name.to_owned(), snapshot.clone());
        }
    }

    fn at_death(self) -> Self {
        Self(self.0.into_iter().map(|(name, sums)| (name, sums.at_death())).collect())
    }

    fn since(&self, before: &Self) -> Self {
        let none = Snapshot::default();
        let counted =
            |(name, sums): (&String, &Snapshot)| (name.clone(), sums.since(before.0.get(name).unwrap_or(&none)));
        Self(self.0.iter().map(counted).collect())
    }
}
