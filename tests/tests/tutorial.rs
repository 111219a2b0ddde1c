//! The long tutorial, line by line: Bookinfo as `make demo` runs it, its YAML saved one file after the other, and the page
//! as its reader sees it (S03 to S14, S68, S70, S72).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use suite::mesh::write;
use testkit::case::Call;
use testkit::process::{Process, free_address, program, workspace};
use testkit::wait;

const SOON: Duration = Duration::from_secs(15);
const RULES: &str = "40-reviews.yaml";
const RATINGS: &str = "50-ratings.yaml";
const SORRY: &str = "Sorry, product reviews are currently unavailable";
const NO_STARS: &str = "Ratings service is currently unavailable";

/// The running demo.
struct Demo {
    _process: Process,
    dir: PathBuf,
    page: SocketAddr,
}

/// What a reader gets.
struct Page {
    text: String,
    took: Duration,
}

impl Page {
    fn version(&self) -> &str {
        let by = self.text.split("Reviews served by").nth(1).unwrap_or_default();
        ["reviews-v1", "reviews-v2", "reviews-v3"].into_iter().find(|name| by.contains(name)).unwrap_or("none")
    }
}

impl Demo {
    async fn start(dir: &Path) -> Result<Self> {
        let page = free_address("127.0.0.1")?;
        let args =
            ["up".to_owned(), "--dir".into(), dir.to_string_lossy().into_owned(), "--address".into(), page.to_string()];
        let mut process = Process::start(&program("bookinfo")?, args)?;
        process.line_with("productpage", Duration::from_secs(60)).await?;
        Ok(Self { _process: process, dir: dir.to_owned(), page })
    }

    fn save(&self, file: &str, text: &str) -> Result<()> {
        write(&self.dir, file, text)
    }

    async fn read(&self, user: &str) -> Result<Page> {
        let cookie = if user.is_empty() { String::new() } else { format!("headers: {{cookie: session={user}}}\n") };
        let call: Call =
            serde_saphyr::from_str(&format!("request: GET http://localhost/productpage\n{cookie}expect: {{}}\n"))?;
        let began = Instant::now();
        let answer = testkit::call::send(self.page, &call).await?;
        if answer.status != 200 {
            bail!("the page answers {}", answer.status);
        }
        Ok(Page { text: String::from_utf8_lossy(&answer.body).into_owned(), took: began.elapsed() })
    }

    async fn versions(&self, user: &str, times: u32) -> Result<BTreeMap<String, u32>> {
        let mut counts = BTreeMap::new();
        for _ in 0..times {
            *counts.entry(self.read(user).await?.version().to_owned()).or_default() += 1;
        }
        Ok(counts)
    }

    /// Waits until a page is as `fits` says; that page.
    async fn until(&self, what: &str, user: &str, fits: impl Fn(&Page) -> bool) -> Result<Page> {
        wait::until(what, Duration::from_secs(60), || async {
            let page = self.read(user).await?;
            if fits(&page) {
                return Ok(page);
            }
            bail!("{} after {:?}", page.version(), page.took)
        })
        .await
    }
}

fn seed(prefix: &str) -> Result<String> {
    let folder = workspace().join("tests/seeds");
    for entry in std::fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return std::fs::read_to_string(entry.path()).context("read a seed");
        }
    }
    bail!("no seed {prefix}")
}

fn only(version: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews}}\nspec:\n  hosts: [reviews]\n  \
         http: [{{route: [{{destination: {{host: reviews, subset: {version}}}}}]}}]\n"
    )
}

fn between(took: Duration, least: f64, most: f64) -> bool {
    (least..most).contains(&took.as_secs_f64())
}

#[test]
fn the_long_tutorial_line_by_line() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(tutorial()).unwrap();
}

async fn tutorial() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(folder.path()).await?;
    weights(&demo).await.context("weights and headers (S03 to S05)")?;
    faults(&demo).await.context("faults (S09, S10, S72)")?;
    timeouts(&demo).await.context("timeouts and retries (S11, S13)")?;
    mirror(&demo).await.context("mirror (S14)")
}

async fn weights(demo: &Demo) -> Result<()> {
    demo.save(RULES, &seed("07-")?)?;
    wait::until("all versions, v3 most of all", SOON, || async {
        let counts = demo.versions("", 40).await?;
        let of = |name: &str| counts.get(name).copied().unwrap_or(0);
        if of("reviews-v1") > 0 && of("reviews-v2") > 0 && of("reviews-v3") > 24 { Ok(()) } else { bail!("{counts:?}") }
    })
    .await?;
    demo.save(RULES, &seed("08-")?)?;
    wait::until("one user gets no stars", SOON, || async {
        let counts = demo.versions("log-in-as-this-user", 15).await?;
        if counts.get("reviews-v1") == Some(&15) { Ok(()) } else { bail!("{counts:?}") }
    })
    .await
}

// With black stars reviews waits 10 s for ratings, so the page gives up first: two tries of 3 s.
async fn faults(demo: &Demo) -> Result<()> {
    demo.save(RULES, &only("v2"))?;
    demo.save(RATINGS, &seed("09-")?)?;
    let page = demo.until("the delay reaches the page", "tester", |page| page.text.contains(SORRY)).await?;
    if !between(page.took, 5.9, 8.0) {
        bail!("the delayed page took {:?}, the tutorial says 6 to 7 s", page.took);
    }
    let page = demo.read("").await?;
    if page.version() != "reviews-v2" || page.took > Duration::from_secs(3) {
        bail!("others must not notice: {} after {:?}", page.version(), page.took);
    }
    demo.save(RATINGS, &seed("10-")?)?;
    // A page that was begun under the delay may end with the abort, after a try that waited.
    let at_once = |page: &Page| page.text.contains(NO_STARS) && page.took < Duration::from_secs(2);
    demo.until("the abort reaches the page, at once", "tester", at_once).await?;
    Ok(())
}

// One second for each of the two tries of the page; and a delay that no retry shortens.
async fn timeouts(demo: &Demo) -> Result<()> {
    demo.save(RATINGS, &seed("09-")?)?;
    demo.save(RULES, &seed("11-")?)?;
    let is_cut = |page: &Page| page.text.contains(SORRY) && between(page.took, 1.9, 3.0);
    demo.until("the timeout cuts both tries", "tester", is_cut).await?;
    demo.save(RULES, &only("v2"))?;
    demo.save(RATINGS, &seed("12-")?)?;
    let gives_up = |page: &Page| page.text.contains(SORRY) && between(page.took, 5.9, 8.0);
    demo.until("the delay is not retried", "tester", gives_up).await?;
    Ok(())
}

async fn mirror(demo: &Demo) -> Result<()> {
    demo.save(RATINGS, &seed("04-")?)?;
    demo.save(RULES, &seed("13-")?)?;
    demo.until("v3 answers", "", |page| page.version() == "reviews-v3").await?;
    let counts = demo.versions("", 10).await?;
    if counts.get("reviews-v3") != Some(&10) {
        bail!("only v3 may answer: {counts:?}");
    }
    let log = demo.dir.join("logs/reviews-v1-sidecar.log");
    wait::until("copies reach v1", SOON, || async {
        let text = std::fs::read_to_string(&log)?;
        if text.contains("reviews-shadow") { Ok(()) } else { bail!("no copy in the log of v1's sidecar") }
    })
    .await
}
