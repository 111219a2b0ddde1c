//! The rules in the language of nft: a table of ours for each family, replaced as a whole in one transaction.

use super::rules::{Act, Chain, Family, Hook, Match, Plan, Rule, Table};

const TABLE: &str = "sluice_capture";

/// The script.
pub fn text(plan: &Plan) -> String {
    let family = match plan.family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    // `add` so that `delete` finds one, even the first time.
    let mut lines = vec![
        format!("add table {family} {TABLE}"),
        format!("delete table {family} {TABLE}"),
        format!("table {family} {TABLE} {{"),
    ];
    for chain in &plan.chains {
        lines.push(format!("  chain {} {{", name(chain)));
        lines.extend(chain.rules.iter().map(|rule| format!("    {}", line(rule, family))));
        lines.push("  }".to_owned());
    }
    for (table, hook) in [(Table::Nat, Hook::Prerouting), (Table::Nat, Hook::Output), (Table::Mangle, Hook::Prerouting)]
    {
        lines.extend(entry(plan, table, hook));
    }
    lines.push("}\n".to_owned());
    lines.join("\n")
}

fn entry(plan: &Plan, table: Table, hook: Hook) -> Vec<String> {
    let entered = plan.chains.iter().filter(|chain| chain.table == table);
    let entered = entered.filter_map(|chain| Some((chain, chain.hook.as_ref().filter(|(at, _)| *at == hook)?)));
    let jumps: Vec<String> =
        entered.map(|(chain, (_, protocol))| format!("    {} jump {}", condition(protocol, ""), name(chain))).collect();
    if jumps.is_empty() {
        return Vec::new();
    }
    let (own, head) = match (table, hook) {
        (Table::Nat, Hook::Prerouting) => ("nat_prerouting", "type nat hook prerouting priority -100"),
        (Table::Nat, Hook::Output) => ("nat_output", "type nat hook output priority -100"),
        (Table::Mangle, Hook::Prerouting) => ("mangle_prerouting", "type filter hook prerouting priority -150"),
        (Table::Mangle, Hook::Output) => ("mangle_output", "type route hook output priority -150"),
    };
    let mut lines = vec![format!("  chain {own} {{"), format!("    {head}; policy accept;")];
    lines.extend(jumps);
    lines.push("  }".to_owned());
    lines
}

fn name(chain: &Chain) -> String {
    chain.name.to_ascii_lowercase()
}

fn line(rule: &Rule, family: &str) -> String {
    let has_port = rule.when.iter().any(|one| matches!(one, Match::Port(_) | Match::NotPort(_)));
    let protocol = if rule.when.contains(&Match::Udp) { "udp" } else { "tcp" };
    let conditions: String = rule
        .when
        .iter()
        .filter(|one| !(has_port && matches!(one, Match::Tcp | Match::Udp)))
        .map(|one| match one {
            Match::Port(port) => format!("{protocol} dport {port} "),
            Match::NotPort(port) => format!("{protocol} dport != {port} "),
            other => format!("{} ", condition(other, family)),
        })
        .collect();
    format!("{conditions}{}", act(&rule.act))
}

fn condition(condition: &Match, family: &str) -> String {
    match condition {
        Match::Tcp => "meta l4proto tcp".to_owned(),
        Match::Udp => "meta l4proto udp".to_owned(),
        Match::Port(port) => format!("th dport {port}"),
        Match::NotPort(port) => format!("th dport != {port}"),
        Match::From(range) => format!("{family} saddr {range}"),
        Match::To(range) => format!("{family} daddr {range}"),
        Match::NotTo(range) => format!("{family} daddr != {range}"),
        Match::Out(name) => format!("oifname \"{name}\""),
        Match::In(name) => format!("iifname \"{name}\""),
        Match::User(id) => format!("meta skuid {id}"),
        Match::NotUser(id) => format!("meta skuid != {id}"),
        Match::Group(id) => format!("meta skgid {id}"),
        Match::NotGroup(id) => format!("meta skgid != {id}"),
        Match::Known => "ct state established,related".to_owned(),
    }
}

fn act(act: &Act) -> String {
    match act {
        Act::Return => "return".to_owned(),
        Act::Accept => "accept".to_owned(),
        Act::Jump(chain) => format!("jump {}", chain.to_ascii_lowercase()),
        Act::Redirect(port) => format!("redirect to :{port}"),
        Act::Mark(mark) => format!("meta mark set {mark}"),
        Act::Tproxy(port, mark) => format!("tproxy to :{port} meta mark set {mark} accept"),
    }
}
