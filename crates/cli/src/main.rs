//! `sluicectl`.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use cli::args::Args;

/// istioctl's exit code for a wrong command line.
const USAGE: u8 = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nothing to do when even the terminal is gone.
            let _ = error.print();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    match cli::run::run(&args).await {
        Ok(answer) => {
            print!("{}", answer.text);
            ExitCode::from(answer.exit)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<cli::run::Usage>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}
