//! Sums over workers, by the names of routes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::block::Snapshot;

/// Routes whose sums are kept, with those that no generation has any more: a route that returns continues its numbers.
const MAX_ROUTES: usize = 20_000;

/// Sums by the names of routes. The empty name is that of requests without a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums(BTreeMap<String, Snapshot>);

impl FromIterator<(String, Snapshot)> for Sums {
    fn from_iter<T: IntoIterator<Item = (String, Snapshot)>>(sums: T) -> Self {
        let mut all = Self::default();
        for (name, snapshot) in sums {
            all.add_one(name, &snapshot);
        }
        all
    }
}

impl Sums {
    pub(crate) fn get(&self, route: &str) -> Option<&Snapshot> {
        self.0.get(route)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, snapshot) in &other.0 {
            self.add_one(name.clone(), snapshot);
        }
    }

    fn add_one(&mut self, name: String, snapshot: &Snapshot) {
        if self.0.len() < MAX_ROUTES || self.0.contains_key(&name) {
            self.0.entry(name).or_default().add(snapshot);
        }
    }

    /// The sums once all workers have ended.
    pub(crate) fn at_death(&self) -> Self {
        Self(self.0.iter().map(|(name, sums)| (name.clone(), sums.clone().at_death())).collect())
    }

    /// What was counted since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let none = Snapshot::default();
        let counted =
            |(name, sums): (&String, &Snapshot)| (name.clone(), sums.since(before.0.get(name).unwrap_or(&none)));
        Self(self.0.iter().map(counted).collect())
    }

    /// For another version of this program: numbers by their names.
    pub(crate) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let named: BTreeMap<_, _> = self.0.iter().map(|(name, sums)| (name, sums.to_named())).collect();
        serde_json::to_vec(&named)
    }

    /// The counterpart of [`Self::to_json`].
    ///
    /// # Errors
    ///
    /// When it is not JSON of this form.
    pub(crate) fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        let named: BTreeMap<String, BTreeMap<String, u64>> = serde_json::from_slice(json)?;
        Ok(named.into_iter().map(|(name, sums)| (name, Snapshot::from_named(&sums))).collect())
    }
}
