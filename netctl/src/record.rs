//! `record`: a connection's life into a file, for `stackd-sim replay`.

use std::{fs::File, io::Write, net::IpAddr, path::PathBuf};

use serde_json::json;
use ss_rs::{
    cli::ephemeral_ports,
    filter::{Expr, Filter, Host, Op, Side},
    services::Services,
    state,
};
use stackd_proto::v1::{
    DiagFilter, DiagListRequest, FlowEnd, FlowFilter, FlowMark, FlowPair, RecordNew, RecordRequest, RecordStart,
    RecordStop, SocketDiag, Transport, diag_service_client::DiagServiceClient, flow_filter, record_request,
    record_service_client::RecordServiceClient,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use crate::cli::{Context, Failure};

/// Record what happens to connections, for `stackd-sim replay`.
///
/// SOCKET is a live connection as `ss-rs` shows it: its two addresses, `ino:` or `sk:` (ss-rs -e); or a filter in ss's language. With --new, connections that
/// begin from now on and pass the filter, from their first segment.
///
/// Payload is not recorded. Ends with the connections, or when interrupted.
#[derive(Clone, Debug, clap::Args)]
#[allow(missing_docs)]
pub struct Args {
    /// File to write
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: PathBuf,
    /// Wait for connections that begin from now on
    #[arg(long)]
    pub new: bool,
    /// How many of those
    #[arg(short = 'c', long, default_value_t = 1, requires = "new", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// A checksum of the whole state after every call (costs much)
    #[arg(long)]
    pub full: bool,
    /// Memory for each connection until it is written, bytes
    #[arg(long, default_value_t = 8 << 20, value_parser = clap::value_parser!(u32).range(131_072..))]
    pub buffer: u32,
    /// For example: 10.0.0.2:80 10.0.0.1:5000; ino:7; dport = :80
    #[arg(required_unless_present = "new", value_name = "SOCKET")]
    pub socket: Vec<String>,
}

/// What the words select.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Choice {
    Inode(u64),
    Cookie(u64),
    Filter(Filter),
}

/// Runs the command.
pub async fn run(args: &Args, cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let failed = |status: tonic::Status| Failure::daemon("record", &status, 1);
    let choice = choose(&args.socket)?;
    let mut start =
        RecordStart { digest_every: u32::from(args.full), buffer_bytes: args.buffer, ..RecordStart::default() };
    if args.new {
        start.new = Some(RecordNew { filter: new_filter(&choice)?, count: args.count });
    }
    let channel = cx.connect().await?;
    if !args.new {
        let ephemeral = ephemeral_ports(channel.clone()).await;
        let sockets = connections(channel.clone()).await.map_err(failed)?;
        start.cookies = sockets.iter().filter(|s| choice.matches(s, ephemeral)).map(|s| s.cookie).collect();
        if start.cookies.is_empty() {
            return Err(Failure::usage(
                "record: no live connection matches; `ss-rs -t` shows them, --new waits for one that begins",
            ));
        }
    }
    let mut file = File::create(&args.output)
        .map_err(|e| Failure::usage(format!("record: cannot write {}: {e}", args.output.display())))?;
    let (say, requests) = tokio::sync::mpsc::channel(2);
    let request = |what| RecordRequest { what: Some(what) };
    let _ = say.send(request(record_request::What::Start(start))).await;
    let mut client = RecordServiceClient::new(channel).max_decoding_message_size(256 << 20);
    let mut stream = client.record(ReceiverStream::new(requests)).await.map_err(failed)?.into_inner();
    if args.new {
        eprintln!("waiting for {}", if args.count == 1 { "a connection" } else { "connections" });
    }
    let (mut flows, mut bytes, mut interrupted) = (Vec::new(), 0usize, false);
    loop {
        let chunk = tokio::select! {
            chunk = stream.next() => chunk,
            _ = tokio::signal::ctrl_c(), if !interrupted => {
                interrupted = true;
                let _ = say.send(request(record_request::What::Stop(RecordStop {}))).await;
                continue;
            }
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(failed)?;
        file.write_all(&chunk.file)?;
        bytes += chunk.file.len();
        for flow in &chunk.began {
            flows.push(json!({
                "flow": flow.flow, "local": flow.local, "remote": flow.remote, "from_birth": flow.from_birth,
            }));
            let how = if flow.from_birth { "from its birth" } else { "as it is now" };
            eprintln!("{}: {} {} is recorded, {how}", flow.flow, flow.local, flow.remote);
        }
        for end in &chunk.ended {
            eprintln!("{}: {} calls; {}", end.flow, end.calls, end.reason);
            if let Some(flow) = flows.iter_mut().find(|f| f["flow"] == end.flow) {
                flow["calls"] = end.calls.into();
                flow["ended"] = end.reason.as_str().into();
                flow["too_slow"] = end.too_slow.into();
            }
        }
    }
    file.flush()?;
    eprintln!("{} connections, {bytes} bytes written to {}", flows.len(), args.output.display());
    if cx.json {
        writeln!(
            out,
            "{}",
            json!({ "file": args.output.display().to_string(), "bytes": bytes, "connections": flows })
        )?;
    }
    Ok(())
}

/// Live connections: everything that has two ends.
async fn connections(channel: tonic::transport::Channel) -> Result<Vec<SocketDiag>, tonic::Status> {
    let mut client = DiagServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let filter = DiagFilter { transports: vec![Transport::Tcp as i32], states: state::ALL, ..DiagFilter::default() };
    let mut stream = client.list(DiagListRequest { filter: Some(filter) }).await?.into_inner();
    let mut out = Vec::new();
    while let Some(chunk) = stream.message().await? {
        out.extend(chunk.sockets.into_iter().filter(|s| s.remote.as_ref().is_some_and(|r| r.port != 0)));
    }
    Ok(out)
}

impl Choice {
    fn matches(&self, socket: &SocketDiag, ephemeral: (u16, u16)) -> bool {
        match self {
            Self::Inode(inode) => socket.inode == *inode,
            Self::Cookie(cookie) => socket.cookie == *cookie,
            Self::Filter(filter) => filter.matches(socket, ephemeral),
        }
    }
}

fn choose(words: &[String]) -> Result<Choice, Failure> {
    let wrong = |word: &str, want: &str| Failure::usage(format!("record: \"{word}\": {want}"));
    if let [word] = words {
        if let Some(n) = word.strip_prefix("ino:") {
            return n
                .parse()
                .map(Choice::Inode)
                .map_err(|_| wrong(word, "want a decimal number as ss-rs -e prints it"));
        }
        if let Some(n) = word.strip_prefix("sk:") {
            let cookie = u64::from_str_radix(n, 16);
            return cookie
                .map(Choice::Cookie)
                .map_err(|_| wrong(word, "want a hexadecimal number as ss-rs -e prints it"));
        }
    }
    let parse = |words: &[String]| {
        Filter::parse(words, &Services::system()).map_err(|e| Failure::usage(format!("record: {e}")))
    };
    // As in ss's two columns: our address, the peer's.
    if let [local, remote] = words
        && [local, remote].into_iter().all(|w| w.rsplit_once(':').is_some_and(|(_, port)| is_port(port)))
    {
        let filter = ["src", local, "dst", remote].map(str::to_owned);
        return parse(&filter).map(Choice::Filter);
    }
    parse(words).map(Choice::Filter)
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

/// The filter for connections that do not exist yet, on the daemon's terms.
fn new_filter(choice: &Choice) -> Result<Option<FlowFilter>, Failure> {
    match choice {
        Choice::Filter(Filter { states: Some(_), .. }) => {
            Err(Failure::usage("record: --new: a connection that begins has no state to be chosen by"))
        }
        Choice::Filter(Filter { states: None, expr }) => expr.as_ref().map(lower).transpose(),
        Choice::Inode(_) | Choice::Cookie(_) => {
            Err(Failure::usage("record: --new: a connection that does not exist yet has no number; want a filter"))
        }
    }
}

fn lower(expr: &Expr) -> Result<FlowFilter, Failure> {
    use flow_filter::Test;
    let pair = |a: &Expr, b: &Expr| -> Result<Box<FlowPair>, Failure> {
        Ok(Box::new(FlowPair { a: Some(Box::new(lower(a)?)), b: Some(Box::new(lower(b)?)) }))
    };
    let test = match expr {
        Expr::And(a, b) => Test::And(pair(a, b)?),
        Expr::Or(a, b) => Test::Or(pair(a, b)?),
        Expr::Not(a) => Test::Not(Box::new(lower(a)?)),
        Expr::Host { side, host } => side_test(*side, host_end(host)),
        Expr::Port { side, op, port } => return Ok(ports(*side, *op, *port)),
        Expr::Device(name) => Test::Device(name.clone()),
        Expr::Mark { value, mask } => Test::Mark(FlowMark { value: *value, mask: *mask }),
        Expr::AutoBound => {
            return Err(Failure::usage("record: --new: autobound is not known before a connection begins"));
        }
    };
    Ok(FlowFilter { test: Some(test) })
}

fn side_test(side: Side, end: FlowEnd) -> flow_filter::Test {
    match side {
        Side::Source => flow_filter::Test::Local(end),
        Side::Destination => flow_filter::Test::Remote(end),
    }
}

fn host_end(host: &Host) -> FlowEnd {
    let Host { prefix, port } = host;
    let mut end = FlowEnd::default();
    if let Some((ip, len)) = prefix {
        end.address = match ip {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        end.prefix_len = u32::from(*len);
    }
    if let Some(port) = port {
        (end.first_port, end.last_port) = (u32::from(*port), u32::from(*port));
    }
    end
}

/// A comparison as a range, or as what lies outside one.
fn ports(side: Side, op: Op, port: u16) -> FlowFilter {
    let port = u32::from(port);
    let range = |first_port: u32, last_port: u32| FlowFilter {
        test: Some(side_test(side, FlowEnd { first_port, last_port, ..FlowEnd::default() })),
    };
    let not = |f: FlowFilter| FlowFilter { test: Some(flow_filter::Test::Not(Box::new(f))) };
    match op {
        Op::Eq => range(port, port),
        Op::Ne => not(range(port, port)),
        Op::Ge => range(port, 65_535),
        Op::Lt => not(range(port, 65_535)),
        Op::Gt => not(at_most(port, range)),
        Op::Le => at_most(port, range),
    }
}

/// No connection has port 0, and 0 as the last port would mean all.
fn at_most(port: u32, range: impl Fn(u32, u32) -> FlowFilter) -> FlowFilter {
    if port == 0 {
        FlowFilter { test: Some(flow_filter::Test::Not(Box::new(range(0, 65_535)))) }
    } else {
        range(0, port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn lowered(text: &str) -> FlowFilter {
        new_filter(&choose(&words(text)).expect("a choice")).expect("known before birth").expect("a filter")
    }

    #[test]
    fn a_socket_is_named_in_the_ways_that_ss_shows_it() {
        assert_eq!(choose(&words("ino:17")), Ok(Choice::Inode(17)));
        assert_eq!(choose(&words("sk:ff")), Ok(Choice::Cookie(255)));
        let pair = choose(&words("10.0.0.1:80 10.0.0.2:5000")).expect("two addresses");
        assert_eq!(pair, choose(&words("src 10.0.0.1:80 dst 10.0.0.2:5000")).expect("a filter"));
        let pair6 = choose(&words("[fd80::1]:80 [fd80::2]:5000")).expect("two addresses");
        assert_eq!(pair6, choose(&words("src [fd80::1]:80 dst [fd80::2]:5000")).expect("a filter"));
        for wrong in ["ino:x", "sk:xyz", "dport =", "10.0.0.1:80 nonsense"] {
            let error = choose(&words(wrong)).expect_err(wrong);
            assert!(error.text.starts_with("record: "), "{error:?}");
        }
    }

    #[test]
    fn comparisons_of_ports_become_ranges() {
        use flow_filter::Test;
        let end = |first_port, last_port| FlowEnd { first_port, last_port, ..FlowEnd::default() };
        let plain = |test| FlowFilter { test: Some(test) };
        let not = |test| plain(Test::Not(Box::new(plain(test))));
        assert_eq!(lowered("dport = :80"), plain(Test::Remote(end(80, 80))));
        assert_eq!(lowered("sport != :80"), not(Test::Local(end(80, 80))));
        assert_eq!(lowered("sport <= :80"), plain(Test::Local(end(0, 80))));
        assert_eq!(lowered("sport > :80"), not(Test::Local(end(0, 80))));
        assert_eq!(lowered("sport >= :80"), plain(Test::Local(end(80, 65_535))));
        assert_eq!(lowered("sport < :80"), not(Test::Local(end(80, 65_535))));
        let net = FlowEnd { address: vec![10, 0, 0, 0], prefix_len: 8, ..FlowEnd::default() };
        assert_eq!(lowered("dst 10.0.0.0/8"), plain(Test::Remote(net)));
    }

    #[test]
    fn what_is_not_known_before_birth_is_refused() {
        for text in ["autobound", "state established", "ino:5"] {
            let choice = choose(&words(text)).expect("a choice");
            assert!(new_filter(&choice).expect_err(text).text.contains("--new"), "{text}");
        }
        assert_eq!(new_filter(&choose(&[]).expect("everything")), Ok(None));
    }
}
