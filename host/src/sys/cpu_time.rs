//! The CPU time of processes.

use std::fs;

use rustix::time::ClockId;

use super::clock::time_ns;

/// The CPU time that this process has used, with all of its threads, in nanoseconds.
pub(crate) fn of_this_process_ns() -> u64 {
    time_ns(ClockId::ProcessCPUTime)
}

/// That of another process, in steps of usually 10 ms. None if it has ended, or there is no /proc.
pub(crate) fn of_process_ns(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some((user + system).saturating_mul(1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree() {
        let before = of_this_process_ns();
        while of_this_process_ns() < before + 30_000_000 {}
        let (seen, after) = (of_process_ns(std::process::id()).expect("this process"), of_this_process_ns());
        assert!(seen + 20_000_000 >= before + 30_000_000 && seen <= after, "{before} {seen} {after}");
        assert_eq!(of_process_ns(u32::MAX), None);
    }
}
