//! Flags, and what to ask the daemon for.

use std::{io, path::PathBuf};

use clap::Parser;
use stackd_proto::{
    StatusError, connect, control_path,
    v1::{
        self, AddressFamily, DiagFilter, DiagKillRequest, DiagListRequest, DiagSummaryRequest, DiagWatchRequest,
        SocketDiag, Transport, diag_service_client::DiagServiceClient, sysctl_service_client::SysctlServiceClient,
    },
};
use tonic::{Status, transport::Channel};

use crate::{
    filter::{Filter, FilterError},
    json,
    render::{self, Options},
    services::Services,
    state, summary,
};

/// Dump the sockets of a live stackd, as iproute2's ss does for the kernel.
#[derive(Clone, Debug, Parser)]
#[command(name = "ss-rs", version, disable_help_flag = true, after_help = FILTER_HELP)]
#[allow(missing_docs)]
pub struct Args {
    /// Show this text
    #[arg(short = 'h', long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// Do not resolve service names; show exact rates
    #[arg(short = 'n', long)]
    pub numeric: bool,
    /// Show listening and non-listening sockets
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Show only listening sockets
    #[arg(short = 'l', long)]
    pub listening: bool,
    /// Show timers and negotiated options
    #[arg(short = 'o', long)]
    pub options: bool,
    /// Show uid, inode, cookie, shutdown
    #[arg(short = 'e', long)]
    pub extended: bool,
    /// Show socket options
    #[arg(long)]
    pub inet_sockopt: bool,
    /// Show socket memory
    #[arg(short = 'm', long)]
    pub memory: bool,
    /// Show processes
    #[arg(short = 'p', long)]
    pub processes: bool,
    /// Show TCP and congestion control state
    #[arg(short = 'i', long)]
    pub info: bool,
    /// Show the summary only
    #[arg(short = 's', long)]
    pub summary: bool,
    /// Abort the sockets that the filter selects, and show them
    #[arg(short = 'K', long)]
    pub kill: bool,
    /// Show sockets as they close, until interrupted
    #[arg(short = 'E', long)]
    pub events: bool,
    /// One line a socket
    #[arg(short = 'O', long)]
    pub oneline: bool,
    /// No header
    #[arg(short = 'H', long)]
    pub no_header: bool,
    /// IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// TCP sockets
    #[arg(short = 't', long)]
    pub tcp: bool,
    /// UDP sockets
    #[arg(short = 'u', long)]
    pub udp: bool,
    /// JSON instead of text
    #[arg(short = 'j', long)]
    pub json: bool,
    /// Control socket of the daemon
    #[arg(long, env = "STACKD_CONTROL", value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// State filter, then an expression (see below)
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
}

const FILTER_HELP: &str = "\
FILTER := [ state STATE | exclude STATE ]... [ EXPRESSION ]
STATE  := all | connected | synchronized | bucket | big | established | syn-sent | syn-recv | fin-wait-1 |
          fin-wait-2 | time-wait | closed | close-wait | last-ack | listening | closing
EXPRESSION, for example: '( dport = :80 or sport = :443 ) and dst 10.0.0.0/8'
          dst|src ADDR[/LEN][:PORT]   dport|sport =|!=|<|>|<=|>= :PORT   dev NAME   fwmark MARK[/MASK]
          autobound   not   and   or   ( )";

/// Why nothing came out.
#[derive(Debug)]
pub enum Failure {
    /// The filter makes no sense.
    Filter(FilterError),
    /// The flags make no sense.
    Usage(String),
    /// The daemon is missing or refused.
    Daemon(String),
    /// Whoever read our output is gone (`ss | head`).
    Pipe,
}

impl Failure {
    /// What iproute2's ss exits with: 255 where it cannot make sense of the line (a state it does not know, an expression that
    /// does not parse), 1 where a port or an address is wrong or the kernel refuses.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Filter(error) if !error.operand => 255,
            Self::Filter(_) | Self::Usage(_) | Self::Daemon(_) => 1,
            Self::Pipe => 0,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Filter(error) => error.fmt(f),
            Self::Usage(text) | Self::Daemon(text) => f.write_str(text),
            Self::Pipe => f.write_str("the reader of our output is gone"),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Daemon(StatusError::from(status).to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Pipe,
            _ => Self::Daemon(error.to_string()),
        }
    }
}

/// Runs the command, writing to `out`.
pub async fn run(args: &Args, out: &mut impl io::Write) -> Result<(), Failure> {
    let services = Services::system();
    let filter = Filter::parse(&args.filter, &services).map_err(Failure::Filter)?;
    if args.kill && filter.expr.is_none() && filter.states.is_none() {
        return Err(Failure::Usage(
            "-K without a filter would abort every connection; want a filter (`state all` means it)".into(),
        ));
    }
    let path = control_path(args.control.clone());
    let channel = connect(&path).await.map_err(|error| Failure::Daemon(error.to_string()))?;
    // Thousands of sockets with all their fields come in chunks; one chunk is far below this.
    let mut diag = DiagServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20);
    if args.summary {
        let summary = diag.summary(DiagSummaryRequest {}).await?.into_inner();
        return write_summary(args, &summary, out);
    }
    let states = states(args, &filter);
    let request = daemon_filter(args, states);
    let options = display(args, states, services);
    let ephemeral = if args.filter.is_empty() { DEFAULT_EPHEMERAL } else { ephemeral_ports(channel).await };
    if args.events {
        return events(&mut diag, request, args, &options, |socket| filter.matches(socket, ephemeral), out).await;
    }
    let mut sockets = list(&mut diag, request).await?;
    sockets.retain(|socket| state::contains(states, socket.state) && filter.matches(socket, ephemeral));
    if args.kill {
        let cookies = sockets.iter().map(|socket| socket.cookie).collect();
        let killed = diag.kill(DiagKillRequest { cookies }).await?.into_inner().killed;
        sockets.retain(|socket| killed.contains(&socket.cookie));
    }
    write_sockets(args, &sockets, &options, out)
}

async fn list(diag: &mut DiagServiceClient<Channel>, filter: DiagFilter) -> Result<Vec<SocketDiag>, Failure> {
    let mut stream = diag.list(DiagListRequest { filter: Some(filter) }).await?.into_inner();
    let mut sockets = Vec::new();
    while let Some(chunk) = stream.message().await? {
        sockets.extend(chunk.sockets);
    }
    Ok(sockets)
}

async fn events(
    diag: &mut DiagServiceClient<Channel>,
    filter: DiagFilter,
    args: &Args,
    options: &Options,
    wanted: impl Fn(&SocketDiag) -> bool,
    out: &mut impl io::Write,
) -> Result<(), Failure> {
    let request = DiagWatchRequest { filter: Some(filter), interval_ms: 0, closed: true, snapshots: false };
    let mut stream = diag.watch(request).await?.into_inner();
    let mut options = options.clone();
    while let Some(answer) = stream.message().await? {
        let sockets: Vec<_> = answer.closed.into_iter().filter(|socket| wanted(socket)).collect();
        if !sockets.is_empty() {
            write_sockets(args, &sockets, &options, out)?;
            out.flush()?;
            options.no_header = true;
        }
    }
    Ok(())
}

/// The states to show: the filter's, else what -a, -l or neither mean.
fn states(args: &Args, filter: &Filter) -> state::StateSet {
    match filter.states {
        Some(states) => states,
        None if args.all || args.events => state::ALL,
        None if args.listening => state::LISTEN_OR_CLOSED,
        None => state::DEFAULT,
    }
}

fn daemon_filter(args: &Args, states: state::StateSet) -> DiagFilter {
    let mut transports = Vec::new();
    if args.tcp {
        transports.push(Transport::Tcp as i32);
    }
    if args.udp {
        transports.push(Transport::Udp as i32);
    }
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => AddressFamily::Inet,
        (_, true) => AddressFamily::Inet6,
        _ => AddressFamily::Unspecified,
    };
    DiagFilter {
        transports,
        family: family as i32,
        states,
        with_info: args.info || args.memory || args.json,
        session_id: 0,
    }
}

fn display(args: &Args, states: state::StateSet, services: Services) -> Options {
    Options {
        numeric: args.numeric,
        info: args.info,
        memory: args.memory,
        options: args.options,
        extended: args.extended,
        sockopt: args.inet_sockopt,
        processes: args.processes,
        one_line: args.oneline,
        no_header: args.no_header,
        netid: args.tcp == args.udp,
        state: states.count_ones() > 1,
        services,
    }
}

const DEFAULT_EPHEMERAL: (u16, u16) = (32768, 60999);

/// The daemon's `net.ipv4.ip_local_port_range`, for `autobound`; Linux's default when it cannot be asked.
pub async fn ephemeral_ports(channel: Channel) -> (u16, u16) {
    let names = vec!["net.ipv4.ip_local_port_range".to_owned()];
    let asked = SysctlServiceClient::new(channel).get(v1::SysctlGetRequest { names, describe: false }).await;
    let range = asked.ok().and_then(|answer| {
        let entry = answer.into_inner().entries.into_iter().next()?;
        let (low, high) = entry.value.split_once(char::is_whitespace)?;
        Some((low.trim().parse().ok()?, high.trim().parse().ok()?))
    });
    range.unwrap_or(DEFAULT_EPHEMERAL)
}

fn write_sockets(
    args: &Args,
    sockets: &[SocketDiag],
    options: &Options,
    out: &mut impl io::Write,
) -> Result<(), Failure> {
    if args.json {
        let all: Vec<_> = sockets.iter().map(json::socket).collect();
        writeln!(out, "{}", serde_json::Value::from(all))?;
    } else {
        out.write_all(render::table(sockets, options).as_bytes())?;
    }
    Ok(())
}

fn write_summary(args: &Args, s: &v1::DiagSummaryResponse, out: &mut impl io::Write) -> Result<(), Failure> {
    if args.json {
        let value = serde_json::json!({
            "total": s.total,
            "tcp": {
                "total": s.tcp_total, "estab": s.tcp_established, "closed": s.tcp_closed, "orphaned": s.tcp_orphaned,
                "timewait": s.tcp_time_wait, "ipv4": s.tcp_ipv4, "ipv6": s.tcp_ipv6, "memory_bytes": s.tcp_memory_bytes,
            },
            "udp": { "ipv4": s.udp_ipv4, "ipv6": s.udp_ipv6 },
        });
        writeln!(out, "{value}")?;
    } else {
        out.write_all(summary::text(s).as_bytes())?;
    }
    Ok(())
}
