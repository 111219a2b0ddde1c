//! Small pieces that many messages share: wrappers, durations, `Any`, addresses, the ADS config source.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use config::Cidr;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf as google;
use prost::{Message, Name};

/// Why a message cannot be obeyed; the path grows as it rises.
pub(crate) type Reason = String;

pub(crate) fn boolean(value: bool) -> Option<google::BoolValue> {
    Some(google::BoolValue { value })
}

pub(crate) fn uint32(value: u32) -> Option<google::UInt32Value> {
    Some(google::UInt32Value { value })
}

pub(crate) fn is_true(value: &Option<google::BoolValue>, default: bool) -> bool {
    value.as_ref().map_or(default, |value| value.value)
}

pub(crate) fn duration(value: Duration) -> google::Duration {
    google::Duration { seconds: value.as_secs() as i64, nanos: value.subsec_nanos() as i32 }
}

/// A duration of the wire; negative ones are refused.
pub(crate) fn read_duration(value: &google::Duration) -> Result<Duration, Reason> {
    match (u64::try_from(value.seconds), u32::try_from(value.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(format!("{}s {}ns is not a duration", value.seconds, value.nanos)),
    }
}

/// A duration where 0 and absent both mean none.
pub(crate) fn read_positive(value: &Option<google::Duration>) -> Result<Option<Duration>, Reason> {
    let read = value.as_ref().map(read_duration).transpose()?;
    Ok(read.filter(|duration| !duration.is_zero()))
}

pub(crate) fn any<M: Message + Name>(message: &M) -> google::Any {
    google::Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// Reads an `Any` of a known type; `None` when it is of another type.
pub(crate) fn read_any<M: Message + Name + Default>(value: &google::Any) -> Option<Result<M, Reason>> {
    (value.type_url == M::type_url())
        .then(|| M::decode(value.value.as_slice()).map_err(|error| format!("{}: {error}", M::NAME)))
}

pub(crate) fn socket_address(address: SocketAddr) -> core::SocketAddress {
    core::SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(address.port().into())),
        ..Default::default()
    }
}

pub(crate) fn address(address: SocketAddr) -> core::Address {
    core::Address { address: Some(core::address::Address::SocketAddress(socket_address(address))) }
}

/// Host and port of a socket address.
pub(crate) fn read_host_port(address: &core::SocketAddress) -> Result<(&str, u16), Reason> {
    let port = match address.port_specifier {
        Some(core::socket_address::PortSpecifier::PortValue(port)) => {
            u16::try_from(port).map_err(|_| format!("port {port} is above 65535"))?
        }
        _ => return Err("an address without a port number".into()),
    };
    Ok((&address.address, port))
}

pub(crate) fn read_socket_address(address: &core::SocketAddress) -> Result<SocketAddr, Reason> {
    let (host, port) = read_host_port(address)?;
    let ip: IpAddr = host.parse().map_err(|_| format!("{host:?} is not an IP address"))?;
    Ok(SocketAddr::new(ip, port))
}

pub(crate) fn cidr(range: &Cidr) -> core::CidrRange {
    core::CidrRange { address_prefix: range.address.to_string(), prefix_len: uint32(range.prefix_len.into()) }
}

pub(crate) fn read_cidr(range: &core::CidrRange) -> Result<Cidr, Reason> {
    let bits = range.prefix_len.as_ref().map_or(0, |bits| bits.value);
    let text = format!("{}/{bits}", range.address_prefix);
    Cidr::parse(&text).ok_or_else(|| format!("{text:?} is not an address range"))
}

/// "From the same stream": every reference between our resources.
pub(crate) fn ads() -> core::ConfigSource {
    core::ConfigSource {
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(Default::default())),
        resource_api_version: core::ApiVersion::V3 as i32,
        // Istio's: wait as long as it takes, rather than run with half a configuration after 15 s.
        initial_fetch_timeout: Some(google::Duration { seconds: 0, nanos: 0 }),
        ..Default::default()
    }
}

/// Names the field under which something failed.
pub(crate) trait At<T> {
    fn at(self, field: impl std::fmt::Display) -> Result<T, Reason>;
}

impl<T> At<T> for Result<T, Reason> {
    fn at(self, field: impl std::fmt::Display) -> Result<T, Reason> {
        self.map_err(|reason| match reason.split_once(": ") {
            // A path below: join with a dot.
            Some((path, rest)) if is_path(path) => format!("{field}.{path}: {rest}"),
            _ => format!("{field}: {reason}"),
        })
    }
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.[]".contains(&byte))
}
