//! What the processes of a server use, as the kernel tells it in /proc.

use std::fs;

use daylily_core::process_role::ProcessRole;

/// What one process uses, or several of a role.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessUse {
    pub(super) role: ProcessRole,
    pub(super) processes: u64,
    pub(super) resident_bytes: u64,
    pub(super) open_files: u64,
}

impl ProcessUse {
    pub(super) const fn none(role: ProcessRole) -> Self {
        Self { role, processes: 0, resident_bytes: 0, open_files: 0 }
    }

    /// None if the process has ended, or there is no /proc.
    pub(super) fn read(role: ProcessRole, pid: u32) -> Option<Self> {
        let memory = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let resident_pages: u64 = memory.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let resident_bytes = resident_pages.saturating_mul(rustix::param::page_size() as u64);
        Some(Self { role, processes: 1, resident_bytes, open_files: open_files(pid).unwrap_or(0) })
    }

    pub(super) fn with(self, other: &Self) -> Self {
        Self {
            role: self.role,
            processes: self.processes + other.processes,
            resident_bytes: self.resident_bytes + other.resident_bytes,
            open_files: self.open_files + other.open_files,
        }
    }
}

/// The number of descriptors. Since Linux 6.2 it is the size of the directory, which costs no reading.
fn open_files(pid: u32) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    let size = fs::metadata(&path).ok()?.len();
    if size > 0 { Some(size) } else { Some(fs::read_dir(&path).ok()?.count() as u64) }
}
