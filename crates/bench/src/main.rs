//! `sluice-bench data` and `sluice-bench control`; `make bench` runs both.

use anyhow::Result;
use bench::{control, cpu, data, features};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Benchmarks of Sluice; run them on a quiet machine")]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// CPU per request against Envoy, HAProxy and nginx.
    Data {
        /// Counted rounds.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Requests per proxy and round.
        #[arg(long, default_value_t = 64_000)]
        requests: u64,
        /// Routes of our proxy and of Envoy.
        #[arg(long, default_value_t = 100)]
        routes: usize,
    },
    /// CPU per request of each feature.
    Features {
        /// Counted rounds.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Requests per feature and round.
        #[arg(long, default_value_t = 32_000)]
        requests: u64,
    },
    /// Instructions per request on the base path, by callgrind.
    Instructions {
        /// The proxy to count; the one built with this program when absent.
        #[arg(long)]
        proxy: Option<std::path::PathBuf>,
        /// Requests of the short run; the long one has three times as many.
        #[arg(long, default_value_t = 2_000)]
        requests: u64,
    },
    /// From a write to the last client, on a real API server.
    Control {
        /// Services.
        #[arg(long, default_value_t = 300)]
        services: usize,
        /// Clients; may be repeated.
        #[arg(long, default_values_t = [100, 400])]
        clients: Vec<usize>,
        /// Edits of each kind.
        #[arg(long, default_value_t = 60)]
        edits: usize,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args.what {
        What::Data { rounds, requests, routes } => {
            // The proxies are on processor 0; the client and the backends share the other.
            cpu::pin_self(1);
            runtime.block_on(data::run(&data::Plan { rounds, requests, routes }))
        }
        What::Features { rounds, requests } => {
            cpu::pin_self(1);
            runtime.block_on(features::run(&features::Plan { rounds, requests }))
        }
        What::Instructions { proxy, requests } => {
            let proxy = proxy.map_or_else(|| testkit::process::program("sluice-proxy"), Ok)?;
            runtime.block_on(features::instructions(&proxy, requests))
        }
        What::Control { services, clients, edits } => {
            runtime.block_on(control::run(&control::Plan { services, clients, edits }))
        }
    }
}
