//! The control plane: `stackd.v1` over a Unix socket.
//!
//! Tasks here never touch a shard's data: they send [`backend::Command`]s and await replies. Who may do what is decided in one
//! place, [`access`], before a service sees the call.

pub mod access;
pub mod backend;
mod capture;
mod deadline;
mod diag;
mod links;
mod merge;
mod net;
mod observe;
mod record;
mod socket;
mod sysctl;

#[cfg(test)]
mod tests;

use std::{os::unix::net::UnixListener, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use stackd_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{
        capture_service_server::CaptureServiceServer, client_service_server::ClientServiceServer,
        counter_service_server::CounterServiceServer, daemon_service_server::DaemonServiceServer,
        diag_service_server::DiagServiceServer, net_service_server::NetServiceServer,
        qdisc_service_server::QdiscServiceServer, record_service_server::RecordServiceServer,
        socket_service_server::SocketServiceServer, sysctl_service_server::SysctlServiceServer,
    },
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::clock::Monotonic;
use stackd_base::Clock as _;

use self::{access::AccessLayer, backend::Backend, deadline::DeadlineLayer};

/// The moment from which answers count their nanoseconds (`at_ns`) and `netctl doctor` the uptime.
#[derive(Clone, Copy, Debug)]
pub struct Started(stackd_base::Instant);

impl Default for Started {
    fn default() -> Self {
        Self(Monotonic.now())
    }
}

impl Started {
    /// Time since then.
    pub fn age(self) -> Duration {
        Duration::from_nanos(Monotonic.now().saturating_since(self.0).as_nanos())
    }

    /// Nanoseconds since then.
    pub fn age_ns(self) -> u64 {
        u64::try_from(self.age().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What the daemon tells about itself; fixed at start.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Version of the daemon.
    pub version: String,
    /// Where this control socket is.
    pub control_path: PathBuf,
    /// Where clients attach.
    pub attach_path: PathBuf,
    /// The configuration file; empty: the embedded default.
    pub config_path: PathBuf,
    /// `stackd.clock_hz` at start.
    pub clock_hz: u32,
    /// When the daemon started.
    pub started: Started,
    /// Random; changes with each start.
    pub boot_id: u64,
    /// The interfaces besides `lo`.
    pub devices: Vec<crate::config::DeviceConfig>,
}

/// Limits of the control plane.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls in progress on one connection; more wait.
    pub calls_per_connection: usize,
    /// Time for one control call. Socket calls, which may wait by design, and streams are exempt.
    pub call_timeout: Duration,
    /// Time that calls and streams in progress get to end once the daemon stops. They end by themselves when the shards do.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { calls_per_connection: 1024, call_timeout: Duration::from_secs(10), stop_timeout: Duration::from_secs(5) }
    }
}

/// Serves every service on `listener` until `shutdown` completes; then nobody new is let in, and calls and streams in progress get the time
/// to end that `limits` gives them. Who looks at the shards sees their last events so: a stream ends when the shards let go of it.
pub async fn serve(
    listener: UnixListener,
    backend: Backend,
    facts: Facts,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    listener.set_nonblocking(true).context("control socket: cannot make it non-blocking")?;
    let listener = tokio::net::UnixListener::from_std(listener).context("control socket: cannot register it")?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<SysctlServiceServer<sysctl::Service>>().await;
    health.set_serving::<NetServiceServer<net::Service>>().await;
    health.set_serving::<QdiscServiceServer<net::Service>>().await;
    health.set_serving::<DiagServiceServer<diag::Service>>().await;
    health.set_serving::<CounterServiceServer<observe::Service>>().await;
    health.set_serving::<ClientServiceServer<observe::Service>>().await;
    health.set_serving::<DaemonServiceServer<observe::Service>>().await;
    health.set_serving::<CaptureServiceServer<capture::Service>>().await;
    health.set_serving::<RecordServiceServer<record::Service>>().await;
    health.set_serving::<SocketServiceServer<socket::Service>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("reflection: the descriptor set does not load")?;
    let links = Arc::new(links::Links::new(backend.clone(), &facts));
    let facts = Arc::new(facts);
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let server = Server::builder()
        .concurrency_limit_per_connection(limits.calls_per_connection)
        .layer(AccessLayer::for_this_process())
        .layer(DeadlineLayer::new(limits.call_timeout))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(SysctlServiceServer::new(sysctl::Service::new(backend.clone())))
        .add_service(NetServiceServer::new(net::Service::new(backend.clone(), Arc::clone(&links))))
        .add_service(QdiscServiceServer::new(net::Service::new(backend.clone(), links)))
        .add_service(DiagServiceServer::new(diag::Service::new(backend.clone(), facts.started)))
        .add_service(CounterServiceServer::new(observe::Service::new(backend.clone(), Arc::clone(&facts))))
        .add_service(ClientServiceServer::new(observe::Service::new(backend.clone(), Arc::clone(&facts))))
        .add_service(DaemonServiceServer::new(observe::Service::new(backend.clone(), facts)))
        .add_service(CaptureServiceServer::new(capture::Service::new(backend.clone())))
        .add_service(RecordServiceServer::new(record::Service::new(backend.clone())))
        .add_service(SocketServiceServer::new(socket::Service::new(backend)))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
            shutdown.await;
            let _ = stop.send(true);
        });
    let mut stopping = stopping;
    tokio::select! {
        done = server => done.context("control server")?,
        () = async {
            if stopping.wait_for(|stop| *stop).await.is_ok() {
                tokio::time::sleep(limits.stop_timeout).await;
                tracing::warn!("time is up; streams to tools and clients are cut");
            } else {
                std::future::pending::<()>().await;
            }
        } => {}
    }
    Ok(())
}
