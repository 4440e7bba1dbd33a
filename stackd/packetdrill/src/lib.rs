//! Scripts in the packetdrill language, run against the stack in virtual time.
//!
//! A script says what a program does (system calls), what a peer sends (`<` packets), and what the stack must do about it (results of calls,
//! `>` packets, `%{ assert … }%` over `TCP_INFO`). The stack under test is `stackd-netstack`'s `Stack`, the same code that the daemon runs; time
//! is virtual, so that a script of minutes takes milliseconds and every run is the same.
//!
//! The parser is ours, written from the public description of the language; scripts written for Linux run unchanged. What a script uses and
//! this interpreter cannot do is reported with file and line; nothing is skipped silently.
#![forbid(unsafe_code)]

mod ast;
mod config;
mod error;
mod lex;
mod parse;
mod python;
mod run;
mod symbols;
mod wire;

pub use config::{Bad, Config, IpVersion};
pub use error::{Failure, Kind};
pub use lex::Defines;
pub use run::Report;

/// Runs the script `text`, called `file` in messages. `base` and `defines` are what the command line says; the script's own options win.
///
/// # Errors
/// The first thing that is not as the script says, with file, line and virtual time.
pub fn run_text(file: &str, text: &str, base: &Config, defines: &Defines) -> Result<Report, Failure> {
    let mut defines = defines.clone();
    let script = parse::parse(file, text, &mut defines)?;
    let mut config = base.clone();
    config.take_script_options(file, &script)?;
    if config.dry_run {
        return Ok(Report::default());
    }
    run::run(file, &script, &config)
}

/// Runs the script in a file.
///
/// # Errors
/// As [`run_text`]; a file that cannot be read.
pub fn run_file(path: &std::path::Path, base: &Config, defines: &Defines) -> Result<Report, Failure> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| Failure::syntax(&file, 0, e.to_string()))?;
    run_text(&file, &text, base, defines)
}
