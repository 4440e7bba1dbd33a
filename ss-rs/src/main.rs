//! `ss-rs`: see the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = ss_rs::cli::Args::parse();
    match ss_rs::cli::run(&args, &mut std::io::stdout().lock()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(ss_rs::cli::Failure::Pipe) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ss-rs: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
