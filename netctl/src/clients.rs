//! `clients`: who uses the stack.

use std::io::Write;

use serde_json::json;
use stackd_proto::v1::{
    ClientListRequest, ClientListResponse, ClientTransport, DisconnectRequest, SetQuotaRequest,
    client_service_client::ClientServiceClient,
};

use crate::cli::{Context, Failure};

/// Show sessions, what they hold, and who broke the protocol.
#[derive(Clone, Debug, clap::Args)]
#[allow(missing_docs)]
pub struct Args {
    /// End this session as if its process had exited
    #[arg(long, value_name = "ID")]
    pub disconnect: Option<u64>,
    /// Change the quotas of this session
    #[arg(long, value_name = "ID")]
    pub quota: Option<u64>,
    /// Most sockets
    #[arg(long, requires = "quota")]
    pub sockets: Option<u32>,
    /// Most bytes of socket memory
    #[arg(long, requires = "quota", value_name = "BYTES")]
    pub memory: Option<u64>,
}

/// Runs the command.
pub async fn run(args: &Args, cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let failed = |status: tonic::Status| Failure::daemon("clients", &status, 1);
    let mut client = ClientServiceClient::new(cx.connect().await?);
    if let Some(session_id) = args.disconnect {
        client.disconnect(DisconnectRequest { session_id }).await.map_err(failed)?;
        return Ok(());
    }
    if let Some(session_id) = args.quota {
        let request = SetQuotaRequest { session_id, max_sockets: args.sockets, max_memory_bytes: args.memory };
        client.set_quota(request).await.map_err(failed)?;
        return Ok(());
    }
    let answer = client.list(ClientListRequest { breaches: true }).await.map_err(failed)?.into_inner();
    let text = if cx.json { format!("{}\n", as_json(&answer)) } else { text(&answer) };
    out.write_all(text.as_bytes())?;
    Ok(())
}

fn transport(transport: ClientTransport) -> &'static str {
    match transport {
        ClientTransport::Unspecified => "?",
        ClientTransport::SharedMemory => "shm",
        ClientTransport::Grpc => "grpc",
        ClientTransport::BytePipe => "pipe",
    }
}

/// Names are the clients' own words: nothing of them may move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn text(answer: &ClientListResponse) -> String {
    let mut out = format!(
        "{:>6} {:>8} {:>6} {:<16} {:<5} {:>13} {:>23} {:>10} {:>14} {:>14} {:>8}\n",
        "ID", "PID", "UID", "COMMAND", "VIA", "SOCKETS", "MEMORY", "CALLS", "SENT", "RECEIVED", "AGE"
    );
    for s in &answer.sessions {
        let p = s.process.clone().unwrap_or_default();
        out.push_str(&format!(
            "{:>6} {:>8} {:>6} {:<16} {:<5} {:>13} {:>23} {:>10} {:>14} {:>14} {:>7}s\n",
            s.id,
            p.pid,
            p.uid,
            printable(&p.comm),
            transport(s.transport()),
            format!("{}/{}", s.sockets, s.max_sockets),
            format!("{}/{}", s.memory_bytes, s.max_memory_bytes),
            s.calls,
            s.bytes_sent,
            s.bytes_received,
            s.age_ms / 1000
        ));
    }
    for b in &answer.breaches {
        let p = b.process.clone().unwrap_or_default();
        out.push_str(&format!(
            "ended session {} (pid {}, uid {}, {}) {} s ago: {}\n",
            b.session_id,
            p.pid,
            p.uid,
            printable(&p.comm),
            b.age_ms / 1000,
            printable(&b.reason)
        ));
    }
    out
}

fn as_json(answer: &ClientListResponse) -> serde_json::Value {
    let process = |p: &Option<stackd_proto::v1::Process>| {
        let p = p.clone().unwrap_or_default();
        json!({ "pid": p.pid, "uid": p.uid, "gid": p.gid, "comm": p.comm })
    };
    let sessions: Vec<_> = answer
        .sessions
        .iter()
        .map(|s| {
            json!({
                "id": s.id, "process": process(&s.process), "via": transport(s.transport()), "sockets": s.sockets,
                "max_sockets": s.max_sockets, "memory_bytes": s.memory_bytes, "max_memory_bytes": s.max_memory_bytes,
                "rings": s.rings, "calls": s.calls, "bytes_sent": s.bytes_sent, "bytes_received": s.bytes_received,
                "doorbells": s.doorbells, "age_ms": s.age_ms, "quota_refusals": s.quota_refusals,
            })
        })
        .collect();
    let breaches: Vec<_> = answer
        .breaches
        .iter()
        .map(|b| json!({ "id": b.session_id, "process": process(&b.process), "age_ms": b.age_ms, "reason": b.reason }))
        .collect();
    json!({ "sessions": sessions, "breaches": breaches })
}
