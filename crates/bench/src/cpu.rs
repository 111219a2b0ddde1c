//! CPU time and memory of other processes, from /proc.

use anyhow::{Context, Result};

/// CPU seconds that a process has used, all threads, user and system.
pub fn seconds(pid: u32) -> Result<f64> {
    // Threads of the process: `schedstat` of each task, in nanoseconds; finer than the ticks of `stat`.
    let mut total = 0.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid}"))? {
        let path = task?.path().join("schedstat");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        total += text.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9;
    }
    Ok(total)
}

/// CPU seconds of a process and its children (nginx's workers).
pub fn tree_seconds(pid: u32) -> Result<f64> {
    let mut total = seconds(pid)?;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        total += tree_seconds(child)?;
    }
    Ok(total)
}

/// Resident memory of a process, in MiB.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no value")?.parse()?;
    Ok(kib / 1024.0)
}

/// Pins the calling thread, and the threads it starts, to a processor.
pub fn pin_self(processor: usize) {
    // `taskset` on ourselves: no unsafe code for a benchmark.
    let _ = std::process::Command::new("taskset")
        .args(["-cp", &processor.to_string(), &std::process::id().to_string()])
        .output();
}
