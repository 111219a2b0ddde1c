//! How pods are injected: flags of `sluiced` and of `sluicectl inject`, defined once, so that both give the same pod.

use clap::{Args, Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::annotations;

/// How pods are injected. Defaults are Istio's.
#[derive(Args, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The image of sidecar and init container.
    #[arg(long, value_name = "IMAGE", default_value = "sluice/proxy:dev")]
    pub proxy_image: String,
    /// When that image is pulled.
    #[arg(long, value_name = "POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub proxy_image_pull_policy: String,
    /// A Secret to pull it with; may be repeated.
    #[arg(long, value_name = "SECRET")]
    pub proxy_image_pull_secret: Vec<String>,
    /// What a sidecar asks for.
    #[arg(long, value_name = "QUANTITY", default_value = "100m", value_parser = quantity)]
    pub proxy_cpu: String,
    /// What a sidecar asks for.
    #[arg(long, value_name = "QUANTITY", default_value = "128Mi", value_parser = quantity)]
    pub proxy_memory: String,
    /// What a sidecar may take; nothing is said when empty.
    #[arg(long, value_name = "QUANTITY", default_value = "2000m", value_parser = quantity)]
    pub proxy_cpu_limit: String,
    /// What a sidecar may take; nothing is said when empty.
    #[arg(long, value_name = "QUANTITY", default_value = "1024Mi", value_parser = quantity)]
    pub proxy_memory_limit: String,
    /// What sidecars log.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = level)]
    pub proxy_log_level: String,
    /// Worker threads of a sidecar; as many as its CPU limit when 0.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub proxy_concurrency: u32,
    /// Where sidecars find the control plane.
    #[arg(long, value_name = "URL", default_value = "https://istiod.istio-system.svc:15012")]
    pub discovery_address: String,
    /// The ConfigMap with the roots of the mesh, in every namespace. Two meshes in a cluster need two of them: each would
    /// write over the other's.
    #[arg(long, value_name = "NAME", default_value = "istio-ca-root-cert", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub root_config_map: String,
    /// The revision of this control plane: pods of other revisions are left alone.
    #[arg(long, default_value = "default")]
    pub revision: String,
    /// Inject pods of namespaces that say nothing.
    #[arg(long)]
    pub inject_by_default: bool,
    /// Sidecars as init containers that go on: auto where the cluster has them, true or false.
    #[arg(long, value_enum, default_value_t = NativeSidecar::Auto)]
    pub native_sidecar: NativeSidecar,
    /// Start applications only when their sidecar is ready.
    #[arg(long)]
    pub hold_application: bool,
    /// Let the sidecar ask applications for their health on behalf of kubelet.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub rewrite_probes: bool,
    /// Capture DNS questions too.
    #[arg(long)]
    pub redirect_dns: bool,
    /// Capture with nft instead of iptables.
    #[arg(long)]
    pub native_nftables: bool,
    /// Outbound address ranges that are captured.
    #[arg(long, value_name = "CIDR,…", default_value = "*", value_parser = ranges_or_all)]
    pub include_ip_ranges: String,
    /// Outbound address ranges that are not captured.
    #[arg(long, value_name = "CIDR,…", default_value = "", value_parser = ranges)]
    pub exclude_ip_ranges: String,
    /// Outbound ports that are captured whatever their address.
    #[arg(long, value_name = "PORT,…", default_value = "", value_parser = ports_or_all)]
    pub include_outbound_ports: String,
    /// Outbound ports that are not captured.
    #[arg(long, value_name = "PORT,…", default_value = "", value_parser = ports)]
    pub exclude_outbound_ports: String,
    /// Inbound ports that are captured.
    #[arg(long, value_name = "PORT,…", default_value = "*", value_parser = ports_or_all)]
    pub include_inbound_ports: String,
    /// Inbound ports that are not captured.
    #[arg(long, value_name = "PORT,…", default_value = "", value_parser = ports)]
    pub exclude_inbound_ports: String,
    /// The cluster's DNS domain; flags of the program say it.
    #[arg(skip = "cluster.local".to_owned())]
    pub cluster_domain: String,
    /// The name of the cluster; flags of the program say it.
    #[arg(skip = "Kubernetes".to_owned())]
    pub cluster_id: String,
    /// The API server's minor version, 33 of 1.33; 0 when it is not known.
    #[arg(skip)]
    pub server_minor: u32,
}

// Values are checked where they are given: later, the reason would be told to the owners of pods.
fn quantity(text: &str) -> Result<String, String> {
    match text.is_empty() || annotations::millis(text).is_some() {
        true => Ok(text.to_owned()),
        false => Err(annotations::no_quantity(text)),
    }
}

fn level(text: &str) -> Result<String, String> {
    annotations::level(text)
}

fn ports(text: &str) -> Result<String, String> {
    annotations::ports(text, false)
}

fn ports_or_all(text: &str) -> Result<String, String> {
    annotations::ports(text, true)
}

fn ranges(text: &str) -> Result<String, String> {
    annotations::ranges(text, false)
}

fn ranges_or_all(text: &str) -> Result<String, String> {
    annotations::ranges(text, true)
}

/// Sidecars as init containers that go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NativeSidecar {
    /// Where every kubelet of the cluster surely has them.
    Auto,
    /// Always.
    True,
    /// Never.
    False,
}

impl Default for Settings {
    fn default() -> Self {
        #[derive(Parser)]
        struct Flags {
            #[command(flatten)]
            settings: Settings,
        }
        Flags::parse_from(["settings"]).settings
    }
}

impl Settings {
    /// True when sidecars are init containers that go on, unless a pod says otherwise.
    ///
    /// kubelet has them on since 1.29 and may be three versions older than its API server; Istio waits for 1.33, and so
    /// do we.
    pub(crate) fn is_native(&self) -> bool {
        match self.native_sidecar {
            NativeSidecar::Auto => self.server_minor >= 33,
            NativeSidecar::True => true,
            NativeSidecar::False => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn what_is_wrong_is_said_of_the_flag() {
        for (flag, bad, good, reason) in [
            ("--exclude-ip-ranges", "10.0.0.0/33", "10.0.0.0/8", "no address range"),
            ("--include-ip-ranges", "all", "*", "no address range"),
            ("--exclude-inbound-ports", "*", "80,443", "no port"),
            ("--include-inbound-ports", "80,http", "*", "no port"),
            ("--proxy-cpu", "many", "100m", "no quantity"),
            ("--proxy-memory-limit", "1 GB", "", "no quantity"),
            ("--proxy-log-level", "loud", "warning", "no level"),
            ("--proxy-image-pull-policy", "Sometimes", "Always", "possible values"),
        ] {
            let said = Flags::try_parse_from(["flags", flag, bad]).unwrap_err().to_string();
            assert!(said.contains(flag) && said.contains(reason), "{said}");
            assert!(Flags::try_parse_from(["flags", flag, good]).is_ok(), "{flag} {good}");
        }
    }
}
