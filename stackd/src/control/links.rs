//! Interfaces that come and go: devices are opened here, for all shards, and handed over one queue each.

use std::{path::PathBuf, sync::Arc};

use stackd_base::PortId;
use stackd_proto::{StatusError, v1, v1::Errno};

use super::{
    Facts,
    backend::{Backend, Command},
};
use crate::{
    config::DeviceConfig,
    shard::{NewLink, device, link_exists},
};

/// The daemon's devices. One change at a time: the kernel would let two queues of one TAP be opened as if they were two devices.
#[derive(Debug)]
pub(super) struct Links {
    backend: Backend,
    control: PathBuf,
    devices: tokio::sync::Mutex<Devices>,
}

#[derive(Debug)]
struct Devices {
    present: Vec<DeviceConfig>,
    /// Of the next interface; no number is used twice.
    next: PortId,
}

impl Links {
    /// Those that the daemon began with.
    pub(super) fn new(backend: Backend, facts: &Facts) -> Self {
        let (present, next) = (facts.devices.clone(), device::port_id(facts.devices.len()));
        let devices = tokio::sync::Mutex::new(Devices { present, next });
        Self { backend, control: facts.control_path.clone(), devices }
    }

    /// `ip link add`.
    pub(super) async fn add(&self, request: v1::AddLinkRequest) -> Result<v1::AddLinkResponse, StatusError> {
        let v1::AddLinkRequest { name, kind, mtu, hardware_address, parameters, up } = request;
        let workers = u8::try_from(self.backend.shards()).unwrap_or(u8::MAX);
        let parameters = parameters.into_iter().collect();
        let config = DeviceConfig::at_runtime(&name, &kind, mtu, &parameters, workers).map_err(|e| {
            let given = if e.key == "type" { Some(&kind) } else { parameters.get(&e.key) };
            StatusError::new(Errno::Einval, e.message).argument(e.key, given.cloned().unwrap_or_default())
        })?;
        let mut devices = self.devices.lock().await;
        if devices.present.iter().any(|d| d.name == name) {
            return Err(link_exists(&name));
        }
        let same_kernel_side = |d: &&DeviceConfig| {
            d.kind == config.kind && d.netns == config.netns && d.kernel_name() == config.kernel_name()
        };
        if kind == "tap"
            && let Some(other) = devices.present.iter().find(same_kernel_side)
        {
            let why = format!("the kernel's side of {} has that name", other.name);
            return Err(StatusError::new(Errno::Eexist, why)
                .argument("host_name", config.kernel_name())
                .remedy("another host_name"));
        }
        let mac = match hardware_address.as_deref().map(<[u8; 6]>::try_from) {
            Some(Ok(mac)) if mac[0] & 1 == 0 => mac,
            Some(_) => {
                return Err(StatusError::new(Errno::Einval, "not the address of one station").argument("address", ""));
            }
            None => device::mac(&config, &self.control),
        };
        let (id, config) = (devices.next, Arc::new(config));
        let ports = self.open(id, &config, workers).await?;
        devices.next = PortId(id.0 + 1);
        for (shard, port) in ports.into_iter().enumerate() {
            let new = Box::new(NewLink { config: config.clone(), mac, port, up });
            if let Err(error) = self.backend.shard(shard).ask(|reply| Command::LinkAdd(new, reply)).await {
                self.take_back(shard, &name).await;
                return Err(error);
            }
        }
        devices.present.push((*config).clone());
        Ok(v1::AddLinkResponse { index: id.0 })
    }

    /// Opens the device, away from the tasks that answer others.
    async fn open(
        &self,
        id: PortId,
        config: &Arc<DeviceConfig>,
        workers: u8,
    ) -> Result<Vec<device::Port>, StatusError> {
        let opened = config.clone();
        let opening = tokio::task::spawn_blocking(move || device::open_ports(&opened, id, workers));
        let ports = opening.await.map_err(|e| StatusError::new(Errno::Eio, format!("opening it failed: {e}")))?;
        ports.map_err(|e| {
            let os = e.chain().find_map(|e| e.downcast_ref::<std::io::Error>());
            let errno = os.map_or(Errno::Eio, |e| errno_of(e.kind()));
            let remedy = match errno {
                Errno::Eperm | Errno::Eacces => {
                    "a daemon with CAP_NET_ADMIN, or a TAP made for its user (ip tuntap add)"
                }
                _ => "",
            };
            StatusError::new(errno, format!("cannot be opened: {e:#}")).argument("dev", &config.name).remedy(remedy)
        })
    }

    /// One of the shards refused what those before it took.
    async fn take_back(&self, refused: usize, name: &str) {
        for shard in (0..refused).rev() {
            let request = v1::DeleteLinkRequest { name: name.to_owned() };
            if let Err(error) = self.backend.shard(shard).ask(|reply| Command::LinkDelete(request, reply)).await {
                tracing::error!(shard, %error, "shards disagree: an interface cannot be taken back");
            }
        }
    }

    /// `ip link del`.
    pub(super) async fn delete(&self, request: v1::DeleteLinkRequest) -> Result<v1::DeleteLinkResponse, StatusError> {
        let mut devices = self.devices.lock().await;
        let answers = self.backend.change(|reply| Command::LinkDelete(request.clone(), reply), |_| None).await?;
        devices.present.retain(|d| d.name != request.name);
        Ok(answers.into_iter().next().unwrap_or_default())
    }
}

/// Kinds that opening a device can fail with; the text says the rest.
fn errno_of(kind: std::io::ErrorKind) -> Errno {
    use std::io::ErrorKind;
    match kind {
        ErrorKind::PermissionDenied => Errno::Eperm,
        ErrorKind::NotFound => Errno::Enoent,
        ErrorKind::AlreadyExists => Errno::Eexist,
        ErrorKind::AddrInUse => Errno::Eaddrinuse,
        ErrorKind::ResourceBusy => Errno::Ebusy,
        ErrorKind::InvalidInput => Errno::Einval,
        _ => Errno::Eio,
    }
}
