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
        "drain" => Some(drain(&Drain::parse_from(&words[1..]))),
        "wait" => Some(wait(&Wait::parse_from(&words[1..]))),
        _ => None,
    }
}

/// Ask clients to go elsewhere, and serve those that do not know yet.
#[derive(Parser, Debug)]
#[command(name = "sluice-proxy drain")]
struct Drain {
    /// Where the admin pages are.
    #[arg(long, default_value = "127.0.0.1:15000")]
    admin_address: SocketAddr,
}

// A native sidecar's preStop: it runs when the pod begins to end, and SIGTERM comes only after the applications' end. Until
// then they are served, however long their own preStop takes.
fn drain(args: &Drain) -> Result<()> {
    match ask(args.admin_address, "POST /drain_listeners?graceful&skip_exit")? {
        true => Ok(()),
        false => bail!("the proxy at {} does not drain", args.admin_address),
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
        let reason = match ask(args.status_address, "GET /healthz/ready") {
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

// Whether the answer is 200.
fn ask(address: SocketAddr, what: &str) -> Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX).context("connect")?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let head = format!("{what} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).context("read the answer")?;
    Ok(answer.ends_with(b" 200"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_no_command_are_the_proxy_s_own() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(run(&words("sluice-proxy")).is_none());
        assert!(run(&words("sluice-proxy --node x")).is_none());
    }

    #[test]
    fn an_application_waits_for_its_proxy() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers = std::thread::spawn(move || {
            for answer in ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 18]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let words = ["sluice-proxy", "wait", "--status-address", &address].map(str::to_owned);
        run(&words).unwrap().unwrap();
        answers.join().unwrap();
        let nobody =
            ["sluice-proxy", "wait", "--status-address", "127.0.0.1:1", "--timeout-seconds", "0"].map(str::to_owned);
        assert!(run(&nobody).unwrap().unwrap_err().to_string().contains("did not become ready in 0 s"));
    }
}
