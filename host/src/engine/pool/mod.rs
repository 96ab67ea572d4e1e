//! Configuration of wasmtime's engines.
//!
//! There are two WASI versions, because P3 components need concurrency support and all others are cheaper without it;
//! and two kinds of reset for each, for large components and for small ones. Each of these four kinds has a compiler
//! and, once the needs of the loaded components are known, a pool for their instances: wasmtime's pooling allocator, or
//! our own slots.

use std::num::NonZeroUsize;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use super::cpu_queue::CpuQueue;
use super::epoch::Ticker;
use super::pool::slots::{MEMORY_GUARD_BYTES, MEMORY_RESERVATION_BYTES, Memories, STACK_BYTES, Stacks};

#[cfg(target_os = "linux")]
mod pagemap;
pub(crate) mod slots;

/// The WASI version, which determines the runtime that an instance needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum WasiVersion {
    /// P2 components, and all modules that are linked directly.
    P2,
    /// Components that import or export anything of P3.
    P3,
}

/// How a pool's slots are reset between two instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Reset {
    /// A small memory is zeroed as a whole, which is cheaper than finding out which pages were written. New instances
    /// get a copy of their component's data segments, so any slot serves any component.
    Whole,
    /// Only written pages are reset, which Linux reports (`PAGEMAP_SCAN`; other systems reset all that is kept
    /// resident). The component's memory image is mapped copy-on-write, so a slot best serves the component that it
    /// served before.
    Written,
}

/// The pool that a component's instances come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct PoolKind {
    pub(crate) wasi_version: WasiVersion,
    pub(crate) reset: Reset,
}

/// How much compiled code records about the functions that a guest was in when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StackDetail {
    /// Their names, from the component's name section.
    Names,
    /// For developers: also their places in source files, from its debug information (DWARF). The code is then larger
    /// by that information and by the offset of each instruction, and reading them delays the event loop.
    Places,
}

impl StackDetail {
    pub(crate) fn of(dev: bool) -> Self {
        if dev { Self::Places } else { Self::Names }
    }

    /// The most functions of a stack that are logged or shown. Looking them up copies their names, which are not
    /// limited in length.
    pub(crate) fn max_functions(self) -> usize {
        match self {
            Self::Names => MAX_LOGGED_FUNCTIONS,
            Self::Places => MAX_SHOWN_FUNCTIONS,
        }
    }
}

/// Functions of a stack in the log at level `debug`.
const MAX_LOGGED_FUNCTIONS: usize = 20;

/// Functions of a stack that a developer is shown.
const MAX_SHOWN_FUNCTIONS: usize = 64;

/// Initial memories up to this size are reset as a whole. That takes about 2 µs, as long as a scan for written pages.
pub(crate) const WHOLE_RESET_BYTES: u64 = 192 << 10;

/// All kinds, including those without a pool.
pub(crate) const KINDS: [PoolKind; 4] = {
    use {Reset::*, WasiVersion::*};
    [
        PoolKind { wasi_version: P2, reset: Whole },
        PoolKind { wasi_version: P2, reset: Written },
        PoolKind { wasi_version: P3, reset: Whole },
        PoolKind { wasi_version: P3, reset: Written },
    ]
};

/// Bytes of a memory that stay resident between two uses of its slot, so that a new instance finds its pages mapped.
/// This is more than the initial memory of ordinary guests. Memory beyond it is returned to the system.
const KEEP_RESIDENT_BYTES: usize = 2 << 20;
const TABLE_KEEP_RESIDENT_BYTES: usize = 1 << 20;

/// Limit of a component's own metadata. It is only checked: no memory is reserved for it.
pub(crate) const MAX_METADATA_BYTES: usize = 16 << 20;

/// Maximum of additional slots, whose number depends on that of the routes, so that each component finds its own memory
/// image in a slot. Mapping another image costs several times as much as the request itself.
const MAX_SLOTS_FOR_ROUTES: u32 = 4096;

/// Table elements for which every slot has room, whatever its component declares.
const MIN_TABLE_ELEMENTS: usize = 20_000;

/// The engines of one process, and the state that all its calls share.
pub(crate) struct Engines {
    pub(crate) pools: Vec<(PoolKind, Engine)>,
    pub(crate) ticker: Ticker,
    pub(crate) cpu_queue: CpuQueue,
}

impl Engines {
    /// Creates the pools for `needs`, which has an item for each route, with `max_concurrency` slots each.
    ///
    /// # Errors
    ///
    /// If the address space for that many slots cannot be reserved.
    pub(crate) fn new(
        needs: &[(PoolKind, Needs)],
        max_concurrency: u32,
        detail: StackDetail,
    ) -> wasmtime::Result<Self> {
        let mut pools: Vec<(PoolKind, Engine)> = Vec::new();
        for (kind, _) in needs {
            if pools.iter().any(|(of, _)| of == kind) {
                continue;
            }
            let of_kind = || needs.iter().filter(|(of, _)| of == kind).map(|(_, needs)| *needs);
            let routes = u32::try_from(of_kind().count()).unwrap_or(u32::MAX);
            if let Some(most) = of_kind().reduce(Needs::max) {
                pools.push((*kind, pool(&|| base(*kind, detail), *kind, most, max_concurrency, routes)?));
            }
        }
        let ticker = Ticker::start(pools.iter().map(|(_, engine)| engine.clone()).collect())?;
        Ok(Self { pools, ticker, cpu_queue: CpuQueue::new() })
    }

    /// The pool of a kind. None unless a component of that kind was passed to [`Engines::new`].
    pub(crate) fn pool(&self, kind: PoolKind) -> Option<&Engine> {
        self.pools.iter().find(|(of, _)| *of == kind).map(|(_, engine)| engine)
    }
}

/// An engine that only compiles. It generates the same code as a pool's engine, but reserves no address space.
pub(crate) fn compiler(kind: PoolKind, detail: StackDetail) -> wasmtime::Result<Engine> {
    Engine::new(&base(kind, detail))
}

/// All settings that determine the generated code.
pub(crate) fn base(kind: PoolKind, detail: StackDetail) -> Config {
    let concurrent = kind.wasi_version == WasiVersion::P3;
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(concurrent)
        .wasm_component_model_async(concurrent)
        .memory_reservation(MEMORY_RESERVATION_BYTES as u64)
        .memory_guard_size(MEMORY_GUARD_BYTES as u64)
        .async_stack_size(STACK_BYTES)
        .generate_address_map(detail == StackDetail::Places)
        .wasm_backtrace_details(match detail {
            StackDetail::Names => WasmBacktraceDetails::Disable,
            StackDetail::Places => WasmBacktraceDetails::Enable,
        })
        // One more, so that it is known whether functions were left out.
        .wasm_backtrace_max_frames(NonZeroUsize::new(detail.max_functions() + 1))
        .memory_init_cow(kind.reset == Reset::Written);
    config
}

fn pool(base: &dyn Fn() -> Config, kind: PoolKind, most: Needs, slots: u32, routes: u32) -> wasmtime::Result<Engine> {
    if kind.reset == Reset::Whole {
        let mut config = base();
        use_slots(&mut config, most, slots)?;
        return Engine::new(&config);
    }
    let make = |scan| {
        let mut config = base();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(most, slots, routes, scan)));
        Engine::new(&config)
    };
    #[cfg(target_os = "linux")]
    {
        let engine = make(Enabled::Auto)?;
        if super::pool::pagemap::is_corrected() {
            return Ok(engine);
        }
    }
    // This system has no `PAGEMAP_SCAN`, or wasmtime's scans are not corrected (see `pagemap.rs`).
    make(Enabled::No)
}

/// Uses our own slots, which are reset as a whole.
pub(crate) fn use_slots(config: &mut Config, most: Needs, slots: u32) -> wasmtime::Result<()> {
    let memories = Memories::new(memories(slots, slots, most))?;
    let stacks = Stacks::new(slots.saturating_mul(most.stacks))?;
    config.with_host_memory(Arc::new(memories)).with_host_stack(Arc::new(stacks));
    Ok(())
}

/// The number of linear memories for `slots` instances at a time.
fn memories(memory_slots: u32, slots: u32, most: Needs) -> u32 {
    // One more for each instance: the GC heap of a guest that uses garbage collection or exceptions.
    memory_slots.saturating_mul(most.memories).saturating_add(slots)
}

/// wasmtime's pooling allocator, of whose slots only the written pages are reset.
pub(crate) fn pooling(most: Needs, slots: u32, routes: u32, scan: Enabled) -> PoolingAllocationConfig {
    let with_images = slots.saturating_add(routes.saturating_mul(shards()).min(MAX_SLOTS_FOR_ROUTES));
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(most.core_instances))
        .total_memories(memories(with_images, slots, most))
        .total_tables(slots.saturating_mul(most.tables))
        .total_stacks(slots.saturating_mul(most.stacks))
        .total_gc_heaps(slots)
        .max_component_instance_size(MAX_METADATA_BYTES)
        .max_core_instance_size(MAX_METADATA_BYTES)
        .max_memories_per_module(most.memories)
        .max_tables_per_module(most.tables)
        .table_elements(most.table_elements.max(MIN_TABLE_ELEMENTS))
        .max_memory_size(usize::try_from(most.memory_bytes).unwrap_or(usize::MAX))
        .max_unused_warm_slots(with_images)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES)
        .pagemap_scan(scan);
    pool
}

/// The number of shards into which wasmtime divides a pool's memories, about one for each thread (`default_shard_count`
/// in its pooling.rs). An event loop is one thread, and takes slots of other shards only when all of its own are in
/// use.
fn shards() -> u32 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(threads.min(16)).unwrap_or(1)
}

/// The capacity that a slot of the pool needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub(crate) memories: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) tables: u32,
    pub(crate) table_elements: usize,
    pub(crate) core_instances: u32,
    pub(crate) stacks: u32,
}

impl Needs {
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            memories: self.memories.max(other.memories),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            tables: self.tables.max(other.tables),
            table_elements: self.table_elements.max(other.table_elements),
            core_instances: self.core_instances.max(other.core_instances),
            stacks: self.stacks.max(other.stacks),
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Instance, Module, Store};

    use super::*;

    #[test]
    fn each_component_finds_its_data_mapped_where_they_are_mapped() {
        const ROUTES: usize = 200;
        let needs =
            Needs { memories: 1, memory_bytes: 4 << 20, tables: 1, table_elements: 0, core_instances: 1, stacks: 1 };
        let kind = PoolKind { wasi_version: WasiVersion::P2, reset: Reset::Written };
        let engines = Engines::new(&vec![(kind, needs); ROUTES], 1, StackDetail::Names).expect("a pool");
        let engine = engines.pool(kind).expect("the pool");
        for number in 0..ROUTES {
            let text = format!(r#"(module (memory 4) (data (i32.const 0) "{number}"))"#);
            let module = Module::new(engine, wat::parse_str(text).expect("WAT")).expect("a module");
            Instance::new(Store::new(engine, ()), &module, &[]).expect("a slot");
        }
        let used = engine.pooling_allocator_metrics().expect("a pool").unused_warm_memories();
        assert_eq!(used as usize, ROUTES, "slots that keep an image");
    }
}
