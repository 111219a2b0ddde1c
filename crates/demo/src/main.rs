//! `bookinfo`: one of the four services, or the whole demo.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use demo::{details, productpage, ratings, reviews, serve, up};

#[derive(Parser)]
#[command(version, about = "Bookinfo, the Istio tutorials' application, as small servers")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve one of productpage, details, reviews, ratings.
    Serve {
        /// Which service.
        service: String,
        /// Its version; only reviews has more than v1.
        #[arg(long, default_value = "v1")]
        version: String,
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
        /// Where the sidecar takes requests to other services.
        #[arg(long)]
        sidecar: Option<SocketAddr>,
    },
    /// Run everything: control plane, a sidecar each, a gateway, the four services.
    Up {
        /// Where the manifests go that you can edit; a new folder below the temporary directory when absent.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// The gateway's address; the next free port is taken when this one is busy.
        #[arg(long, default_value = "127.0.0.1:8080")]
        address: SocketAddr,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Args::parse().command {
        Command::Serve { service, version, listen, sidecar } => serve_one(&service, &version, listen, sidecar).await,
        Command::Up { dir, address } => up::run(dir, address).await,
    }
}

async fn serve_one(service: &str, version: &str, listen: SocketAddr, sidecar: Option<SocketAddr>) -> Result<()> {
    let name = format!("{service}-{version}");
    let sidecar_needed = || sidecar.with_context(|| format!("{service} calls others: --sidecar is needed"));
    match service {
        "productpage" => {
            let sidecar = sidecar_needed()?;
            serve::forever(&name, listen, move |asked| productpage::answer(sidecar, asked)).await
        }
        "details" => serve::forever(&name, listen, details::answer).await,
        "ratings" => serve::forever(&name, listen, ratings::answer).await,
        "reviews" => {
            let sidecar = sidecar_needed()?;
            let version =
                reviews::Version::parse(version).with_context(|| format!("reviews has no version {version:?}"))?;
            serve::forever(&name, listen, move |asked| reviews::answer(version, sidecar, asked)).await
        }
        other => bail!("no service {other:?}: one of productpage, details, reviews, ratings"),
    }
}
