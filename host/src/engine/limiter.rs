//! Limits of one instance's memories, tables and core instances.

use std::fmt;
use std::sync::Arc;

use daylily_core::config::RouteLimits;
use daylily_core::units::format_size;
use wasmtime::ResourceLimiter;

use crate::engine::meter::Meter;

/// Denies growth beyond a route's limits. The guest's `memory.grow` fails, but the guest continues.
pub(crate) struct Limiter {
    max_memory_bytes: u64,
    max_memories: u32,
    max_table_elements: u32,
    max_tables: u32,
    max_instances: u32,
    memory_bytes: u64,
    refused: Option<Refused>,
    /// Also knows the memory once the store is gone.
    meter: Arc<Meter>,
}

/// The last growth that was denied. It is logged if the guest fails.
#[derive(Clone, Copy)]
pub(crate) enum Refused {
    Memory { max_bytes: u64 },
    Table { max_elements: u32 },
}

impl Limiter {
    pub(crate) fn new(limits: &RouteLimits, meter: Arc<Meter>) -> Self {
        // Not all of the limits: this is copied for each request.
        Self {
            max_memory_bytes: limits.max_memory_bytes,
            max_memories: limits.max_memories,
            max_table_elements: limits.max_table_elements,
            max_tables: limits.max_tables,
            max_instances: limits.max_instances,
            memory_bytes: 0,
            refused: None,
            meter,
        }
    }

    fn refuse(&mut self, refused: Refused) {
        self.refused = Some(refused);
        self.meter.note_refused_memory();
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(crate) fn shared_meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes + desired.saturating_sub(current) as u64;
        if total > self.max_memory_bytes {
            self.refuse(Refused::Memory { max_bytes: self.max_memory_bytes });
            return Ok(false);
        }
        // Growth beyond the maximum that the guest itself declares is not recorded as denied by the host.
        let within = maximum.is_none_or(|maximum| desired <= maximum);
        if within {
            self.memory_bytes = total;
            self.meter.note_memory(total);
        }
        Ok(within)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.max_table_elements as usize {
            self.refuse(Refused::Table { max_elements: self.max_table_elements });
            return Ok(false);
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        self.max_instances as usize
    }

    fn tables(&self) -> usize {
        self.max_tables as usize
    }

    fn memories(&self) -> usize {
        self.max_memories as usize
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { max_bytes } => {
                write!(f, "it requested more than max_memory = {}", format_size(*max_bytes))
            }
            Self::Table { max_elements } => write!(f, "it requested more than max_table_elements = {max_elements}"),
        }
    }
}
