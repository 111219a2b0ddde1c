//! Real processes of this workspace, started by a test and ended with it.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// Lines of output kept per process.
const LINES_MAX: usize = 20_000;

/// A running program and what it printed so far. Dropping it kills the process (only this one, by its pid).
pub struct Process {
    /// For messages.
    pub name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

/// The repository's root.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// A program of this workspace, built in the profile of the running test (`make test` builds them first).
pub fn program(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("path of the test program")?;
    // target/<profile>/deps/<test>: programs are one folder up; they are beside us when we are a program ourselves.
    let mut folders = test.ancestors().skip(1).take(2);
    let found = folders.clone().map(|folder| folder.join(name)).find(|path| path.is_file());
    let first = folders.next().unwrap_or(&test).to_path_buf();
    found.with_context(|| {
        format!("{name} is not built near {}: run `cargo build --bins` (make test does)", first.display())
    })
}

/// Ports for listeners. Those that the system gives to clients' ends (from 32768 on) are left to them: a port that was free
/// a moment ago could be one of those by now.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// An address on loopback that was free a moment ago; each call gives another port, and each process begins elsewhere.
pub fn free_address(ip: &str) -> Result<SocketAddr> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // A prime, so that neighbours begin far from each other.
    let first = std::process::id().wrapping_mul(7_919);
    for _ in 0..count {
        let offset = first.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % count;
        let Ok(port) = u16::try_from(u32::from(PORTS.start) + offset) else { continue };
        if let Ok(listener) = TcpListener::bind((ip, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no free port on {ip}")
}

impl Process {
    /// Starts a program; its output is kept and can be asked for.
    pub fn start<I, S>(program: &Path, args: I) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Self::start_with(program, args, &[])
    }

    /// The same with environment variables.
    pub fn start_with<I, S>(program: &Path, args: I, env: &[(&str, &str)]) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut child = Command::new(program)
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        if let Some(stdout) = stdout {
            tokio::spawn(keep(stdout, lines.clone()));
        }
        if let Some(stderr) = stderr {
            tokio::spawn(keep(stderr, lines.clone()));
        }
        Ok(Self { name, child, lines })
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// All lines so far, standard output and standard error mixed.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().map(|lines| lines.clone()).unwrap_or_default()
    }

    /// The first line that contains `text`, waiting for it up to `limit`.
    pub async fn line_with(&mut self, text: &str, limit: Duration) -> Result<String> {
        let what = format!("{} prints {text:?}", self.name);
        let found = crate::wait::until(&what, limit, || {
            let hit = self.lines().into_iter().find(|line| line.contains(text));
            let ended = self.child.try_wait().ok().flatten();
            async move {
                match (hit, ended) {
                    (Some(line), _) => Ok(Ok(line)),
                    (None, Some(status)) => Ok(Err(status)),
                    (None, None) => Err("no such line yet"),
                }
            }
        })
        .await;
        match found {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(status)) => bail!("{what}: it ended with {status}\n{}", self.tail()),
            Err(error) => bail!("{error}\n{}", self.tail()),
        }
    }

    /// The last lines, for a failure's message.
    pub fn tail(&self) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Sends SIGTERM and waits for the end; the exit code.
    pub async fn terminate(mut self, limit: Duration) -> Result<i32> {
        let pid = self.child.id().context("already ended")?;
        let sent = Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await?;
        if !sent.success() {
            bail!("kill -TERM {pid} failed");
        }
        let status = tokio::time::timeout(limit, self.child.wait())
            .await
            .with_context(|| format!("{} did not end within {limit:?} of SIGTERM\n{}", self.name, self.tail()))??;
        status.code().with_context(|| format!("{} was killed: {status}", self.name))
    }

    /// Ends it at once, as a crash would.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("kill {}", self.name))
    }
}

async fn keep(stream: impl AsyncRead + Unpin, lines: Arc<Mutex<Vec<String>>>) {
    let mut reader = BufReader::new(stream).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        if let Ok(mut kept) = lines.lock() {
            if kept.len() >= LINES_MAX {
                kept.drain(..LINES_MAX / 2);
            }
            kept.push(line);
        }
    }
}
