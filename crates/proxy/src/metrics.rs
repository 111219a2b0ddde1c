//! Istio's metrics, counted per worker without locks, summed when somebody scrapes.
//!
//! A series is found by a small key (host, status, flags) in its cluster; its labels are made once. The number of series
//! is bounded; what is over the bound is counted in one series that says so.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::Metric;
use rustc_hash::FxHashMap;
use words::SpiffeId;

use crate::cluster::{ClusterState, bump};
use crate::identity::{Identity, UNKNOWN};
use crate::metric_labels::Changes;
use crate::principals::Parties;
use crate::record::Record;
use crate::worker::Worker;

/// Series per worker.
pub const SERIES_MAX: usize = 10_000;

/// Istio's buckets, milliseconds and bytes alike.
pub const BUCKETS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0, 300000.0,
    600000.0, 1800000.0, 3600000.0,
];

/// What tells the series of one cluster apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesKey {
    host: u32,
    status: u16,
    flags: u32,
    grpc_status: u16,
    is_inbound: bool,
    is_grpc: bool,
    parties: u64,
}

/// A histogram: counts per bucket (the last one is beyond all bounds), and the sum.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Cell<u64>; BUCKETS.len() + 1],
    sum: Cell<f64>,
}

impl Histogram {
    fn observe(&self, value: f64) {
        let index = BUCKETS.partition_point(|bound| *bound < value);
        bump(&self.buckets[index]);
        self.sum.set(self.sum.get() + value);
    }
}

/// The counts of one set of labels.
#[derive(Debug, Default)]
pub struct Series {
    requests: Cell<u64>,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

/// Counts of TCP connections of one set of labels.
#[derive(Debug, Default)]
pub struct TcpSeries {
    /// Opened.
    pub opened: Cell<u64>,
    /// Closed.
    pub closed: Cell<u64>,
    /// Bytes from the client.
    pub received: Cell<u64>,
    /// Bytes to the client.
    pub sent: Cell<u64>,
}

/// All series of one worker.
#[derive(Default)]
pub struct Metrics {
    http: RefCell<BTreeMap<String, Rc<Series>>>,
    tcp: RefCell<FxHashMap<String, Rc<TcpSeries>>>,
    without_cluster: RefCell<FxHashMap<SeriesKey, Rc<Series>>>,
    overflow: Cell<u64>,
    /// Access-log lines that were dropped because their file is slow.
    pub log_dropped: Cell<u64>,
    /// Requests that made us panic.
    pub panics: Cell<u64>,
    /// Requests that a fault delayed.
    pub delays_injected: Cell<u64>,
    /// Requests that a fault answered.
    pub aborts_injected: Cell<u64>,
    /// Connections from clients, ever.
    pub downstream_connections: Cell<u64>,
    /// Connections from clients, now.
    pub downstream_active: Cell<u64>,
}

impl Metrics {
    /// Counts a request that is over.
    pub fn request(&self, worker: &Worker, record: &Record, elapsed: Duration) {
        if let Some(changes) = &record.plan.changes {
            return self.changed(changes, worker, record, elapsed);
        }
        let series = match record.cluster.and_then(|slot| worker.cluster(slot)) {
            Some(cluster) => self.series_of(worker, record, Some(&cluster)),
            None => self.series_of(worker, record, None),
        };
        bump(&series.requests);
        series.duration.observe(elapsed.as_secs_f64() * 1000.0);
        series.request_bytes.observe(record.received as f64);
        series.response_bytes.observe(record.sent as f64);
    }

    // With labels of its own for each metric. Their values are anybody's, so nothing is remembered by a small key.
    fn changed(&self, changes: &Changes, worker: &Worker, record: &Record, elapsed: Duration) {
        let cluster = record.cluster.and_then(|slot| worker.cluster(slot));
        let labels = labels(&worker.identity, record, cluster.as_deref());
        for metric in Metric::ALL {
            let Some(labels) = changes.labels(metric, &labels, record) else { continue };
            let series = self.series(labels);
            match metric {
                Metric::Requests => bump(&series.requests),
                Metric::Duration => series.duration.observe(elapsed.as_secs_f64() * 1000.0),
                Metric::RequestBytes => series.request_bytes.observe(record.received as f64),
                Metric::ResponseBytes => series.response_bytes.observe(record.sent as f64),
            }
        }
    }

    fn series_of(&self, worker: &Worker, record: &Record, cluster: Option<&ClusterState>) -> Rc<Series> {
        let known = cluster.map_or(&self.without_cluster, |cluster| &cluster.series);
        let key = SeriesKey {
            host: record.host.map_or(u32::MAX, |(host, _)| host.0),
            status: record.status,
            flags: record.flags.bits(),
            grpc_status: record.grpc_status.unwrap_or(u16::MAX),
            is_inbound: record.is_inbound(),
            is_grpc: record.is_grpc,
            parties: record.parties.key(),
        };
        if let Some(series) = known.borrow().get(&key) {
            return series.clone();
        }
        let series = self.series(labels(&worker.identity, record, cluster));
        known.borrow_mut().insert(key, series.clone());
        series
    }

    fn series(&self, labels: String) -> Rc<Series> {
        let mut all = self.http.borrow_mut();
        if all.len() >= SERIES_MAX && !all.contains_key(&labels) {
            bump(&self.overflow);
            return all.entry("sluice_overflow=\"true\"".into()).or_default().clone();
        }
        all.entry(labels).or_default().clone()
    }

    /// The series of a TCP connection.
    pub fn tcp(&self, labels: String) -> Rc<TcpSeries> {
        let mut all = self.tcp.borrow_mut();
        if all.len() >= SERIES_MAX && !all.contains_key(&labels) {
            bump(&self.overflow);
            return all.entry("sluice_overflow=\"true\"".into()).or_default().clone();
        }
        all.entry(labels).or_default().clone()
    }

    /// A copy for the scrape.
    pub fn read(&self) -> Scrape {
        let histogram = |one: &Histogram| (one.buckets.each_ref().map(Cell::get), one.sum.get());
        let http = self.http.borrow();
        let http = http.iter().map(|(labels, series)| {
            let histograms = [&series.duration, &series.request_bytes, &series.response_bytes].map(histogram);
            (labels.clone(), HttpCounts { requests: series.requests.get(), histograms })
        });
        let tcp = self.tcp.borrow();
        let tcp = tcp.iter().map(|(labels, series)| {
            let counts = [&series.opened, &series.closed, &series.received, &series.sent].map(Cell::get);
            (labels.clone(), counts)
        });
        let singles = [
            ("sluice_metrics_overflow", self.overflow.get()),
            ("sluice_access_log_dropped", self.log_dropped.get()),
            ("sluice_panics", self.panics.get()),
            ("envoy_http_fault_delays_injected", self.delays_injected.get()),
            ("envoy_http_fault_aborts_injected", self.aborts_injected.get()),
            ("envoy_http_downstream_cx_total", self.downstream_connections.get()),
            ("envoy_http_downstream_cx_active", self.downstream_active.get()),
        ];
        Scrape { http: http.collect(), tcp: tcp.collect(), singles: singles.into(), clusters: BTreeMap::new() }
    }
}

type Counted = ([u64; BUCKETS.len() + 1], f64);

/// The counts of one set of labels, as numbers.
#[derive(Clone, Debug, Default)]
pub struct HttpCounts {
    requests: u64,
    histograms: [Counted; 3],
}

/// What one worker, or all of them, counted.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    http: BTreeMap<String, HttpCounts>,
    tcp: BTreeMap<String, [u64; 4]>,
    singles: BTreeMap<&'static str, u64>,
    /// Envoy's counters by cluster, and by host in it.
    pub clusters: BTreeMap<String, crate::stats::ClusterStats>,
}

impl Scrape {
    /// Adds a number.
    pub fn add_single(&mut self, name: &'static str, value: u64) {
        *self.singles.entry(name).or_default() += value;
    }

    /// Adds what another worker counted.
    pub fn add(&mut self, other: Scrape) {
        for (labels, counts) in other.http {
            let mine = self.http.entry(labels).or_default();
            mine.requests += counts.requests;
            for (mine, theirs) in mine.histograms.iter_mut().zip(counts.histograms) {
                mine.0.iter_mut().zip(theirs.0).for_each(|(mine, theirs)| *mine += theirs);
                mine.1 += theirs.1;
            }
        }
        for (labels, counts) in other.tcp {
            let mine = self.tcp.entry(labels).or_default();
            mine.iter_mut().zip(counts).for_each(|(mine, theirs)| *mine += theirs);
        }
        for (name, value) in other.singles {
            *self.singles.entry(name).or_default() += value;
        }
        for (name, stats) in other.clusters {
            self.clusters.entry(name).or_default().add(stats);
        }
    }

    /// The Prometheus text form.
    pub fn text(&self) -> String {
        use std::fmt::Write;
        let mut out = String::new();
        let help = |out: &mut String, name: &str, kind: &str| {
            let _ = writeln!(out, "# TYPE {name} {kind}");
        };
        help(&mut out, "istio_requests_total", "counter");
        for (labels, counts) in self.http.iter().filter(|(_, counts)| counts.requests > 0) {
            let _ = writeln!(out, "istio_requests_total{{{labels}}} {}", counts.requests);
        }
        let names = ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"];
        for (index, name) in names.iter().enumerate() {
            help(&mut out, name, "histogram");
            // Where metrics have labels of their own, not all are of one series.
            let counted = |counts: &HttpCounts| counts.histograms[index].0.iter().any(|count| *count > 0);
            for (labels, counts) in self.http.iter().filter(|(_, counts)| counted(counts)) {
                write_histogram(&mut out, name, labels, &counts.histograms[index]);
            }
        }
        let names = [
            "istio_tcp_connections_opened_total",
            "istio_tcp_connections_closed_total",
            "istio_tcp_received_bytes_total",
            "istio_tcp_sent_bytes_total",
        ];
        for (index, name) in names.iter().enumerate() {
            help(&mut out, name, "counter");
            for (labels, counts) in &self.tcp {
                let _ = writeln!(out, "{name}{{{labels}}} {}", counts[index]);
            }
        }
        for (name, value) in &self.singles {
            help(&mut out, name, "counter");
            let _ = writeln!(out, "{name} {value}");
        }
        let _ = writeln!(
            out,
            "# TYPE istio_build gauge\nistio_build{{component=\"proxy\",tag=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        );
        crate::stats::prometheus(&self.clusters, &mut out);
        out
    }
}

fn write_histogram(out: &mut String, name: &str, labels: &str, (buckets, sum): &Counted) {
    use std::fmt::Write;
    let mut total = 0;
    for (bound, count) in BUCKETS.iter().zip(buckets) {
        total += count;
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}");
    }
    total += buckets[BUCKETS.len()];
    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}");
    let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {total}");
}

/// The two ends of a connection, as labels want them.
pub struct Ends<'a> {
    /// This proxy.
    pub us: &'a Identity,
    /// True at the callee's proxy.
    pub is_inbound: bool,
    /// The cluster.
    pub cluster: Option<&'a ClusterState>,
    /// The host it was sent to.
    pub host: Option<balance::HostId>,
    /// Who has shown who they are.
    pub parties: Parties,
}

fn labels(us: &Identity, record: &Record, cluster: Option<&ClusterState>) -> String {
    let host = record.host.map(|(host, _)| host);
    let ends = Ends { us, is_inbound: record.is_inbound(), cluster, host, parties: record.parties };
    let protocol = if record.is_grpc { "grpc" } else { "http" };
    let grpc = record.grpc_status.map(|status| status.to_string()).unwrap_or_default();
    let tail = format!(
        ",request_protocol=\"{protocol}\",response_code=\"{}\",grpc_response_status=\"{grpc}\",response_flags=\"{}\"",
        record.status, record.flags
    );
    format!("{}{tail}", end_labels(&ends))
}

/// Istio's labels of source and destination.
pub fn end_labels(ends: &Ends<'_>) -> String {
    let Ends { us, is_inbound, cluster, host, parties } = ends;
    let mut unknown = Identity {
        workload: UNKNOWN.into(),
        namespace: UNKNOWN.into(),
        app: UNKNOWN.into(),
        version: UNKNOWN.into(),
        canonical_name: UNKNOWN.into(),
        canonical_revision: UNKNOWN.into(),
        cluster_id: UNKNOWN.into(),
        ..Identity::default()
    };
    let there = cluster.and_then(|cluster| {
        let balancer = cluster.balancer.borrow();
        let host = balancer.hosts().get((*host)?.0 as usize)?.workload.clone()?;
        Some(Identity {
            workload: host.name,
            namespace: host.namespace,
            app: host.canonical_name.clone(),
            version: host.canonical_revision.clone(),
            canonical_name: host.canonical_name,
            canonical_revision: host.canonical_revision,
            cluster_id: host.cluster_id,
            ..Identity::default()
        })
    });
    let (from, to) = match is_inbound {
        true => (parties.client.id(), parties.local.id()),
        false => (parties.upstream_local.id(), parties.upstream.id()),
    };
    // All that a certificate tells of a client's workload besides its account.
    if let (true, Some(from)) = (is_inbound, &from) {
        unknown.namespace.clone_from(&from.namespace);
    }
    let (source, destination, reporter) = match is_inbound {
        true => (unknown, (*us).clone(), "destination"),
        false => ((*us).clone(), there.unwrap_or(unknown), "source"),
    };
    let service = cluster.and_then(|cluster| cluster.plan.borrow().config.service.clone());
    let (host, name, namespace) = match &service {
        Some(service) => (service.host.as_str(), service.name.as_str(), service.namespace.as_str()),
        None => (UNKNOWN, UNKNOWN, UNKNOWN),
    };
    let security = match is_inbound {
        true if parties.client.is_somebody() => "mutual_tls",
        true => "none",
        // The caller's proxy does not say, as in Istio.
        false => UNKNOWN,
    };
    let end = |side: &str, who: &Identity, id: Option<Arc<SpiffeId>>| {
        let principal = id.map_or_else(|| UNKNOWN.to_owned(), |id| id.to_string());
        format!(
            "{side}_workload=\"{}\",{side}_workload_namespace=\"{}\",{side}_principal=\"{principal}\",{side}_app=\"{}\",\
             {side}_version=\"{}\",{side}_cluster=\"{}\",{side}_canonical_service=\"{}\",{side}_canonical_revision=\"{}\"",
            escape(&who.workload),
            escape(&who.namespace),
            escape(&who.app),
            escape(&who.version),
            escape(&who.cluster_id),
            escape(&who.canonical_name),
            escape(&who.canonical_revision)
        )
    };
    format!(
        "reporter=\"{reporter}\",{},{},destination_service=\"{}\",destination_service_name=\"{}\",\
         destination_service_namespace=\"{}\",connection_security_policy=\"{security}\"",
        end("source", &source, from),
        end("destination", &destination, to),
        escape(host),
        escape(name),
        escape(namespace)
    )
}

pub(crate) fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principals::Principal;

    fn principal(name: &str) -> Principal {
        Principal::of_any(SpiffeId::parse(&format!("spiffe://cluster.local/ns/{name}-ns/sa/{name}")).as_ref())
    }

    #[test]
    fn te02_labels_say_who_has_shown_who_they_are() {
        let us = Identity { workload: "reviews-v1".into(), namespace: "default".into(), ..Identity::default() };
        let labels =
            |is_inbound, parties| end_labels(&Ends { us: &us, is_inbound, cluster: None, host: None, parties });
        let has = |text: &str, parts: &[&str]| parts.iter().all(|part| text.contains(part));
        let nobody = labels(true, Parties::default());
        assert!(has(&nobody, &["source_principal=\"unknown\"", "connection_security_policy=\"none\""]), "{nobody}");
        let parties = Parties { client: principal("a"), local: principal("us"), ..Parties::default() };
        let known = labels(true, parties);
        let parts = [
            "source_principal=\"spiffe://cluster.local/ns/a-ns/sa/a\"",
            "source_workload_namespace=\"a-ns\"",
            "destination_principal=\"spiffe://cluster.local/ns/us-ns/sa/us\"",
            "connection_security_policy=\"mutual_tls\"",
        ];
        assert!(has(&known, &parts), "{known}");
        let out = labels(false, Parties { upstream: principal("b"), upstream_local: principal("us"), ..parties });
        let parts = [
            "source_principal=\"spiffe://cluster.local/ns/us-ns/sa/us\"",
            "destination_principal=\"spiffe://cluster.local/ns/b-ns/sa/b\"",
            "connection_security_policy=\"unknown\"",
        ];
        assert!(has(&out, &parts), "{out}");
    }
}
