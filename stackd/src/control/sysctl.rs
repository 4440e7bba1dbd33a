//! SysctlService: shard 0's registry speaks for all, writes reach every shard.

use stackd_proto::v1::{self, sysctl_service_server::SysctlService};
use tonic::{Request, Response, Status};

use super::backend::{Backend, Command};

#[derive(Debug)]
pub(super) struct Service {
    backend: Backend,
}

impl Service {
    pub(super) fn new(backend: Backend) -> Self {
        Self { backend }
    }
}

#[tonic::async_trait]
impl SysctlService for Service {
    async fn list(&self, request: Request<v1::SysctlListRequest>) -> Result<Response<v1::SysctlListResponse>, Status> {
        let request = request.into_inner();
        let mut answer = self.backend.ask(|reply| Command::SysctlList(request, reply)).await?;
        answer.entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Response::new(answer))
    }

    async fn get(&self, request: Request<v1::SysctlGetRequest>) -> Result<Response<v1::SysctlGetResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.backend.ask(|reply| Command::SysctlGet(request, reply)).await?))
    }

    async fn set(&self, request: Request<v1::SysctlSetRequest>) -> Result<Response<v1::SysctlSetResponse>, Status> {
        let caller = super::access::caller(&request)?;
        let request = request.into_inner();
        for v1::SysctlAssignment { name, value } in &request.assignments {
            tracing::info!(name, value, pid = caller.pid, uid = caller.uid, "sysctl set");
        }
        // What to go back to if a later shard refuses. An unknown key is shard 0's refusal to make, below.
        let names = request.assignments.iter().map(|a| a.name.clone()).collect();
        let before = v1::SysctlGetRequest { names, describe: false };
        let before = self.backend.ask(|reply| Command::SysctlGet(before, reply)).await.ok();
        let undo = before.map(|v1::SysctlGetResponse { entries }| {
            let assignments = entries.into_iter().map(|e| v1::SysctlAssignment { name: e.name, value: e.value });
            v1::SysctlSetRequest { assignments: assignments.collect() }
        });
        let answers = self
            .backend
            .change(
                |reply| Command::SysctlSet(request.clone(), reply),
                |reply| undo.clone().map(|undo| Command::SysctlSet(undo, reply)),
            )
            .await?;
        Ok(Response::new(answers.into_iter().next().unwrap_or_default()))
    }
}
