//! Why a request was not answered by its upstream: who is to blame, and Envoy's response flags.

use std::fmt;

/// Response flags (Envoy `%RESPONSE_FLAGS%`), as a set, printed in Envoy's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

macro_rules! flags {
    ($($bit:literal $name:ident $text:literal $doc:literal;)*) => {
        impl Flags {
            $(#[doc = $doc] pub const $name: Flags = Flags(1 << $bit);)*
            const NAMES: &[(&str, Flags)] = &[$(($text, Flags::$name)),*];
        }
    };
}

flags! {
    0 NO_HEALTHY_UPSTREAM "UH" "No host may be used.";
    1 UPSTREAM_CONNECT "UF" "No connection could be made.";
    2 UPSTREAM_OVERFLOW "UO" "A circuit-breaker bound was reached.";
    3 NO_ROUTE "NR" "No route.";
    14 DELAY_INJECTED "DI" "A fault delayed the request.";
    13 FAULT_INJECTED "FI" "A fault answered the request.";
    4 UPSTREAM_TIMEOUT "UT" "The upstream did not answer in time.";
    5 UPSTREAM_CONNECTION_ENDED "UC" "The upstream hung up.";
    6 UPSTREAM_RESET "UR" "The upstream reset the stream.";
    7 RETRIES_EXHAUSTED "URX" "No tries were left.";
    8 DOWNSTREAM_ENDED "DC" "The client hung up.";
    17 UPSTREAM_PROTOCOL "UPE" "The upstream broke the protocol.";
    9 DOWNSTREAM_PROTOCOL "DPE" "The client broke the protocol.";
    10 STREAM_IDLE "SI" "Nothing moved for too long.";
    12 RATE_LIMITED "RL" "A local rate limit had no token.";
    18 UNAUTHORIZED "UAEX" "A policy refused it.";
    15 DURATION "DT" "The connection was as old as it may get.";
    11 NO_CLUSTER "NC" "The route's cluster does not exist.";
    16 NAME_UNKNOWN "DF" "The host's name does not resolve.";
}

impl Flags {
    /// Both sets.
    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// True when any of `other` is set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    /// The flags of these names, or all flags when there are none. Unknown names stand for nothing.
    pub fn named(names: &[String]) -> Flags {
        if names.is_empty() {
            return Flags(u32::MAX);
        }
        let known = Self::NAMES.iter().filter(|(name, _)| names.iter().any(|wanted| wanted == name));
        known.fold(Flags::default(), |all, (_, flag)| all.with(*flag))
    }

    /// The bits, as a small key.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("-");
        }
        let mut first = true;
        for (name, _) in Self::NAMES.iter().filter(|(_, flag)| self.has(*flag)) {
            if !std::mem::replace(&mut first, false) {
                f.write_str(",")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// Why a try gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No host may be used.
    NoHost,
    /// The cluster is not there.
    NoCluster,
    /// A bound of the cluster is reached.
    Overflow,
    /// No connection; the system's reason.
    Connect(String),
    /// No TLS; the reason in the form of Envoy's.
    Tls(String),
    /// Connecting took too long.
    ConnectTimeout,
    /// The upstream hung up before it answered.
    Ended,
    /// The upstream hung up before anything of the request was written.
    Unsent,
    /// Nothing moved for too long.
    Idle {
        /// The whole request was there: it was the upstream's turn.
        arrived: bool,
    },
    /// What the upstream said is not the protocol.
    Protocol,
    /// The stream was refused; the application has not seen it.
    Refused,
    /// The upstream reset the stream.
    Reset,
    /// One try took too long.
    TryTimeout,
    /// The whole request took too long.
    Timeout,
    /// The client's body broke off.
    ClientBody,
    /// The host that the request names does not resolve.
    Name(String),
}

/// What the client and the log are told of a failure.
pub struct Told {
    /// Status code.
    pub status: u16,
    /// Flags.
    pub flags: Flags,
    /// Envoy's `%RESPONSE_CODE_DETAILS%`.
    pub details: &'static str,
    /// The body.
    pub body: String,
}

impl Failure {
    /// Status, flags, details and body, in Envoy's words. `retried`: an earlier try failed too.
    pub fn tell(&self, retried: bool) -> Told {
        let reset = |reason: &str| {
            let retried = if retried { "retried and the latest " } else { "" };
            format!("upstream connect error or disconnect/reset before headers. {retried}reset reason: {reason}")
        };
        let told = |status, flags, details, body: String| Told { status, flags, details, body };
        match self {
            Failure::NoHost => {
                told(503, Flags::NO_HEALTHY_UPSTREAM, "no_healthy_upstream", "no healthy upstream".into())
            }
            Failure::NoCluster => told(503, Flags::NO_CLUSTER, "cluster_not_found", String::new()),
            Failure::Overflow => told(
                503,
                Flags::UPSTREAM_OVERFLOW,
                "upstream_reset_before_response_started{overflow}",
                reset("overflow"),
            ),
            Failure::Connect(reason) => {
                let reason =
                    format!("remote connection failure, transport failure reason: delayed connect error: {reason}");
                let details = "upstream_reset_before_response_started{remote_connection_failure}";
                told(503, Flags::UPSTREAM_CONNECT, details, reset(&reason))
            }
            Failure::Tls(reason) => {
                let reason = format!("remote connection failure, transport failure reason: {reason}");
                let details = "upstream_reset_before_response_started{remote_connection_failure}";
                told(503, Flags::UPSTREAM_CONNECT, details, reset(&reason))
            }
            Failure::ConnectTimeout => {
                let details = "upstream_reset_before_response_started{connection_timeout}";
                told(503, Flags::UPSTREAM_CONNECT, details, reset("connection timeout"))
            }
            Failure::Ended | Failure::Unsent => {
                let details = "upstream_reset_before_response_started{connection_termination}";
                told(503, Flags::UPSTREAM_CONNECTION_ENDED, details, reset("connection termination"))
            }
            Failure::Protocol => {
                let details = "upstream_reset_before_response_started{protocol_error}";
                told(502, Flags::UPSTREAM_PROTOCOL, details, reset("protocol error"))
            }
            Failure::Refused | Failure::Reset => {
                let details = "upstream_reset_before_response_started{remote_reset}";
                told(503, Flags::UPSTREAM_RESET, details, reset("remote reset"))
            }
            Failure::TryTimeout => {
                told(504, Flags::UPSTREAM_TIMEOUT, "upstream_per_try_timeout", "upstream request timeout".into())
            }
            Failure::Timeout => {
                told(504, Flags::UPSTREAM_TIMEOUT, "response_timeout", "upstream request timeout".into())
            }
            Failure::Idle { arrived } => {
                let status = if *arrived { 504 } else { 408 };
                told(status, Flags::STREAM_IDLE, "stream_idle_timeout", "stream timeout".into())
            }
            Failure::Name(_) => {
                told(503, Flags::NAME_UNKNOWN, "dns_resolution_failure", "DNS resolution failure".into())
            }
            Failure::ClientBody => told(400, Flags::DOWNSTREAM_ENDED, "downstream_remote_disconnect", String::new()),
        }
    }

    /// What it says of the host, for outlier detection; what one of our own bounds refused, or the client broke off,
    /// says nothing (DR43).
    pub fn report(&self) -> Option<balance::Report> {
        use balance::Report;
        match self {
            Failure::Connect(_)
            | Failure::Tls(_)
            | Failure::Ended
            | Failure::Unsent
            | Failure::Protocol
            | Failure::Refused
            | Failure::Reset => Some(Report::Broken),
            Failure::ConnectTimeout | Failure::TryTimeout | Failure::Timeout => Some(Report::Timeout),
            Failure::NoHost
            | Failure::NoCluster
            | Failure::Overflow
            | Failure::Idle { .. }
            | Failure::ClientBody
            | Failure::Name(_) => None,
        }
    }

    /// What the retry policy is asked about.
    pub fn outcome(&self) -> Option<balance::retry::Outcome> {
        use balance::retry::Outcome;
        Some(match self {
            Failure::Connect(_) | Failure::Tls(_) | Failure::ConnectTimeout => Outcome::ConnectFailure,
            Failure::Refused => Outcome::RefusedStream,
            Failure::Ended | Failure::Protocol | Failure::Reset | Failure::TryTimeout => {
                Outcome::Reset { before_request: false }
            }
            Failure::Unsent => Outcome::Reset { before_request: true },
            Failure::Overflow => Outcome::Overflow,
            Failure::NoHost
            | Failure::NoCluster
            | Failure::Timeout
            | Failure::Idle { .. }
            | Failure::ClientBody
            | Failure::Name(_) => {
                return None;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_as_envoys() {
        assert_eq!(Flags::default().to_string(), "-");
        assert_eq!(Flags::UPSTREAM_CONNECT.with(Flags::RETRIES_EXHAUSTED).to_string(), "UF,URX");
    }
}
