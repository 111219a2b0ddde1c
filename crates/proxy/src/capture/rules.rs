//! What is captured and what is not, as rules without a language.
//!
//! In: flags, and the name servers of the pod. Out: chains. The order is istio-iptables' (DP05). Out of the pod: what
//! comes from the far side of the proxy (127.0.0.6) goes on; the proxy calling the pod's own address comes in again, so
//! that it is authorised there; containers calling each other are left alone, and so is everything else of the proxy.

use std::net::IpAddr;

use words::lists::{Interfaces, Ports, Ranges};

use super::args::{Args, Mode};

/// Which addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    fn fits(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Family::V4)
    }

    fn loopback(self) -> &'static str {
        match self {
            Family::V4 => "127.0.0.1/32",
            Family::V6 => "::1/128",
        }
    }

    // The source of what the proxy sends to its own application; the control plane says the same to it.
    fn passthrough(self) -> &'static str {
        match self {
            Family::V4 => "127.0.0.6/32",
            Family::V6 => "::6/128",
        }
    }
}

/// A kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Changes addresses.
    Nat,
    /// Changes marks.
    Mangle,
}

/// Where a chain is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What comes in.
    Prerouting,
    /// What goes out.
    Output,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// This destination port.
    Port(u16),
    /// Any other destination port.
    NotPort(u16),
    /// From this range.
    From(String),
    /// To this range.
    To(String),
    /// Not to this range.
    NotTo(String),
    /// Leaving by this interface.
    Out(String),
    /// Coming by this interface.
    In(String),
    /// Of this user.
    User(u32),
    /// Of any other user.
    NotUser(u32),
    /// Of this group.
    Group(u32),
    /// Of any other group.
    NotGroup(u32),
    /// Of a connection that is known.
    Known,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// No more rules of this chain.
    Return,
    /// Done: leave it as it is.
    Accept,
    /// The rules of another chain.
    Jump(&'static str),
    /// To this port of this machine.
    Redirect(u16),
    /// Mark it.
    Mark(u32),
    /// To the socket on this port, with its destination as it is; marked.
    Tproxy(u16, u32),
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All of these.
    pub when: Vec<Match>,
    /// What to do.
    pub act: Act,
}

/// A chain of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// In which table.
    pub table: Table,
    /// Its name, Istio's.
    pub name: &'static str,
    /// Entered from here, for this protocol; only from other chains when `None`.
    pub hook: Option<(Hook, Match)>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// The chains of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which addresses.
    pub family: Family,
    /// Those that others jump to come first.
    pub chains: Vec<Chain>,
}

impl Plan {
    /// The rules that flags ask for.
    pub fn new(args: &Args, family: Family, name_servers: &[IpAddr]) -> Self {
        let mut chains = vec![
            chain(Table::Nat, REDIRECT, vec![rule([Match::Tcp], Act::Redirect(args.outbound_port))]),
            chain(Table::Nat, IN_REDIRECT, vec![rule([Match::Tcp], Act::Redirect(args.inbound_port))]),
        ];
        chains.extend(inbound(args, family));
        chains.push(Chain {
            table: Table::Nat,
            name: "ISTIO_OUTPUT",
            hook: Some((Hook::Output, Match::Tcp)),
            rules: outbound(args, family, name_servers),
        });
        let questions = dns(args, family, name_servers);
        if !questions.is_empty() {
            let hook = Some((Hook::Output, Match::Udp));
            chains.push(Chain { table: Table::Nat, name: "ISTIO_OUTPUT_DNS", hook, rules: questions });
        }
        Self { family, chains }
    }
}

const REDIRECT: &str = "ISTIO_REDIRECT";
const IN_REDIRECT: &str = "ISTIO_IN_REDIRECT";
const TPROXY: &str = "ISTIO_TPROXY";
const DIVERT: &str = "ISTIO_DIVERT";

fn chain(table: Table, name: &'static str, rules: Vec<Rule>) -> Chain {
    Chain { table, name, hook: None, rules }
}

fn rule<const N: usize>(when: [Match; N], act: Act) -> Rule {
    Rule { when: when.into(), act }
}

fn loopback(end: &str) -> Match {
    match end {
        "in" => Match::In("lo".into()),
        _ => Match::Out("lo".into()),
    }
}

fn inbound(args: &Args, family: Family) -> Vec<Chain> {
    let (table, target) = match args.mode {
        Mode::Redirect => (Table::Nat, IN_REDIRECT),
        Mode::Tproxy => (Table::Mangle, TPROXY),
    };
    let mut rules = Vec::new();
    let Interfaces(excluded) = &args.exclude_interfaces;
    rules.extend(excluded.iter().map(|name| rule([Match::In(name.clone())], Act::Return)));
    match &args.inbound_ports {
        Ports::None => {}
        Ports::These(ports) => {
            rules.extend(capture(args, ports.iter().map(|port| vec![Match::Tcp, Match::Port(*port)]), target))
        }
        Ports::All => {
            if let Ports::These(ports) = &args.exclude_inbound {
                rules.extend(ports.iter().map(|port| rule([Match::Tcp, Match::Port(*port)], Act::Return)));
            }
            rules.extend(capture(args, [vec![Match::Tcp]], target));
        }
    }
    let mut chains = Vec::new();
    if args.mode == Mode::Tproxy {
        chains.push(chain(Table::Mangle, DIVERT, vec![rule([], Act::Mark(args.tproxy_mark)), rule([], Act::Accept)]));
        let to = Act::Tproxy(args.inbound_port, args.tproxy_mark);
        let not_local = Match::NotTo(family.loopback().into());
        chains.push(chain(Table::Mangle, TPROXY, vec![rule([Match::Tcp, not_local], to)]));
    }
    let hook = Some((Hook::Prerouting, Match::Tcp));
    chains.push(Chain { table, name: "ISTIO_INBOUND", hook, rules });
    let virtual_rules = of_virtual_machines(args, family);
    if !virtual_rules.is_empty() {
        let hook = Some((Hook::Prerouting, Match::Tcp));
        chains.push(Chain { table: Table::Nat, name: "ISTIO_VIRT", hook, rules: virtual_rules });
    }
    chains
}

// With TPROXY, packets of a connection that the proxy has are given to its socket before anything else; what goes round
// inside the pod is left alone: it has no way back.
fn capture(args: &Args, when: impl IntoIterator<Item = Vec<Match>>, target: &'static str) -> Vec<Rule> {
    let mut rules = Vec::new();
    for when in when {
        if args.mode == Mode::Tproxy {
            rules.push(Rule { when: [when.clone(), vec![loopback("in")]].concat(), act: Act::Return });
            rules.push(Rule { when: [when.clone(), vec![Match::Known]].concat(), act: Act::Jump(DIVERT) });
        }
        rules.push(Rule { when, act: Act::Jump(target) });
    }
    rules
}

fn of_virtual_machines(args: &Args, family: Family) -> Vec<Rule> {
    let Interfaces(interfaces) = &args.virtual_interfaces;
    let mut rules = Vec::new();
    for name in interfaces {
        for range in included(args, family) {
            let when = [vec![Match::Tcp, Match::In(name.clone())], range].concat();
            rules.push(Rule { when, act: Act::Jump(REDIRECT) });
        }
    }
    rules
}

fn outbound(args: &Args, family: Family, name_servers: &[IpAddr]) -> Vec<Rule> {
    let mut rules = Vec::new();
    let Interfaces(excluded) = &args.exclude_interfaces;
    rules.extend(excluded.iter().map(|name| rule([Match::Out(name.clone())], Act::Return)));
    if let Ports::These(ports) = &args.exclude_outbound {
        rules.extend(ports.iter().map(|port| rule([Match::Tcp, Match::Port(*port)], Act::Return)));
    }
    rules.push(rule([loopback("out"), Match::From(family.passthrough().into())], Act::Return));
    let questions = questions_over_tcp(args, family, name_servers);
    let groups = if args.gids.is_empty() { &args.uids } else { &args.gids };
    for uid in &args.uids {
        rules.extend(own(Match::User(*uid), Match::NotUser(*uid), family, !questions.is_empty()));
    }
    for gid in groups {
        rules.extend(own(Match::Group(*gid), Match::NotGroup(*gid), family, !questions.is_empty()));
    }
    rules.extend(questions);
    rules.push(rule([Match::To(family.loopback().into())], Act::Return));
    if let Ranges::These(ranges) = &args.exclude_ranges {
        let of_family = ranges.iter().filter(|(address, _)| family.fits(*address));
        rules.extend(of_family.map(|range| rule([Match::To(text(range))], Act::Return)));
    }
    match &args.include_outbound {
        Ports::None => {}
        Ports::All => rules.push(rule([Match::Tcp], Act::Jump(REDIRECT))),
        Ports::These(ports) => {
            rules.extend(ports.iter().map(|port| rule([Match::Tcp, Match::Port(*port)], Act::Jump(REDIRECT))));
        }
    }
    rules.extend(included(args, family).into_iter().map(|when| Rule { when, act: Act::Jump(REDIRECT) }));
    rules
}

// What the proxy sends, known by its user or its group. DNS over TCP is captured on loopback too, where name servers of a
// node may be.
fn own(is_own: Match, is_other: Match, family: Family, with_dns: bool) -> [Rule; 3] {
    let mut to_itself = vec![Match::Tcp, loopback("out"), Match::NotTo(family.loopback().into())];
    let mut of_others = vec![loopback("out")];
    if with_dns {
        to_itself.push(Match::NotPort(53));
        of_others.extend([Match::Tcp, Match::NotPort(53)]);
    }
    to_itself.push(is_own.clone());
    of_others.push(is_other);
    [
        Rule { when: to_itself, act: Act::Jump(IN_REDIRECT) },
        Rule { when: of_others, act: Act::Return },
        rule([is_own], Act::Return),
    ]
}

fn included(args: &Args, family: Family) -> Vec<Vec<Match>> {
    match &args.include_ranges {
        Ranges::None => Vec::new(),
        Ranges::All => vec![vec![Match::Tcp]],
        Ranges::These(ranges) => {
            let of_family = ranges.iter().filter(|(address, _)| family.fits(*address));
            of_family.map(|range| vec![Match::Tcp, Match::To(text(range))]).collect()
        }
    }
}

fn text((address, length): &(IpAddr, u8)) -> String {
    format!("{address}/{length}")
}

// The proxy answers on 127.0.0.1 only, where redirected questions over IPv6 do not come.
fn servers(args: &Args, family: Family, name_servers: &[IpAddr]) -> Vec<Option<Match>> {
    if family == Family::V6 || !(args.redirect_dns || args.capture_all_dns) {
        return Vec::new();
    }
    if args.capture_all_dns {
        return vec![None];
    }
    let of_family = name_servers.iter().filter(|server| family.fits(**server));
    of_family.map(|server| Some(Match::To(format!("{server}/32")))).collect()
}

fn questions_over_tcp(args: &Args, family: Family, name_servers: &[IpAddr]) -> Vec<Rule> {
    questions(args, family, name_servers, Match::Tcp)
}

fn questions(args: &Args, family: Family, name_servers: &[IpAddr], protocol: Match) -> Vec<Rule> {
    let to = |server: Option<Match>| {
        let when = [protocol.clone(), Match::Port(53)].into_iter().chain(server).collect();
        Rule { when, act: Act::Redirect(args.dns_port) }
    };
    servers(args, family, name_servers).into_iter().map(to).collect()
}

fn dns(args: &Args, family: Family, name_servers: &[IpAddr]) -> Vec<Rule> {
    let asked = questions(args, family, name_servers, Match::Udp);
    if asked.is_empty() {
        return Vec::new();
    }
    let groups = if args.gids.is_empty() { &args.uids } else { &args.gids };
    let own = args.uids.iter().map(|uid| Match::User(*uid)).chain(groups.iter().map(|gid| Match::Group(*gid)));
    own.map(|own| rule([Match::Udp, Match::Port(53), own], Act::Return)).chain(asked).collect()
}
