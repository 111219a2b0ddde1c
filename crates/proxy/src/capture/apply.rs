//! Giving the rules to the kernel, through the programs that speak its language.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::args::{Args, Mode};
use super::rules::{Family, Plan, Table};
use super::{iptables, nft};

/// Where the programs are, beside PATH: init containers often have none.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// The source of what the proxy sends to its own application; the control plane says the same to it.
const FAR_SIDE_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);
/// Name servers that are captured, at most.
const NAME_SERVERS_MAX: usize = 16;

/// Makes the rules, or prints them.
///
/// # Errors
/// A program is missing, or refuses the rules; what it says is in the error.
pub fn run(args: &Args) -> Result<()> {
    if args.mode == Mode::Tproxy && !args.dry_run {
        bail!("TPROXY is not supported yet: use REDIRECT (annotation sidecar.istio.io/interceptionMode)");
    }
    let resolvers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = name_servers(&resolvers);
    if (args.redirect_dns && !args.capture_all_dns) && servers.is_empty() {
        eprintln!("note: /etc/resolv.conf names no server: no DNS questions are captured");
    }
    let families = if has_ipv6() || args.dry_run { vec![Family::V4, Family::V6] } else { vec![Family::V4] };
    let plans: Vec<Plan> = families.into_iter().map(|family| Plan::new(args, family, &servers)).collect();
    let by_nft = args.native_nftables || (!args.dry_run && find("iptables-restore").is_none());
    if args.dry_run {
        print!("{}", dry(&plans, by_nft));
        return Ok(());
    }
    if plans.iter().any(|plan| plan.family == Family::V6) {
        // What the proxy sends to its own application over IPv6 comes from there, or it would be captured again.
        transport::loopback::add(FAR_SIDE_V6)
            .with_context(|| format!("give {FAR_SIDE_V6} to the loopback interface"))?;
    }
    match by_nft {
        true => by_nftables(args, &plans)?,
        false => plans.iter().try_for_each(by_iptables)?,
    }
    Ok(())
}

/// What would be given to the programs.
pub fn dry(plans: &[Plan], by_nft: bool) -> String {
    let mut out = String::new();
    for plan in plans {
        if by_nft {
            out += &format!("# nft -f -\n{}", nft::text(plan));
            continue;
        }
        for table in [Table::Nat, Table::Mangle] {
            if let Some(text) = iptables::text(plan, table, false) {
                out += &format!("# {} --noflush\n{text}", restore(plan.family));
            }
        }
    }
    out
}

fn restore(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    }
}

// The first run has no jump to replace, and is told so by the program; nothing has happened then.
fn by_iptables(plan: &Plan) -> Result<()> {
    for table in [Table::Nat, Table::Mangle] {
        let (Some(again), Some(first)) = (iptables::text(plan, table, true), iptables::text(plan, table, false)) else {
            continue;
        };
        let program = restore(plan.family);
        if give(program, &["--noflush"], &again).is_err() {
            give(program, &["--noflush"], &first)?;
        }
    }
    Ok(())
}

fn by_nftables(args: &Args, plans: &[Plan]) -> Result<()> {
    if find("nft").is_none() {
        let wanted = if args.native_nftables { "nft" } else { "neither iptables-restore nor nft" };
        bail!("{wanted} is {}in PATH or {}", if args.native_nftables { "not " } else { "" }, FOLDERS.join(", "));
    }
    // Both families or none.
    let script: String = plans.iter().map(nft::text).collect();
    give("nft", &["-f", "-"], &script)
}

fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').filter(|folder| !folder.is_empty()).chain(FOLDERS);
    folders.map(|folder| std::path::Path::new(folder).join(program)).find(|file| file.is_file())
}

fn give(program: &str, args: &[&str], text: &str) -> Result<()> {
    let file = find(program).with_context(|| format!("{program} is not in PATH or {}", FOLDERS.join(", ")))?;
    let mut child = Command::new(&file)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", file.display()))?;
    let written = child.stdin.take().context("its input")?.write_all(text.as_bytes());
    let output = child.wait_with_output().with_context(|| program.to_owned())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} refuses the rules ({}): {}\n{text}", output.status, said.trim());
    }
    written.with_context(|| format!("write to {program}"))
}

/// The servers of a resolv.conf.
pub fn name_servers(text: &str) -> Vec<IpAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    named.filter_map(|word| word.split('%').next()?.parse().ok()).take(NAME_SERVERS_MAX).collect()
}

// Without an address that others reach there is nothing to capture, and the kernel may have no rules for it.
fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|text| has_global(&text))
}

/// Whether an address of `/proc/net/if_inet6` is global: its fourth word, the scope, is 00.
pub fn has_global(text: &str) -> bool {
    text.lines().any(|line| line.split_whitespace().nth(3) == Some("00"))
}
