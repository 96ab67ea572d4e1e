//! Key-value stores: `wasi:keyvalue` in both of its drafts, and the interface of Spin. All do the same operations on the
//! same data ([`operations`]).

mod drafts;
mod in_progress;
mod operations;
mod spin;

use std::collections::BTreeMap;
use std::sync::Arc;

use daylily_core::config::Grants;

pub(super) use self::drafts::{draft, draft2};
use self::in_progress::InProgress;
pub(crate) use self::operations::Cas;
pub(super) use self::spin::{spin2, spin3};
use crate::observe::log::OncePerSecond;
use crate::storage::client::StoreClient;

/// The stores that a route grants.
pub(crate) struct GrantedStores {
    by_label: BTreeMap<String, Arc<StoreClient>>,
    /// Limits the log lines about others, which guests can cause at any rate.
    refusals: OncePerSecond,
}

impl GrantedStores {
    /// Those of `stores` that are granted.
    pub(crate) fn of(grants: &Grants, stores: &[Arc<StoreClient>]) -> Arc<Self> {
        let granted = grants.stores.iter().filter_map(|grant| {
            let store = stores.iter().find(|store| store.name() == grant.store)?;
            Some((grant.label.clone(), Arc::clone(store)))
        });
        Arc::new(Self { by_label: granted.collect(), refusals: OncePerSecond::new() })
    }
}

/// What one instance has used of its stores.
#[derive(Default)]
pub(crate) struct StoreUse {
    operations: u32,
    open: u32,
    /// Made with the first operation.
    in_progress: Option<Arc<InProgress>>,
    /// Made with the first listing, which it counts.
    listings: Option<Arc<()>>,
}

/// Streams of keys that one instance has open at a time. Each has up to a page of keys in memory.
const MAX_LISTINGS: usize = 16;

/// A stream of keys, until it is dropped.
struct Listing {
    _one_more: Arc<()>,
}

impl StoreUse {
    /// The memory of the operations in progress, in bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.in_progress.as_ref().map_or(0, |all| all.kept_bytes())
    }

    fn in_progress(&mut self, max_host_memory_bytes: u64) -> Arc<InProgress> {
        Arc::clone(self.in_progress.get_or_insert_with(|| InProgress::new(max_host_memory_bytes)))
    }

    /// None if the instance has too many.
    fn begin_listing(&mut self) -> Option<Listing> {
        let listings = self.listings.get_or_insert_default();
        (Arc::strong_count(listings) <= MAX_LISTINGS).then(|| Listing { _one_more: Arc::clone(listings) })
    }
}
