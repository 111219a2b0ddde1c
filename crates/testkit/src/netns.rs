//! Traffic capture for one case: a network of its own, in which connections that a caller marks are redirected as
//! Istio's iptables redirect those of an application.
//!
//! The network belongs to one thread and to the processes started by it, and goes with them. Nothing of the machine's
//! own network is touched.

use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// The mark of connections that are captured; everything else, the proxy's own connections too, goes where it wants.
pub const MARK: u32 = 0x51;
/// Where captured connections go (DP01).
const OUTBOUND: u16 = 15001;
/// Addresses without a host: they lead to this machine, so that connecting to them works before it is redirected, and
/// so that a test can put a server there.
const NOWHERE: [&str; 2] = ["10.0.0.0/8", "240.240.0.0/16"];

/// Runs `work` on a thread with a network of its own; `None` when the machine cannot make one.
///
/// # Errors
/// What `work` says, or that it panicked.
pub fn run<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<Option<T>> {
    let inside = || match enter() {
        Ok(()) => work().map(Some),
        Err(reason) => {
            eprintln!("no network namespace: {reason:#}");
            Ok(None)
        }
    };
    std::thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|_| bail!("the case panicked"))
}

/// Moves this thread into another network namespace; it stays there until it ends.
///
/// # Errors
/// The system's: it is no namespace, or it needs root.
pub fn join(namespace: &std::fs::File) -> Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET).context("join the network")
}

// Only this thread moves; it must not come back to a pool of threads.
fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("unshare the network")?;
    command("ip", "link set lo up")?;
    for range in NOWHERE {
        command("ip", &format!("route add local {range} dev lo"))?;
    }
    let rule = format!("-t nat -A OUTPUT -p tcp -m mark --mark {MARK} -j REDIRECT --to-ports {OUTBOUND}");
    command("iptables", &rule)
}

fn command(program: &str, args: &str) -> Result<()> {
    let search = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(args.split(' ')).env("PATH", search).output();
    let output = output.with_context(|| format!("{program} is missing"))?;
    if !output.status.success() {
        bail!("{program} {args}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
