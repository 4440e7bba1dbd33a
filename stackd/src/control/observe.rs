//! CounterService, ClientService and DaemonService: what goes on, who is here, how we are.

use std::sync::Arc;

use stackd_proto::{
    StatusError,
    v1::{
        self, Errno, client_service_server::ClientService, counter_service_server::CounterService,
        daemon_service_server::DaemonService,
    },
};
use tonic::{Request, Response, Status};

use super::{
    Facts,
    backend::{Backend, Command, Reply},
    merge,
};

#[derive(Debug)]
pub(super) struct Service {
    backend: Backend,
    facts: Arc<Facts>,
}

impl Service {
    pub(super) fn new(backend: Backend, facts: Arc<Facts>) -> Self {
        Self { backend, facts }
    }

    /// Asks shard after shard until one knows the session.
    async fn find_session<T>(&self, id: u64, make: impl Fn(Reply<T>) -> Command) -> Result<T, StatusError> {
        for shard in 0..self.backend.shards() {
            match self.backend.shard(shard).ask(&make).await {
                Err(error) if error.errno() == Errno::Enoent => {}
                done => return done,
            }
        }
        Err(StatusError::new(Errno::Enoent, "no such session")
            .argument("session", id)
            .remedy("an id that `netctl clients` shows"))
    }
}

#[tonic::async_trait]
impl CounterService for Service {
    async fn list(
        &self,
        request: Request<v1::CounterListRequest>,
    ) -> Result<Response<v1::CounterListResponse>, Status> {
        let mut request = request.into_inner();
        if !request.mib && !request.drops {
            request.mib = true;
        }
        let answers = self.backend.ask_all(|reply| Command::CounterList(request, reply)).await?;
        let mut sum = merge::counters(answers, request.per_shard);
        sum.boot_id = self.facts.boot_id;
        Ok(Response::new(sum))
    }
}

#[tonic::async_trait]
impl ClientService for Service {
    async fn list(&self, request: Request<v1::ClientListRequest>) -> Result<Response<v1::ClientListResponse>, Status> {
        let request = request.into_inner();
        let answers = self.backend.ask_all(|reply| Command::ClientList(request, reply)).await?;
        let mut all = v1::ClientListResponse::default();
        for v1::ClientListResponse { sessions, breaches } in answers {
            all.sessions.extend(sessions);
            all.breaches.extend(breaches);
        }
        all.sessions.sort_by_key(|s| s.id);
        all.breaches.sort_by_key(|b| b.age_ms);
        Ok(Response::new(all))
    }

    async fn set_quota(&self, request: Request<v1::SetQuotaRequest>) -> Result<Response<v1::SetQuotaResponse>, Status> {
        let request = request.into_inner();
        if request.max_sockets.is_none() && request.max_memory_bytes.is_none() {
            return Err(StatusError::invalid("quota", "", "nothing to change")
                .remedy("max_sockets or max_memory_bytes")
                .into());
        }
        Ok(Response::new(self.find_session(request.session_id, |reply| Command::ClientSetQuota(request, reply)).await?))
    }

    async fn disconnect(
        &self,
        request: Request<v1::DisconnectRequest>,
    ) -> Result<Response<v1::DisconnectResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(
            self.find_session(request.session_id, |reply| Command::ClientDisconnect(request, reply)).await?,
        ))
    }
}

#[tonic::async_trait]
impl DaemonService for Service {
    async fn info(&self, _: Request<v1::InfoRequest>) -> Result<Response<v1::InfoResponse>, Status> {
        let mut shards = self.backend.ask_all(Command::ShardInfo).await?;
        for (id, shard) in (0u32..).zip(&mut shards) {
            shard.id = id;
        }
        let Facts { version, control_path, attach_path, config_path, clock_hz, boot_id, started, devices: _ } =
            &*self.facts;
        Ok(Response::new(v1::InfoResponse {
            version: version.clone(),
            pid: std::process::id(),
            uid: rustix::process::geteuid().as_raw(),
            uptime_ms: u64::try_from(started.age().as_millis()).unwrap_or(u64::MAX),
            boot_id: *boot_id,
            shards,
            control_path: control_path.display().to_string(),
            attach_path: attach_path.display().to_string(),
            config_path: config_path.display().to_string(),
            clock_hz: *clock_hz,
            resident_bytes: resident_bytes(),
        }))
    }

    async fn doctor(&self, _: Request<v1::DoctorRequest>) -> Result<Response<v1::DoctorResponse>, Status> {
        let mut findings = own_findings();
        findings.extend(self.backend.ask_all(Command::Doctor).await?.into_iter().flatten());
        // Shards that share a device say the same thing.
        let mut seen = Vec::new();
        findings.retain(|f| {
            let new = !seen.contains(f);
            if new {
                seen.push(f.clone());
            }
            new
        });
        Ok(Response::new(v1::DoctorResponse { findings }))
    }
}

/// Resident set from /proc/self/statm; 0 when it cannot be read.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

fn own_findings() -> Vec<v1::Finding> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let few = limit.is_some_and(|n| n < 4096);
    let shown = limit.map_or("unlimited".to_owned(), |n| n.to_string());
    vec![v1::Finding {
        severity: if few { v1::Severity::Warning } else { v1::Severity::Ok } as i32,
        subject: "limit nofile".into(),
        finding: format!("the daemon may open {shown} descriptors"),
        remedy: if few {
            "LimitNOFILE=65536 in the unit, or `ulimit -n 65536` before starting".into()
        } else {
            String::new()
        },
    }]
}
