//! A real OpenTelemetry Collector, and what it was told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testkit::process::{Process, workspace};
use testkit::wait;

use crate::mesh::START;

/// The binary that `scripts/build-otelcol.sh` makes, when it is there.
pub fn binary() -> Option<PathBuf> {
    let cache = std::env::var_os("SLUICE_CACHE").map_or_else(|| workspace().join(".cache"), PathBuf::from);
    Some(cache.join("otel/bin/otelcol")).filter(|path| path.is_file())
}

/// A running collector that writes what it gets to a file.
pub struct Collector {
    /// The process.
    pub process: Process,
    file: PathBuf,
}

/// A span, as the collector has it.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// `service.name` of its resource.
    pub service: String,
    /// The trace, 32 hexadecimal digits.
    pub trace: String,
    /// Its id, 16 digits.
    pub id: String,
    /// The parent's; empty for a root.
    pub parent: String,
    /// The operation.
    pub name: String,
    /// `server` or `client`.
    pub kind: &'static str,
    /// It failed.
    pub is_error: bool,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
}

impl Collector {
    /// Starts one that takes OTLP over gRPC at an address.
    pub async fn start(binary: &Path, folder: &Path, at: SocketAddr) -> Result<Self> {
        let file = folder.join("spans.jsonl");
        let config = folder.join("collector.yaml");
        std::fs::write(
            &config,
            format!(
                "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"{at}\"}}}}}}}}\n\
                 exporters: {{lines: {{path: {}}}}}\n\
                 service:\n  telemetry: {{metrics: {{level: none}}}}\n  \
                 pipelines: {{traces: {{receivers: [otlp], exporters: [lines]}}}}\n",
                file.display()
            ),
        )?;
        let process = Process::start(binary, ["--config".to_owned(), format!("file:{}", config.display())])?;
        let collector = Self { process, file };
        let ready = wait::until("the collector listens", START, || tokio::net::TcpStream::connect(at));
        ready.await.with_context(|| collector.process.tail())?;
        Ok(collector)
    }

    /// Every span that it was told of.
    pub fn spans(&self) -> Result<Vec<Span>> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let mut all = Vec::new();
        for line in text.lines() {
            let batch: Value = serde_json::from_str(line)?;
            for resource in items(&batch["resourceSpans"]) {
                let service = attributes(&resource["resource"]).remove("service.name").unwrap_or_default();
                let scopes = items(&resource["scopeSpans"]);
                all.extend(scopes.iter().flat_map(|scope| items(&scope["spans"])).map(|span| read(span, &service)));
            }
        }
        Ok(all)
    }

    /// Waits until `enough` of the spans that it was told of gives an answer.
    pub async fn until<T>(&self, what: &str, enough: impl Fn(&[Span]) -> Option<T>) -> Result<T> {
        wait::until(what, START, || async {
            let spans = self.spans()?;
            match enough(&spans) {
                Some(found) => Ok(found),
                None => bail!("so far {spans:#?}"),
            }
        })
        .await
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn attributes(value: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    items(&value["attributes"]).iter().map(|one| (text(&one["key"]), text(&one["value"]["stringValue"]))).collect()
}

fn read(span: &Value, service: &str) -> Span {
    let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
    Span {
        service: service.to_owned(),
        trace: text("traceId"),
        id: text("spanId"),
        parent: text("parentSpanId"),
        name: text("name"),
        kind: match span["kind"].as_u64() {
            Some(2) => "server",
            Some(3) => "client",
            _ => "other",
        },
        is_error: span["status"]["code"] == 2,
        attributes: attributes(span),
    }
}
