//! The command line, and what every command shares.

use std::{io::Write, path::PathBuf};

use clap::{CommandFactory, Parser, Subcommand};
use stackd_proto::{StatusError, connect, control_path};
use tonic::{Status, transport::Channel};

use crate::{capture, clients, doctor, ip, kill, man, nstat, record, sysctl, tc};

/// Inspect and tune a live stackd.
#[derive(Clone, Debug, Parser)]
#[command(name = "netctl", version, propagate_version = true)]
#[allow(missing_docs)]
pub struct Args {
    /// JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Control socket of the daemon
    #[arg(long, global = true, env = "STACKD_CONTROL", value_name = "PATH")]
    pub control: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Command {
    Sysctl(sysctl::Args),
    /// Links, addresses, routes, neighbours: iproute2's syntax
    #[command(disable_help_flag = true)]
    Ip(Raw),
    /// Queueing disciplines: tc's syntax
    #[command(disable_help_flag = true)]
    Tc(Raw),
    Nstat(nstat::Args),
    Capture(capture::Args),
    Clients(clients::Args),
    Kill(kill::Args),
    Record(record::Args),
    /// Check what a stackd needs, and say what to do
    Doctor,
    /// Print a completion script
    Completions {
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Words that another grammar reads.
#[derive(Clone, Debug, clap::Args)]
pub struct Raw {
    /// As in iproute2
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
    pub words: Vec<String>,
}

/// Why a command failed: the text for stderr and the exit code that the original tool has for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// One message.
    pub text: String,
}

impl Failure {
    /// The command line is wrong.
    pub fn usage(text: impl Into<String>) -> Self {
        Self { code: 1, text: text.into() }
    }

    /// The daemon refused, told as the kernel's extended acks are.
    pub fn daemon(tool: &str, status: &Status, code: u8) -> Self {
        let error = StatusError::from(status);
        let text = match tool {
            "ip" | "tc" => format!("Error: {error}."),
            tool => format!("{tool}: {error}"),
        };
        Self { code, text }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            // `netctl ... | head` is not a failure.
            std::io::ErrorKind::BrokenPipe => Self { code: 0, text: String::new() },
            _ => Self::usage(format!("netctl: {error}")),
        }
    }
}

/// What every command needs.
#[derive(Clone, Debug)]
pub struct Context {
    /// --json.
    pub json: bool,
    /// The control socket.
    pub path: PathBuf,
}

impl Context {
    /// Connects to the daemon.
    pub async fn connect(&self) -> Result<Channel, Failure> {
        connect(&self.path).await.map_err(|error| Failure::usage(format!("netctl: {error}")))
    }
}

/// Runs the command, writing to `out`.
pub async fn run(args: Args, out: &mut impl Write) -> Result<(), Failure> {
    let cx = Context { json: args.json, path: control_path(args.control) };
    match args.command {
        Command::Sysctl(args) => sysctl::run(&args, &cx, out).await,
        Command::Ip(raw) => ip::run(&raw.words, &cx, out).await,
        Command::Tc(raw) => tc::run(&raw.words, &cx, out).await,
        Command::Nstat(args) => nstat::run(&args, &cx, out).await,
        Command::Capture(args) => capture::run(&args, &cx, out).await,
        Command::Clients(args) => clients::run(&args, &cx, out).await,
        Command::Kill(args) => kill::run(&args, &cx, out).await,
        Command::Record(args) => record::run(&args, &cx, out).await,
        Command::Doctor => doctor::run(&cx, out).await,
        Command::Completions { shell } => {
            // The generator panics on a closed pipe (`netctl completions bash | head`): it writes to memory, we to the pipe.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "netctl", &mut script);
            Ok(out.write_all(&script)?)
        }
        Command::Man => Ok(out.write_all(&man::page()?)?),
    }
}
