//! The name table (Istio's `istio.networking.nds.v1.NameTable`), which no crate has: the message is written down here.

use std::collections::BTreeMap;

use config::{NameInfo, NameTable};
use prost::Message;

use crate::common::Reason;

/// Who declared a Kubernetes name.
const KUBERNETES: &str = "Kubernetes";
/// Who declared any other name.
const EXTERNAL: &str = "External";
/// Most names that are read from a control plane.
const NAMES_MAX: usize = 1 << 17;
/// Most addresses of one name that are read.
const ADDRESSES_MAX: usize = 1 << 10;

/// `NameTable`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PbNameTable {
    #[prost(btree_map = "string, message", tag = "1")]
    table: BTreeMap<String, PbNameInfo>,
}

/// `NameTable.NameInfo`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PbNameInfo {
    #[prost(string, repeated, tag = "1")]
    ips: Vec<String>,
    #[prost(string, tag = "2")]
    registry: String,
    #[prost(string, tag = "3")]
    shortname: String,
    #[prost(string, tag = "4")]
    namespace: String,
}

pub(crate) fn encode(table: &NameTable) -> PbNameTable {
    let NameTable { names } = table;
    PbNameTable { table: names.iter().map(|(name, info)| (name.clone(), encode_info(info))).collect() }
}

fn encode_info(info: &NameInfo) -> PbNameInfo {
    let NameInfo { addresses, kubernetes, short_name, namespace } = info;
    PbNameInfo {
        ips: addresses.iter().map(ToString::to_string).collect(),
        registry: if *kubernetes { KUBERNETES } else { EXTERNAL }.into(),
        shortname: short_name.clone(),
        namespace: namespace.clone(),
    }
}

pub(crate) fn decode(table: &PbNameTable) -> Result<NameTable, Reason> {
    if table.table.len() > NAMES_MAX {
        return Err(format!("table: {} names are more than {NAMES_MAX}", table.table.len()));
    }
    let mut names = BTreeMap::new();
    for (name, info) in &table.table {
        let addresses: Result<Vec<_>, _> = info.ips.iter().take(ADDRESSES_MAX).map(|ip| ip.parse()).collect();
        let addresses = addresses.map_err(|_| format!("table: {name:?} has something that is no IP address"))?;
        let info = NameInfo {
            addresses,
            kubernetes: info.registry == KUBERNETES,
            short_name: info.shortname.clone(),
            namespace: info.namespace.clone(),
        };
        names.insert(name.clone(), info);
    }
    Ok(NameTable { names })
}
