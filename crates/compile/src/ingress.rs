//! Ingress listeners of a Sidecar: the ports that a workload serves, instead of those that Services say (SC10 to SC14).
//!
//! In: the list as written. Out: ports; `workload.rs` makes inbound listeners of them.

use std::net::IpAddr;

use api::sidecar::{CaptureMode, IngressListener};
use words::Protocol;

use crate::notes::Notes;
use crate::policy::Pool;
use crate::sidecar;
use crate::traffic_policy::lower_pool;

/// One port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ingress {
    /// What clients dial.
    pub(crate) number: u16,
    /// What is spoken there.
    pub(crate) protocol: Protocol,
    /// Its address, when it has a socket of its own; `None`: the pod's.
    pub(crate) bind: Option<IpAddr>,
    /// It has a socket of its own, whatever captures the rest.
    pub(crate) bound: bool,
    /// Where it leads.
    pub(crate) to: App,
    /// Bounds (SC14).
    pub(crate) pool: Option<Pool>,
}

/// Where the application takes what comes to a port (SC12).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum App {
    /// Where it was dialled.
    #[default]
    Dialled,
    /// At this port of the loopback address.
    Local(u16),
    /// At this port of the pod's address.
    Pod(u16),
    /// At a Unix socket.
    Pipe(String),
}

/// Lowers the list; of two entries for one port the first counts.
pub(crate) fn lower(written: &[IngressListener], notes: &mut Notes) -> Vec<Ingress> {
    let mut lowered: Vec<Ingress> = Vec::with_capacity(written.len());
    for (index, listener) in written.iter().enumerate() {
        let field = format!("spec.ingress[{index}]");
        match one(listener, &field, notes) {
            Ok(made) if lowered.iter().any(|other| other.number == made.number) => {
                let message = format!("port {} stands twice; the first one counts", made.number);
                notes.ignored(format!("{field}.port"), message);
            }
            Ok(made) => lowered.push(made),
            Err((leaf, reason)) => notes.ignored(format!("{field}.{leaf}"), format!("{reason}; the port is left out")),
        }
    }
    lowered
}

fn one(listener: &IngressListener, field: &str, notes: &mut Notes) -> Result<Ingress, (&'static str, String)> {
    let IngressListener { port, bind, capture_mode, default_endpoint, tls, connection_pool } = listener;
    // Istio too ignores it unless it is told otherwise (SC13).
    notes.not_obeyed(tls.is_some(), || format!("{field}.tls"));
    let number = port.as_ref().and_then(|port| port.number).and_then(|number| u16::try_from(number).ok());
    let (Some(port), Some(number)) = (port, number.filter(|number| *number != 0)) else {
        return Err(("port", "a port between 1 and 65535 is missing".into()));
    };
    let bind = sidecar::address(bind.as_deref()).map_err(|()| ("bind", "it is no IP address".into()))?;
    let to = app(default_endpoint.as_deref().unwrap_or_default())
        .ok_or_else(|| ("defaultEndpoint", "it is none of 127.0.0.1:<port>, 0.0.0.0:<port>, unix://<path>".into()))?;
    let pool = connection_pool.as_ref().map(|pool| lower_pool(pool, &format!("{field}.connectionPool"), notes));
    let bound = *capture_mode == Some(CaptureMode::None);
    Ok(Ingress { number, protocol: sidecar::protocol(port, number), bind, bound, to, pool })
}

fn app(text: &str) -> Option<App> {
    if text.is_empty() {
        return Some(App::Dialled);
    }
    if let Some(path) = text.strip_prefix("unix://") {
        return (!path.is_empty()).then(|| App::Pipe(path.to_owned()));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    match host {
        "127.0.0.1" | "[::1]" => Some(App::Local(port)),
        "0.0.0.0" | "[::]" => Some(App::Pod(port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sc12_default_endpoints() {
        assert_eq!(app(""), Some(App::Dialled));
        assert_eq!(app("127.0.0.1:8080"), Some(App::Local(8080)));
        assert_eq!(app("[::1]:8080"), Some(App::Local(8080)));
        assert_eq!(app("0.0.0.0:80"), Some(App::Pod(80)));
        assert_eq!(app("[::]:80"), Some(App::Pod(80)));
        assert_eq!(app("unix:///var/run/app.sock"), Some(App::Pipe("/var/run/app.sock".into())));
        for bad in ["10.0.0.1:80", "127.0.0.1", "127.0.0.1:0", "unix://", "localhost:80"] {
            assert_eq!(app(bad), None, "{bad}");
        }
    }
}
