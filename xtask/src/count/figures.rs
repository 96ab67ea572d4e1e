//! The three figures: read from the tools' output, and written to and read from `bench/counts.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result, bail};

/// The figures of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) instructions: f64,
    pub(crate) system_calls: f64,
    pub(crate) allocations: f64,
}

/// What callgrind counted in one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Callgrind {
    pub(crate) instructions: u64,
    pub(crate) allocations: u64,
}

/// Functions whose calls are allocations: mimalloc's, which Rust code uses, and the C library's.
const ALLOCATORS: [&str; 11] = [
    "mi_malloc",
    "mi_zalloc",
    "mi_realloc",
    "mi_malloc_aligned",
    "mi_zalloc_aligned",
    "mi_realloc_aligned",
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
];

impl Figures {
    pub(crate) fn each(&self) -> [(&'static str, f64); 3] {
        [("instructions", self.instructions), ("system_calls", self.system_calls), ("allocations", self.allocations)]
    }

    fn set(&mut self, name: &str, value: f64) -> Result<()> {
        match name {
            "instructions" => self.instructions = value,
            "system_calls" => self.system_calls = value,
            "allocations" => self.allocations = value,
            _ => bail!("unknown figure {name}"),
        }
        Ok(())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instructions, system_calls, allocations } = self;
        write!(f, "{instructions:.0} instructions, {system_calls:.1} system calls, {allocations:.1} allocations")
    }
}

pub(crate) fn write(head: &str, all: &BTreeMap<String, Figures>) -> String {
    let mut out = head.to_owned();
    for (name, Figures { instructions, system_calls, allocations }) in all {
        out.push_str(&format!(
            "\n[{name}]\ninstructions = {instructions:.0}\nsystem_calls = {system_calls:.1}\nallocations = {allocations:.1}\n"
        ));
    }
    out
}

/// Parses the subset of TOML that [`write`] uses.
pub(crate) fn read(text: &str) -> Result<BTreeMap<String, Figures>> {
    let mut all: BTreeMap<String, Figures> = BTreeMap::new();
    let mut current = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            current = Some(all.entry(name.to_owned()).or_default());
            continue;
        }
        let (name, value) = line.split_once('=').with_context(|| format!("`{line}` is no figure"))?;
        let value = value.trim().parse().with_context(|| format!("`{line}` has no number"))?;
        current.as_mut().context("a figure before the first [case]")?.set(name.trim(), value)?;
    }
    Ok(all)
}

/// Parses callgrind's output file for one thread. A name is written once, after its number: `cfn=(12) malloc`.
pub(crate) fn callgrind(text: &str) -> Option<Callgrind> {
    let mut allocators = BTreeSet::new();
    let mut counted = Callgrind::default();
    let mut instructions = None;
    let mut is_allocator = false;
    for line in text.lines() {
        if let Some(total) = line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")) {
            instructions = total.split_whitespace().next()?.parse().ok();
        } else if let Some(function) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
            let (number, name) = function.split_once(' ').unwrap_or((function, ""));
            if ALLOCATORS.contains(&name) {
                allocators.insert(number);
            }
            is_allocator = line.starts_with('c') && allocators.contains(number);
        } else if let (Some(calls), true) = (line.strip_prefix("calls="), is_allocator) {
            counted.allocations += calls.split_whitespace().next()?.parse::<u64>().ok()?;
        }
    }
    Some(Callgrind { instructions: instructions?, ..counted })
}

/// Parses the table of `strace -c`: the number of calls by name.
pub(crate) fn strace(text: &str) -> BTreeMap<String, u64> {
    let rows = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.first()?.parse::<f64>().ok()?;
        Some(((*words.last()?).to_owned(), words.get(3)?.parse().ok()?))
    });
    rows.filter(|(name, _): &(String, u64)| name != "total").collect()
}

#[cfg(test)]
mod tests {
    use super::{Callgrind, Figures, callgrind, read, strace, write};
    use std::collections::BTreeMap;

    #[test]
    fn figures_survive_writing_and_reading() {
        let figures = Figures { instructions: 113_000.0, system_calls: 5.5, allocations: 70.0 };
        let all = BTreeMap::from([("hello02".to_owned(), figures)]);
        assert_eq!(read(&write("# why\n", &all)).unwrap(), all);
        for wrong in ["instructions = 1", "[a]\nother = 1", "[a]\ninstructions = x", "[a]\nx"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn calls_of_allocators_are_summed() {
        let text = "fn=(1) main\n4 100\ncfn=(2) malloc\ncalls=3 0\n5 30\ncfn=(3) free\ncalls=9 0\n6 7\n\n\
                    fn=(2)\n1 5\ncfn=(4) _int_malloc\ncalls=3 0\n1 1\n\nfn=(9) other\n1 1\ncfn=(2)\ncalls=4 0\n1 1\n\ntotals: 1234\n";
        assert_eq!(callgrind(text), Some(Callgrind { instructions: 1234, allocations: 7 }));
    }

    #[test]
    fn the_table_of_strace_is_read() {
        let text = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 55.00    0.000100           1       200           recvfrom
 45.00    0.000080           1       201         1 epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.000180           0       401         1 total
";
        assert_eq!(strace(text), BTreeMap::from([("epoll_wait".into(), 201), ("recvfrom".into(), 200)]));
    }
}
