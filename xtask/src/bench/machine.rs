//! The line that says on what the figures were measured.

use std::fs;

/// Processor, cores, memory, kernel: what a reader needs to compare.
pub(crate) fn describe() -> String {
    let processor =
        first_value("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_kib: u64 = first_value("/proc/meminfo", "MemTotal")
        .and_then(|value| value.split_whitespace().next().and_then(|number| number.parse().ok()))
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {processor}, {} GiB of memory, Linux {}", memory_kib >> 20, kernel.trim())
}

fn first_value(path: &str, field: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
