//! Running components: engines and their pools, loading, and one call in one new instance.
//!
//! This module does not depend on sockets or routes. `request` and `serve` call it, never the other way round.

mod artefact;
mod cache;
pub(crate) mod call;
mod candidate;
mod compile;
mod component;
mod config;
mod direct;
mod epoch;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod handler;
pub(crate) mod host_memory;
mod inspect;
mod limiter;
mod meter;
mod misnamed;
#[cfg(target_os = "linux")]
mod pagemap;
mod relink;
mod slots;
mod steps;
mod store;
#[cfg(test)]
mod testing;
mod trapped;
mod turns;

pub(crate) use artefact::{Artefact, Facts, LoadError, Needs, Source};
pub(crate) use cache::{Cache, CacheError};
pub(crate) use call::{Call, Ending, GuestBody, Head, Remains};
pub(crate) use compile::{Compiler, check};
pub(crate) use component::{App, AppSettings};
pub(crate) use config::{Engines, Flavour, PoolKind};
pub(crate) use handler::{Handler, Loader};
pub(crate) use meter::note_cpu_clock;
pub(crate) use store::State;
