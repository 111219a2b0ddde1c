//! The flags of `sluice-proxy iptables`: those of istio-iptables, so that init containers written for it work.

use clap::{Parser, ValueEnum};
use words::lists::{Interfaces, Ports, Ranges};

/// Capture the traffic of this network namespace.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "sluice-proxy iptables",
    about = "Capture the traffic of this pod: run once, as root, before the applications"
)]
pub struct Args {
    /// Where captured outbound traffic goes.
    #[arg(short = 'p', long = "envoy-port", default_value_t = 15001)]
    pub outbound_port: u16,
    /// Where captured inbound traffic goes.
    #[arg(short = 'z', long = "inbound-capture-port", default_value_t = 15006)]
    pub inbound_port: u16,
    /// Not used: there is no tunnel.
    #[arg(short = 'e', long = "inbound-tunnel-port", hide = true)]
    pub tunnel_port: Option<u16>,
    /// Users whose connections are not captured, by number.
    #[arg(short = 'u', long = "proxy-uid", value_delimiter = ',', default_value = "1337")]
    pub uids: Vec<u32>,
    /// Groups whose connections are not captured, by number; the users' numbers when absent.
    #[arg(short = 'g', long = "proxy-gid", value_delimiter = ',')]
    pub gids: Vec<u32>,
    /// How inbound traffic is captured.
    #[arg(short = 'm', long = "istio-inbound-interception-mode", value_enum, ignore_case = true, default_value_t = Mode::Redirect)]
    pub mode: Mode,
    /// Inbound ports that are captured: a list, * for all, nothing for none.
    #[arg(short = 'b', long = "istio-inbound-ports", default_value = "")]
    pub inbound_ports: Ports,
    /// Inbound ports that are not captured.
    #[arg(short = 'd', long = "istio-local-exclude-ports", default_value = "")]
    pub exclude_inbound: Ports,
    /// Outbound ports that are not captured.
    #[arg(short = 'o', long = "istio-local-outbound-ports-exclude", default_value = "")]
    pub exclude_outbound: Ports,
    /// Outbound ports that are captured whatever their address.
    #[arg(short = 'q', long = "istio-outbound-ports", default_value = "")]
    pub include_outbound: Ports,
    /// Outbound address ranges that are captured: a list, * for all, nothing for none.
    #[arg(short = 'i', long = "istio-service-cidr", default_value = "")]
    pub include_ranges: Ranges,
    /// Outbound address ranges that are not captured.
    #[arg(short = 'x', long = "istio-service-exclude-cidr", default_value = "")]
    pub exclude_ranges: Ranges,
    /// Interfaces whose incoming traffic counts as outbound, of virtual machines.
    #[arg(short = 'k', long = "kube-virt-interfaces", default_value = "")]
    pub virtual_interfaces: Interfaces,
    /// Interfaces whose traffic is not captured.
    #[arg(short = 'c', long = "istio-exclude-interfaces", default_value = "")]
    pub exclude_interfaces: Interfaces,
    /// The mark of what TPROXY captures.
    #[arg(short = 't', long = "istio-inbound-tproxy-mark", default_value_t = 1337)]
    pub tproxy_mark: u32,
    /// The routing table of what TPROXY captures.
    #[arg(short = 'r', long = "istio-inbound-tproxy-route-table", default_value_t = 133)]
    pub tproxy_table: u32,
    /// Capture DNS questions to the servers of /etc/resolv.conf too.
    #[arg(long)]
    pub redirect_dns: bool,
    /// Capture DNS questions to every server.
    #[arg(long)]
    pub capture_all_dns: bool,
    /// Where captured DNS questions go.
    #[arg(long, default_value_t = 15053)]
    pub dns_port: u16,
    /// Give the rules to nft instead of iptables-restore.
    #[arg(long)]
    pub native_nftables: bool,
    /// Only print the rules.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Not used: taken for istio-iptables' sake.
    #[arg(long = "log_output_level", hide = true)]
    pub log_output_level: Option<String>,
}

/// How inbound traffic is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Its destination is changed.
    Redirect,
    /// Its destination stays, and so the client's address.
    Tproxy,
}
