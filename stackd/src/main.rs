//! The daemon's front door: arguments in, exit code out.

use stackd::config::{Args, Config};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As BSD's EX_CONFIG and EX_TEMPFAIL: a service manager can tell "will never work" from "try again".
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let args = Args::of_process();
    let config = match Config::load(&args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("stackd: {error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    if let Err(error) = stackd::daemon::check(&config, &args) {
        eprintln!("stackd: {error}");
        return ExitCode::from(EX_CONFIG);
    }
    if args.check {
        println!("{}: no mistakes found", config.source);
        return ExitCode::SUCCESS;
    }
    match stackd::daemon::run(&config, &args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stackd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
