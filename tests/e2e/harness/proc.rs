//! What the kernel reports about a process: memory, CPU time, descriptors.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
}

impl Process {
    /// Sends a signal to the process, which must exist.
    #[track_caller]
    pub fn signal(self, signal: Signal) {
        let pid = Pid::from_raw(self.pid.cast_signed()).expect("a process's number");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{signal:?} to {}: {error}", self.pid));
    }

    /// Kills the process, if it exists.
    pub fn kill(self) {
        let _already_gone = Pid::from_raw(self.pid.cast_signed()).map(|pid| kill_process(pid, Signal::KILL));
    }

    /// The contents of a file of `/proc/PID`.
    pub fn read(self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
    }

    fn status_kib(self, key: &str) -> u64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line of /proc/PID/status");
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    /// The running child processes.
    pub fn children(self) -> Vec<Self> {
        let children = self.read(&format!("task/{}/children", self.pid));
        let pids = children.split_whitespace().map(|pid| pid.parse().expect("a process's number"));
        let processes = pids.map(|pid| Self { pid });
        processes.filter(|process| process.is_running()).collect()
    }

    /// Whether the process has this name, of which the kernel keeps 15 bytes.
    pub fn is_called(self, name: &str) -> bool {
        self.read("comm").trim_end() == name.get(..15).unwrap_or(name)
    }

    /// Whether the process exists and is not a zombie.
    pub fn is_running(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, after_name)| !after_name.starts_with(['Z', 'X']))
    }

    /// Resident memory now.
    pub fn resident_kib(self) -> u64 {
        self.status_kib("VmRSS")
    }

    /// The most resident memory since the start, or since `forget_peak`.
    pub fn peak_resident_kib(self) -> u64 {
        self.status_kib("VmHWM")
    }

    pub fn forget_peak(self) {
        let path = format!("/proc/{}/clear_refs", self.pid);
        fs::write(&path, "5").unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    }

    /// User and system time of all its threads, in the kernel's resolution of 10 ms.
    pub fn cpu_time(self) -> Duration {
        let stat = self.read("stat");
        let after_name = stat.rsplit_once(") ").expect("a name in parentheses").1;
        let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// The number of open descriptors.
    pub fn descriptors(self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("a list of descriptors").count()
    }

    /// The soft limit of open descriptors.
    pub fn descriptor_limit(self) -> u64 {
        self.descriptor_limits()[0]
    }

    /// Sets the soft limit of open descriptors of the running process.
    pub fn limit_descriptors(self, soft: u64) {
        let pid = Pid::from_raw(self.pid.cast_signed());
        let [_, hard] = self.descriptor_limits();
        let limit = Rlimit { current: Some(soft), maximum: Some(hard) };
        prlimit(pid, Resource::Nofile, limit).expect("a limit below the hard one");
    }

    /// Sets the limit of file sizes of the running process, as `ulimit -f` does; None for no limit.
    pub fn limit_file_size(self, bytes: Option<u64>) {
        let pid = Pid::from_raw(self.pid.cast_signed());
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(pid, Resource::Fsize, limit).expect("a limit below the hard one, which is none");
    }

    fn descriptor_limits(self) -> [u64; 2] {
        let limits = self.read("limits");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit on open files");
        let mut numbers = line.split_whitespace().skip(3).map(|word| word.parse().unwrap_or(u64::MAX));
        [numbers.next().expect("a soft limit"), numbers.next().expect("a hard limit")]
    }
}
