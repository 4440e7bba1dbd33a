//! `kill`: abort the sockets that an ss filter selects.

use std::io::Write;

use ss_rs::{
    cli::ephemeral_ports,
    filter::Filter,
    render::{self, Options},
    services::Services,
    state,
};
use stackd_proto::v1::{DiagFilter, DiagKillRequest, DiagListRequest, diag_service_client::DiagServiceClient};

use crate::cli::{Context, Failure};

/// Abort connections: the peer gets a RST, the owner ECONNABORTED.
#[derive(Clone, Debug, clap::Args)]
#[allow(missing_docs)]
pub struct Args {
    /// Show what would be aborted
    #[arg(long)]
    pub dry_run: bool,
    /// A filter in ss's language, for example: dport = :80
    #[arg(required = true)]
    pub filter: Vec<String>,
}

/// Runs the command.
pub async fn run(args: &Args, cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let failed = |status: tonic::Status| Failure::daemon("kill", &status, 1);
    let filter = Filter::parse(&args.filter, &Services::system()).map_err(|e| Failure::usage(format!("kill: {e}")))?;
    let channel = cx.connect().await?;
    let ephemeral = ephemeral_ports(channel.clone()).await;
    let mut client = DiagServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let states = filter.states.unwrap_or(state::DEFAULT);
    let request = DiagListRequest { filter: Some(DiagFilter { states, ..Default::default() }) };
    let mut stream = client.list(request).await.map_err(failed)?.into_inner();
    let mut sockets = Vec::new();
    while let Some(chunk) = stream.message().await.map_err(failed)? {
        sockets.extend(chunk.sockets.into_iter().filter(|s| filter.matches(s, ephemeral)));
    }
    if !args.dry_run {
        let cookies = sockets.iter().map(|s| s.cookie).collect();
        let killed = client.kill(DiagKillRequest { cookies }).await.map_err(failed)?.into_inner().killed;
        sockets.retain(|s| killed.contains(&s.cookie));
    }
    if cx.json {
        let all: Vec<_> = sockets.iter().map(ss_rs::json::socket).collect();
        writeln!(out, "{}", serde_json::Value::from(all))?;
    } else {
        let options = Options { numeric: true, netid: true, state: true, processes: true, ..Options::default() };
        out.write_all(render::table(&sockets, &options).as_bytes())?;
    }
    Ok(())
}
