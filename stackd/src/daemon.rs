//! Start and stop: everything is opened before anybody is told that the daemon is ready, and stopped in the reverse order.

use crate::clock::os_random_u64;
use crate::config::{Args, Config, ConfigError};
use crate::control::backend::{Backend, Command};
use crate::control::{self, Facts, Limits};
use crate::instance::{Door, Instance};
use crate::session::attach::{self, Sessions};
use crate::shard::{self, Mailer, Message};
use crate::telemetry;
use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};
use sd_notify::NotifyState;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Finds what only the stack can judge: sysctls, qdiscs, routes. Opens nothing.
pub fn check(config: &Config, args: &Args) -> Result<(), ConfigError> {
    shard::rehearse(config, args)
}

/// Runs the daemon until SIGTERM or SIGINT.
pub fn run(config: &Config, args: &Args) -> Result<()> {
    telemetry::init_logs(&config.log)?;
    let mut instance = Instance::acquire(&config.control)?;
    let door = match config.group {
        Some(group) => Door::Group(group.0),
        // As the kernel's sockets are there for every user.
        None if rustix::process::geteuid().is_root() => Door::Open,
        None => Door::Private,
    };
    let attach_listener = instance.listen_seqpacket(&config.attach, door)?;
    let control_listener = instance.listen_stream(&config.control, door)?;

    let sessions = Sessions::new(config.quota.sessions);
    let shards = Shards::start(config, args, &sessions)?;
    let attach = attach::Server::start(attach_listener, shards.mailers.clone(), sessions, config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .context("the control plane's runtime cannot start")?;
    let (result, server) = runtime.block_on(serve(config, args, control_listener, &shards))?;

    telemetry::notify(&[NotifyState::Stopping]);
    tracing::info!("stopping: connections get {:?} to finish", config.stop_timeout.0);
    drop(attach);
    shards.stop(config);
    // The shards are gone, and with them every stream's source: what the streams still hold is told, unless nobody takes it.
    if let Some(server) = server
        && runtime.block_on(async { tokio::time::timeout(LAST_WORDS, server).await }).is_err()
    {
        tracing::warn!("a tool or client does not take the last words of its streams");
    }
    runtime.shutdown_timeout(Duration::from_millis(200));
    drop(instance);
    tracing::info!("stopped");
    result
}

/// Time for what streams still hold once the shards have ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The control server's task.
type Server = tokio::task::JoinHandle<Result<()>>;

/// Serves the control socket until a signal ends it. Then the server lets nobody in any more, and lives until its streams have ended.
async fn serve(
    config: &Config,
    args: &Args,
    listener: std::os::unix::net::UnixListener,
    shards: &Shards,
) -> Result<(Result<()>, Option<Server>)> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    // The shards' own limit is over first.
    let stop_timeout = Duration::from_nanos(config.stop_timeout.0.as_nanos()) + LAST_WORDS;
    let limits = Limits { stop_timeout, ..Limits::default() };
    let server = control::serve(listener, shards.backend.clone(), facts(config, args), limits, async move {
        let _ = stopped.await;
    });
    let mut server = tokio::spawn(server);
    let watchdog =
        sd_notify::watchdog_enabled().map(|limit| tokio::spawn(feed_watchdog(shards.backend.clone(), limit)));

    tracing::info!(
        control = %config.control.display(),
        attach = %config.attach.display(),
        workers = config.workers,
        devices = config.devices.len(),
        "ready"
    );
    let status = format!("{} worker(s), {} device(s)", config.workers, config.devices.len());
    telemetry::notify(&[NotifyState::Ready, NotifyState::Status(&status)]);

    let result = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        ended = &mut server => match ended {
            Ok(Ok(())) => Err(anyhow::anyhow!("the control server ended by itself")),
            Ok(Err(e)) => Err(e.context("the control server failed")),
            Err(e) => Err(anyhow::Error::from(e).context("the control server crashed")),
        },
    };
    if let Some(watchdog) = watchdog {
        watchdog.abort();
    }
    let _ = stop.send(());
    // A task that has ended must not be awaited again.
    let server = (!server.is_finished()).then_some(server);
    Ok((result, server))
}

/// What the daemon tells about itself.
fn facts(config: &Config, args: &Args) -> Facts {
    let clock_hz = config.sysctls.iter().rfind(|(name, _)| name == "stackd.clock_hz").and_then(|(_, v)| v.parse().ok());
    Facts {
        version: env!("CARGO_PKG_VERSION").into(),
        control_path: config.control.clone(),
        attach_path: config.attach.clone(),
        config_path: args.config.clone().unwrap_or_default(),
        clock_hz: clock_hz.unwrap_or(0),
        started: crate::control::Started::default(),
        boot_id: os_random_u64(),
        devices: config.devices.clone(),
    }
}

/// Tells the service manager that all is well as long as every shard answers.
async fn feed_watchdog(backend: Backend, limit: Duration) {
    let mut tick = tokio::time::interval(limit / 2);
    loop {
        tick.tick().await;
        if matches!(tokio::time::timeout(limit / 2, backend.ask_all(Command::ShardInfo)).await, Ok(Ok(_))) {
            telemetry::notify(&[NotifyState::Watchdog]);
        }
    }
}

/// Keeps this thread on one CPU.
fn stay_on(cpu: u16) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu.into());
    sched_setaffinity(None, &set)
}

/// The running shards.
struct Shards {
    threads: Vec<JoinHandle<()>>,
    mailers: Vec<Mailer>,
    backend: Backend,
}

impl Shards {
    fn start(config: &Config, args: &Args, sessions: &Arc<Sessions>) -> Result<Self> {
        let workers = usize::from(config.workers);
        let mut queues = shard::device::open_all(config, args)?;
        let (mut mailers, mut handles, mut boxes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..workers {
            let (mailer, handle, mailbox) = shard::mailbox()?;
            mailers.push(mailer);
            handles.push(handle);
            boxes.push(mailbox);
        }
        let seed = os_random_u64();
        let steering = Arc::new(shard::Steering::new(config.workers));
        let mut threads = Vec::new();
        for (index, mailbox) in boxes.into_iter().enumerate() {
            let devices = queues.remove(0);
            let shard = shard::Shard::new(
                index,
                config,
                args,
                devices,
                mailbox,
                mailers.clone(),
                &steering,
                sessions.clone(),
                seed,
            )?;
            let cpu = config.worker_cpus.get(index).copied();
            let (tell, told) = std::sync::mpsc::channel();
            let thread = std::thread::Builder::new()
                .name(format!("shard{index}"))
                .spawn(move || {
                    let bound = cpu.map_or(Ok(()), stay_on);
                    let stays = bound.is_ok();
                    // Nobody listens any more: the daemon gave up, and so does this worker.
                    if tell.send(bound).is_ok() && stays {
                        shard.run();
                    }
                })
                .context("a worker thread cannot start")?;
            threads.push(thread);
            told.recv().context("a worker thread ended")?.with_context(|| {
                format!(
                    "worker_cpus: worker {index} cannot stay on CPU {}; want one this process may use (taskset -p)",
                    cpu.unwrap_or(0)
                )
            })?;
        }
        Ok(Self { threads, mailers, backend: Backend::new(handles) })
    }

    fn stop(self, config: &Config) {
        for mailer in &self.mailers {
            mailer.send(Message::Stop(config.stop_timeout.0));
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker crashed");
            }
        }
    }
}
