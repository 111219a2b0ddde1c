//! A service port's protocol, from `appProtocol` or the port's name (Istio features X40 to X42).

use serde::{Deserialize, Serialize};

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 without TLS.
    Http2,
    /// gRPC, which is HTTP/2.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// An HTTP forward proxy.
    HttpProxy,
    /// TLS that carries HTTP; opaque to a sidecar.
    Https,
    /// TLS; opaque to a sidecar.
    Tls,
    /// Opaque bytes.
    Tcp,
    /// Opaque bytes, MongoDB.
    Mongo,
    /// Opaque bytes, Redis.
    Redis,
    /// Opaque bytes, MySQL; the server speaks first.
    MySql,
    /// Datagrams: not carried.
    Udp,
    /// Not declared: the proxy looks at the first bytes.
    Auto,
}

impl Protocol {
    /// Reads a declared name such as `http`, `HTTP2`, `grpc-web`; `None` when it is none that Istio knows (X41).
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "http_proxy" => Self::HttpProxy,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "tcp" => Self::Tcp,
            "mongo" => Self::Mongo,
            "redis" => Self::Redis,
            "mysql" => Self::MySql,
            "udp" => Self::Udp,
            _ => return None,
        })
    }

    /// The protocol of a Kubernetes Service port: `appProtocol` beats the name, the name's part before the first `-`
    /// counts, and a few well-known server-first ports are TCP rather than detected (X40, X42).
    pub fn of_port(app_protocol: Option<&str>, name: &str, number: u16) -> Self {
        let declared = match app_protocol {
            Some("kubernetes.io/h2c") => Some(Self::Http2),
            Some("kubernetes.io/ws") => Some(Self::Http),
            Some("kubernetes.io/wss") => Some(Self::Https),
            Some(app) => Self::by_prefix(app),
            None => Self::by_prefix(name),
        };
        declared.unwrap_or(match number {
            25 | 53 | 3306 | 27017 => Self::Tcp,
            _ => Self::Auto,
        })
    }

    fn by_prefix(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        if lower.starts_with("grpc-web") {
            return Some(Self::GrpcWeb);
        }
        Self::parse(lower.split('-').next().unwrap_or_default())
    }

    /// Routed by HTTP rules.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb | Self::HttpProxy)
    }

    /// Spoken to upstreams as HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Carried as TLS that the sidecar does not open.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_beats_name_beats_detection() {
        assert_eq!(Protocol::of_port(Some("grpc"), "http-x", 80), Protocol::Grpc);
        assert_eq!(Protocol::of_port(None, "http-x", 80), Protocol::Http);
        assert_eq!(Protocol::of_port(None, "HTTP2", 80), Protocol::Http2);
        assert_eq!(Protocol::of_port(None, "grpc-web-x", 80), Protocol::GrpcWeb);
        assert_eq!(Protocol::of_port(Some("kubernetes.io/h2c"), "tcp", 80), Protocol::Http2);
        assert_eq!(Protocol::of_port(None, "web", 80), Protocol::Auto);
        assert_eq!(Protocol::of_port(None, "", 3306), Protocol::Tcp);
        assert_eq!(Protocol::of_port(None, "httpx", 80), Protocol::Auto);
    }
}
