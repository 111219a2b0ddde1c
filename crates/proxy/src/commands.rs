//! Commands beside the proxy itself, for init containers and hooks of a pod: its image has no shell.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::capture;

/// How long one question may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Runs the command that the first word names; `None` when it names none.
pub fn run(words: &[String]) -> Option<Result<()>> {
    match words.get(1)?.as_str() {
        "iptables" => Some(capture::apply::run(&capture::Args::parse_from(&words[1..]))),
        "wait" => Some(wait(&Wait::parse_from(&words[1..]))),
        _ => None,
    }
}

/// Wait until the proxy is ready.
#[derive(Parser, Debug)]
#[command(name = "sluice-proxy wait")]
struct Wait {
    /// Where readiness is asked for.
    #[arg(long, default_value = "127.0.0.1:15021")]
    status_address: SocketAddr,
    /// How long, in seconds.
    #[arg(long, default_value_t = 60)]
    timeout_seconds: u64,
}

// A container's postStart: the next container starts when this ends.
fn wait(args: &Wait) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(args.timeout_seconds);
    loop {
        let reason = match is_ready(args.status_address) {
            Ok(true) => return Ok(()),
            Ok(false) => "it is not ready".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= deadline {
            bail!("the proxy at {} did not become ready in {} s: {reason}", args.status_address, args.timeout_seconds);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn is_ready(address: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX).context("connect")?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(b"GET /healthz/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).context("read the answer")?;
    Ok(answer.ends_with(b" 200"))
}
