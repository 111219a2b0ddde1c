//! `bookinfo`: one of the four services, any service that echoes, load on them, or the whole demo.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use demo::client::Way;
use demo::serve::{Answer, Asked};
use demo::{client, details, echo, load, productpage, ratings, reviews, serve, up};

/// Where a service listens, and how it ends.
#[derive(clap::Args)]
struct Place {
    /// Where to listen.
    #[arg(long, default_value = "0.0.0.0:9080")]
    listen: SocketAddr,
    /// After SIGTERM it goes on taking connections for so many seconds, until nobody sends it any; then it finishes
    /// what is under way and ends.
    #[arg(long, default_value_t = 0)]
    drain_seconds: u64,
}

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
        /// Its version; only those of reviews differ.
        #[arg(long, default_value = "v1")]
        version: String,
        #[command(flatten)]
        place: Place,
        /// Where the sidecar takes requests to other services; without it they are asked by name.
        #[arg(long)]
        sidecar: Option<SocketAddr>,
    },
    /// Serve a service of any name, that says who answered and what arrived.
    Echo {
        /// Its name.
        service: String,
        /// Its version.
        #[arg(long, default_value = "v1")]
        version: String,
        #[command(flatten)]
        place: Place,
    },
    /// Ask once, and print what comes back.
    Get {
        /// Whom: http://host:port/path.
        url: http::Uri,
    },
    /// Send requests at a constant rate and count every failure.
    Load(load::Load),
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
        Command::Serve { service, version, place, sidecar } => {
            serve_one(&service, &version, &place, sidecar.map_or(Way::Names, Way::Sidecar)).await
        }
        Command::Echo { service, version, place } => {
            let name = format!("{service}-{version}");
            place.serve(&name, move |asked| echo::answer(service.clone(), version.clone(), asked)).await
        }
        Command::Get { url } => get(&url).await,
        Command::Load(load) => {
            println!("{}", serde_json::to_string(&load::run(load).await?)?);
            Ok(())
        }
        Command::Up { dir, address } => up::run(dir, address).await,
    }
}

async fn get(url: &http::Uri) -> Result<()> {
    let service = url.authority().context("the URL has no host")?.as_str();
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let (status, body) =
        client::get(Way::Names, service, path, &http::HeaderMap::new(), Duration::from_secs(20)).await?;
    println!("{}", String::from_utf8_lossy(&body));
    if status < 400 { Ok(()) } else { bail!("status {status}") }
}

impl Place {
    async fn serve<F, Fut>(&self, name: &str, answer: F) -> Result<()>
    where
        F: Fn(Asked) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        serve::until_asked_to_end(name, self.listen, Duration::from_secs(self.drain_seconds), answer).await
    }
}

async fn serve_one(service: &str, version: &str, place: &Place, way: Way) -> Result<()> {
    let name = format!("{service}-{version}");
    match service {
        "productpage" => place.serve(&name, move |asked| productpage::answer(way, asked)).await,
        "details" => place.serve(&name, details::answer).await,
        "ratings" => place.serve(&name, ratings::answer).await,
        "reviews" => {
            let version =
                reviews::Version::parse(version).with_context(|| format!("reviews has no version {version:?}"))?;
            place.serve(&name, move |asked| reviews::answer(version, way, asked)).await
        }
        other => bail!("no service {other:?}: one of productpage, details, reviews, ratings"),
    }
}
