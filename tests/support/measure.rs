//! What the kernel says of a process: how much memory it holds and held, and how much it has computed.

use std::fs;
use std::time::Duration;

/// A process, by its id.
#[derive(Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// KiB of memory that it holds (`VmRSS`).
    pub fn resident(self) -> u64 {
        self.status("VmRSS:")
    }

    /// KiB of memory that it held at most, since its start or since [`Process::forget_peak`] (`VmHWM`).
    pub fn peak(self) -> u64 {
        self.status("VmHWM:")
    }

    /// From now on the peak is counted anew.
    pub fn forget_peak(self) {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5").unwrap();
    }

    fn status(self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        value.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// How long its threads have been computing, in itself and in the kernel.
    pub fn computing(self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).unwrap();
        let nanoseconds = threads.map(|thread| {
            let times = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
            times.split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(nanoseconds.sum())
    }
}
