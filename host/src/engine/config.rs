//! wasmtime's engines, as daylily needs them.
//!
//! Two flavours, because 0.3 components need concurrency support and 0.2 components are a fifth
//! cheaper without it. Each flavour has a compiler (no pool) and, once it is known what the loaded
//! components need, a pool of slots from which every instance is made.

use serde::{Deserialize, Serialize};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::artefact::Needs;
use super::epoch::Ticker;
use super::turns::Turns;

#[cfg(test)]
mod residue;

/// Which wasi:http world a component is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Flavour {
    /// `wasi:http/incoming-handler@0.2.x`.
    V2,
    /// `wasi:http/handler@0.3.x`, or anything else of 0.3.
    V3,
}

/// What stays in memory between two uses of a slot, so that a new instance finds its pages mapped.
/// More than the initial memory of ordinary guests. So much of each memory is written over, and what is above
/// it is given back to the system.
const KEEP_RESIDENT_BYTES: usize = 2 << 20;
const TABLE_KEEP_RESIDENT_BYTES: usize = 1 << 20;
const STACK_KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// Room for a component's own metadata; an upper bound that is checked, not memory that is taken.
const MAX_METADATA_BYTES: usize = 16 << 20;

/// Address space for one linear memory. With 4 GiB, 32-bit memories need no bounds checks.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;

/// Table elements that every slot has room for, whatever its component declares.
const MIN_TABLE_ELEMENTS: usize = 20_000;

/// The engines of one process, and what all calls in it share.
pub(crate) struct Engines {
    pools: Vec<(Flavour, Engine)>,
    pub(super) ticker: Ticker,
    pub(super) turns: Turns,
}

impl Engines {
    /// Makes the pools that `needs` ask for, each with `max_concurrency` slots.
    ///
    /// # Errors
    ///
    /// When the address space for that many slots cannot be reserved.
    pub(crate) fn new(needs: &[(Flavour, Needs)], max_concurrency: u32) -> wasmtime::Result<Self> {
        let mut pools = Vec::new();
        for flavour in [Flavour::V2, Flavour::V3] {
            let most = needs.iter().filter(|(of, _)| *of == flavour).map(|(_, needs)| *needs).reduce(Needs::max);
            if let Some(most) = most {
                pools.push((flavour, Engine::new(&pooled(flavour, most, max_concurrency))?));
            }
        }
        let ticker = Ticker::start(pools.iter().map(|(_, engine)| engine.clone()).collect())?;
        Ok(Self { pools, ticker, turns: Turns::new() })
    }

    /// The pool of a flavour, when a component of it was announced to [`Engines::new`].
    pub(super) fn pool(&self, flavour: Flavour) -> Option<&Engine> {
        self.pools.iter().find(|(of, _)| *of == flavour).map(|(_, engine)| engine)
    }
}

/// An engine that only compiles: the same code as a pool's, without its address space.
pub(super) fn compiler(flavour: Flavour) -> wasmtime::Result<Engine> {
    Engine::new(&base(flavour))
}

/// Everything that decides what code is generated.
fn base(flavour: Flavour) -> Config {
    let concurrent = flavour == Flavour::V3;
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(concurrent)
        .wasm_component_model_async(concurrent)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_init_cow(true);
    config
}

fn pooled(flavour: Flavour, most: Needs, slots: u32) -> Config {
    let mut config = base(flavour);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(most, slots)));
    config
}

/// The slots, and how they are reset.
fn pool(most: Needs, slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(most.core_instances))
        // One more for the heap of a guest that uses garbage collection or exceptions.
        .total_memories(slots.saturating_mul(most.memories + 1))
        .total_tables(slots.saturating_mul(most.tables))
        .total_stacks(slots.saturating_mul(most.stacks))
        .total_gc_heaps(slots)
        .max_component_instance_size(MAX_METADATA_BYTES)
        .max_core_instance_size(MAX_METADATA_BYTES)
        .max_memories_per_module(most.memories)
        .max_tables_per_module(most.tables)
        .table_elements(most.table_elements.max(MIN_TABLE_ELEMENTS))
        .max_memory_size(usize::try_from(most.memory_bytes).unwrap_or(usize::MAX))
        .max_unused_warm_slots(slots)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES)
        .async_stack_keep_resident(STACK_KEEP_RESIDENT_BYTES)
        // wasmtime 48 does not see that a page was written to when the kernel has it in swap, or is moving it,
        // at the time, and leaves it to the next instance as it is (wasmtime#14357).
        .pagemap_scan(Enabled::No);
    pool
}
