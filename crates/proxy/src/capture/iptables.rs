//! The rules in the language of iptables-restore.

use super::rules::{Act, Chain, Hook, Match, Plan, Rule, Table};

/// The text for one table: our chains emptied and filled, and entered once. `again` replaces the jumps that an earlier run
/// made, and is refused as a whole where there are none.
pub fn text(plan: &Plan, table: Table, again: bool) -> Option<String> {
    let chains: Vec<&Chain> = plan.chains.iter().filter(|chain| chain.table == table).collect();
    if chains.is_empty() {
        return None;
    }
    let name = match table {
        Table::Nat => "nat",
        Table::Mangle => "mangle",
    };
    let mut lines = vec![format!("*{name}")];
    lines.extend(chains.iter().map(|chain| format!(":{} - [0:0]", chain.name)));
    for chain in &chains {
        lines.extend(chain.rules.iter().map(|rule| line(chain.name, rule)));
    }
    for (chain, (hook, protocol)) in chains.iter().filter_map(|chain| Some((chain, chain.hook.as_ref()?))) {
        let builtin = match hook {
            Hook::Prerouting => "PREROUTING",
            Hook::Output => "OUTPUT",
        };
        let jump = format!("{builtin} {} -j {}", condition(protocol), chain.name);
        if again {
            lines.push(format!("-D {jump}"));
        }
        lines.push(format!("-A {jump}"));
    }
    lines.push("COMMIT\n".to_owned());
    Some(lines.join("\n"))
}

fn line(chain: &str, rule: &Rule) -> String {
    let conditions: String = ordered(&rule.when).into_iter().map(|one| format!("{} ", condition(one))).collect();
    format!("-A {chain} {conditions}{}", act(&rule.act))
}

// A port is an option of its protocol.
fn ordered(when: &[Match]) -> Vec<&Match> {
    let is_protocol = |one: &&Match| matches!(one, Match::Tcp | Match::Udp);
    when.iter().filter(is_protocol).chain(when.iter().filter(|one| !is_protocol(one))).collect()
}

fn condition(condition: &Match) -> String {
    match condition {
        Match::Tcp => "-p tcp".to_owned(),
        Match::Udp => "-p udp".to_owned(),
        Match::Port(port) => format!("--dport {port}"),
        Match::NotPort(port) => format!("! --dport {port}"),
        Match::From(range) => format!("-s {range}"),
        Match::To(range) => format!("-d {range}"),
        Match::NotTo(range) => format!("! -d {range}"),
        Match::Out(name) => format!("-o {name}"),
        Match::In(name) => format!("-i {name}"),
        Match::User(id) => format!("-m owner --uid-owner {id}"),
        Match::NotUser(id) => format!("-m owner ! --uid-owner {id}"),
        Match::Group(id) => format!("-m owner --gid-owner {id}"),
        Match::NotGroup(id) => format!("-m owner ! --gid-owner {id}"),
        Match::Known => "-m conntrack --ctstate RELATED,ESTABLISHED".to_owned(),
    }
}

fn act(act: &Act) -> String {
    match act {
        Act::Return => "-j RETURN".to_owned(),
        Act::Accept => "-j ACCEPT".to_owned(),
        Act::Jump(chain) => format!("-j {chain}"),
        Act::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
        Act::Mark(mark) => format!("-j MARK --set-mark {mark}"),
        Act::Tproxy(port, mark) => format!("-j TPROXY --tproxy-mark {mark}/0xffffffff --on-port {port}"),
    }
}
