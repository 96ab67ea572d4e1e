//! The CPU affinity of the processes that the benchmark starts.

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that this thread may use, divided into the first one and the others. Processes and threads that it starts
/// inherit its restriction. Dropping this lifts the restriction.
pub(super) struct Cpus {
    all: CpuSet,
    first: CpuSet,
    others: CpuSet,
}

impl Cpus {
    pub(super) fn new() -> Result<Self> {
        let all = sched_getaffinity(None).context("failed to read which CPUs may be used")?;
        let (first, others) = divided(&all);
        Ok(Self { all, first, others })
    }

    pub(super) fn restrict_to_first(&self) -> Result<()> {
        restrict_to(&self.first)
    }

    /// With a single CPU, restricts to that one.
    pub(super) fn restrict_to_others(&self) -> Result<()> {
        restrict_to(&self.others)
    }
}

impl Drop for Cpus {
    fn drop(&mut self) {
        let _ = restrict_to(&self.all);
    }
}

fn restrict_to(cpus: &CpuSet) -> Result<()> {
    sched_setaffinity(None, cpus).context("failed to choose a CPU")
}

fn divided(all: &CpuSet) -> (CpuSet, CpuSet) {
    let (mut first, mut others) = (CpuSet::new(), *all);
    if let Some(cpu) = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)) {
        first.set(cpu);
        others.unset(cpu);
    }
    (first, if others.count() == 0 { *all } else { others })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cpu_is_not_among_the_others_unless_it_is_the_only_one() {
        let set = |cpus: &[usize]| {
            let mut set = CpuSet::new();
            cpus.iter().for_each(|cpu| set.set(*cpu));
            set
        };
        for (all, first, others) in [(&[2, 3, 7][..], &[2][..], &[3, 7][..]), (&[1], &[1], &[1])] {
            assert_eq!(divided(&set(all)), (set(first), set(others)), "{all:?}");
        }
    }
}
