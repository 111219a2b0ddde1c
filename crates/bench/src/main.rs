//! `sluice-bench data` and `sluice-bench control`; `make bench` runs both.

use anyhow::Result;
use bench::{control, cpu, data};
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
        What::Control { services, clients, edits } => {
            runtime.block_on(control::run(&control::Plan { services, clients, edits }))
        }
    }
}
