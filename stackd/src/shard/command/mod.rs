//! What the control plane asks of a shard, executed on its thread between two turns of the loop.

mod diag;
pub mod link;
pub mod net;
mod path;
pub mod qdisc;
mod rules;
mod sysctl;

use super::Shard;
use crate::control::backend::{
    CaptureInterface, ClosedSocket, Command, OpenedSession, Reply, SessionId, SocketCall, SocketResult,
};
use crate::dispatch::{self, Answer, Wait, WaitKind};
use crate::shard::record::Recording;
use crate::store::{Quota, Transport};
use stackd_base::{DropReason, Instant, Mib, PortId};
use stackd_proto::v1::Errno;
use stackd_proto::{StatusError, v1};
use tokio::sync::{mpsc, oneshot};

/// Who wants to hear of sockets that close.
#[derive(Debug, Default)]
pub struct Watchers {
    sinks: Vec<(mpsc::Sender<ClosedSocket>, u64)>,
    /// The sockets at the last look, by cookie.
    last: std::collections::HashMap<u64, v1::SocketDiag>,
    /// When to look again.
    next: Instant,
}

impl Watchers {
    /// When to look again, if anybody watches.
    pub fn next_deadline(&self) -> Option<Instant> {
        (!self.sinks.is_empty()).then_some(self.next)
    }
}

/// How often sockets are looked at while somebody watches for those that close.
const WATCH_INTERVAL: stackd_base::Duration = stackd_base::Duration::from_millis(10);

/// `lo`'s frames have an (empty) Ethernet header, as on Linux.
const LINKTYPE_ETHERNET: u16 = 1;
const DEFAULT_SNAP: u32 = 262_144;

fn tell<T>(reply: Reply<T>, answer: Result<T, StatusError>) {
    // Who asked may be gone: the answer then is nobody's.
    let _ = reply.send(answer);
}

fn no_session(id: u64) -> StatusError {
    StatusError::new(Errno::Enoent, "no such session").argument("session", id)
}

impl Shard {
    /// Executes one command.
    pub(super) fn execute(&mut self, now: Instant, command: Command) {
        match command {
            Command::SysctlList(request, reply) => tell(reply, Ok(sysctl::list(&self.core.stack, &request))),
            Command::SysctlGet(request, reply) => tell(reply, sysctl::get(&self.core.stack, &request)),
            Command::SysctlSet(request, reply) => tell(reply, self.set_sysctls(now, &request)),
            Command::LinkList(request, reply) => tell(reply, self.list_links(&request)),
            Command::LinkSet(request, reply) => tell(reply, self.set_link(now, &request)),
            Command::LinkAdd(request, reply) => tell(reply, self.add_link(now, *request)),
            Command::LinkDelete(request, reply) => tell(reply, self.delete_link(now, &request)),
            Command::AddressList(request, reply) => tell(reply, net::addresses(self.core.stack.ip(), now, &request)),
            Command::AddressModify(request, reply) => {
                tell(reply, net::modify_address(&mut self.core.stack, now, &request));
            }
            Command::RouteList(request, reply) => tell(reply, net::routes(self.core.stack.ip(), now, &request)),
            Command::RouteModify(request, reply) => tell(reply, net::modify_route(self.core.stack.ip_mut(), &request)),
            Command::RouteGet(request, reply) => tell(reply, path::route_get(self.core.stack.ip(), now, &request)),
            Command::RuleList(request, reply) => tell(reply, Ok(rules::rules(self.core.stack.ip(), &request))),
            Command::RuleModify(request, reply) => tell(reply, rules::modify(self.core.stack.ip_mut(), &request)),
            Command::GroupList(request, reply) => tell(reply, path::groups(self.core.stack.ip(), &request)),
            Command::NeighbourList(request, reply) => {
                tell(reply, net::neighbours(self.core.stack.ip(), now, &request));
            }
            Command::NeighbourModify(request, reply) => {
                tell(reply, net::modify_neighbour(&mut self.core.stack, now, &request))
            }
            Command::QdiscList(request, reply) => tell(reply, self.list_qdiscs(now, &request)),
            Command::QdiscModify(request, reply) => tell(reply, self.modify_qdisc(now, &request)),
            Command::DiagList(filter, reply) => tell(reply, Ok(self.list_sockets(now, &filter))),
            Command::DiagKill(cookies, reply) => tell(reply, Ok(self.kill_sockets(now, &cookies))),
            Command::DiagSummary(reply) => tell(reply, Ok(self.summary(now))),
            Command::DiagWatchClosed(sink) => self.watchers.sinks.push((sink, 0)),
            Command::CounterList(request, reply) => tell(reply, Ok(self.counters(now, &request))),
            Command::ClientList(request, reply) => tell(reply, Ok(self.list_clients(now, &request))),
            Command::ClientSetQuota(request, reply) => tell(reply, self.set_quota(&request)),
            Command::ClientDisconnect(request, reply) => tell(reply, self.disconnect(now, &request)),
            Command::CaptureStart { devices, snap_len, sink, reply } => {
                tell(reply, self.start_capture(&devices, snap_len, sink));
            }
            Command::RecordStart { id, recording, cookies, reply } => {
                tell(reply, Ok(self.start_recording(now, id, recording, &cookies)));
            }
            Command::RecordStop { id, reply } => {
                self.core.stack.stop_recording(id);
                tell(reply, Ok(()));
            }
            Command::ShardInfo(reply) => tell(reply, Ok(self.info(now))),
            Command::Doctor(reply) => tell(reply, Ok(self.doctor())),
            Command::SessionOpen { process, closing, reply } => tell(reply, self.open_session(now, process, closing)),
            Command::SessionClose(SessionId(id)) => {
                if let Some(key) = self.core.store.session_of(id) {
                    self.end_session(now, key, None);
                }
            }
            Command::Call { session, call, reply } => self.call(now, session, call, reply),
        }
    }

    /// A socket call of a gRPC client. Only `Poll` waits.
    fn call(&mut self, now: Instant, SessionId(id): SessionId, call: SocketCall, reply: Reply<SocketResult>) {
        let Some(key) = self.core.store.session_of(id) else { return tell(reply, Err(no_session(id))) };
        if let SocketCall::Poll { socket, events } = call {
            self.core.store.count_call(key);
            let wait = Wait { kind: WaitKind::Poll { events, least: 0 }, answer: Answer::Grpc(reply) };
            return dispatch::begin(&mut self.core, now, key, socket, wait);
        }
        let result = dispatch::execute(&mut self.core, now, key, call);
        tell(reply, result.map_err(dispatch::status));
    }

    fn open_session(
        &mut self,
        now: Instant,
        process: v1::Process,
        closing: oneshot::Sender<StatusError>,
    ) -> Result<OpenedSession, StatusError> {
        if self.stop_at.is_some() {
            return Err(StatusError::new(Errno::Epipe, "the daemon is stopping"));
        }
        let place = self.sessions.enter().ok_or_else(|| {
            StatusError::new(Errno::Emfile, "too many sessions are open").remedy("raise quota.sessions")
        })?;
        let quota = self.grpc_quota;
        let id = place.id;
        let key = self.core.store.add_session(id, process, Transport::Grpc(Some(closing)), quota, now);
        self.places.insert(key, place);
        Ok(OpenedSession { id: SessionId(id), max_sockets: quota.sockets, max_memory_bytes: quota.memory })
    }

    fn list_qdiscs(&self, now: Instant, request: &v1::QdiscListRequest) -> Result<v1::QdiscListResponse, StatusError> {
        let layer = self.core.stack.ip();
        if !request.device.is_empty() {
            net::port(layer, &request.device)?;
        }
        let qdiscs = layer
            .ports()
            .iter()
            .filter(|p| request.device.is_empty() || p.config.name == request.device)
            .map(|p| {
                let q = p.qdisc();
                let config = q.config().unwrap_or(stackd_qdisc::QdiscConfig::NoQueue);
                v1::Qdisc {
                    device: p.config.name.clone(),
                    kind: q.kind().into(),
                    handle: self.handles.get(&p.id).copied().unwrap_or(0),
                    parent: "root".into(),
                    options: Some(qdisc::to_proto(&config)),
                    stats: Some(qdisc::stats(&q.stats(), now)),
                    refcount: 2,
                }
            })
            .collect();
        Ok(v1::QdiscListResponse { qdiscs })
    }

    fn modify_qdisc(
        &mut self,
        now: Instant,
        request: &v1::QdiscModifyRequest,
    ) -> Result<v1::QdiscModifyResponse, StatusError> {
        use v1::QdiscVerb;
        let port = net::port(self.core.stack.ip(), &request.device)?;
        let id = port.id;
        let current = port.qdisc().config();
        let verb = request.verb();
        let config = match verb {
            QdiscVerb::Unspecified => return Err(StatusError::invalid("verb", "unspecified", "nothing to do")),
            QdiscVerb::Delete => {
                self.handles.remove(&id);
                let name = self.core.stack.sysctl_get("net.core.default_qdisc").unwrap_or_else(|_| "pfifo_fast".into());
                let name = if port_is_loopback(self, id) { "noqueue".to_owned() } else { name };
                name.parse().map_err(qdisc::refused)?
            }
            QdiscVerb::Add if self.handles.contains_key(&id) => {
                return Err(StatusError::new(Errno::Eexist, "the device has a qdisc")
                    .argument("dev", &request.device)
                    .remedy("tc qdisc replace"));
            }
            QdiscVerb::Change => {
                let base = current.clone();
                let asked = qdisc::from_proto(request.options.clone(), base)?;
                if current.as_ref().is_none_or(|c| c.kind() != asked.kind()) {
                    return Err(StatusError::invalid("qdisc", asked.kind(), "the device has a qdisc of another kind")
                        .remedy("tc qdisc replace"));
                }
                asked
            }
            QdiscVerb::Add | QdiscVerb::Replace => qdisc::from_proto(request.options.clone(), None)?,
        };
        if verb != QdiscVerb::Delete {
            let handle =
                if request.handle == 0 { self.handles.get(&id).copied().unwrap_or(0x8001) } else { request.handle };
            self.handles.insert(id, handle);
        }
        let queued = |shard: &Self| shard.core.stack.ip().port(id).map_or(0, |p| p.qdisc().len()) as u64;
        let before = queued(self);
        let refused = |e: stackd_netstack::QdiscError| StatusError::invalid("qdisc", "", e.to_string());
        // As Linux: one of the same kind is changed and keeps its statistics; `add` and `del` begin anew.
        let in_place = matches!(verb, QdiscVerb::Change | QdiscVerb::Replace);
        if !in_place || !self.core.stack.change_qdisc(now, id, &config).map_err(refused)? {
            self.core.stack.replace_qdisc(now, id, &config).map_err(refused)?;
        }
        let packets_kept = queued(self);
        Ok(v1::QdiscModifyResponse { packets_kept, packets_dropped: before.saturating_sub(packets_kept) })
    }

    fn counters(&self, now: Instant, request: &v1::CounterListRequest) -> v1::CounterListResponse {
        let counter = |name: &str, value, text: &str, gauge| v1::Counter {
            name: name.into(),
            value,
            text: text.into(),
            shard: self.index.into(),
            gauge,
        };
        let mut out = v1::CounterListResponse {
            at_ns: now.saturating_since(self.started).as_nanos(),
            ..v1::CounterListResponse::default()
        };
        if request.mib {
            let mib = self.core.stack.mib();
            out.mib = mib.iter().map(|e| counter(e.mib.name(), e.value, "", e.mib == Mib::TcpCurrEstab)).collect();
        }
        if request.drops {
            let drops = self.core.stack.drops();
            let below: Vec<_> = self.ports.iter().map(crate::shard::device::Port::losses).collect();
            let count =
                |r: DropReason| drops.get(r) + below.iter().map(|l| l.of(r)).sum::<u64>() + self.lost_with_links.of(r);
            out.drops = DropReason::ALL.iter().map(|&r| counter(r.name(), count(r), r.text(), false)).collect();
        }
        out
    }

    fn list_clients(&self, now: Instant, request: &v1::ClientListRequest) -> v1::ClientListResponse {
        let store = &self.core.store;
        let sessions = store.sessions().filter(|(_, s)| s.alive).map(|(_, s)| s.describe(now)).collect();
        let breaches = store.breaches.iter().filter(|_| request.breaches).map(|b| v1::Breach {
            session_id: b.session_id,
            process: Some(b.process.clone()),
            age_ms: now.saturating_since(b.at).as_millis(),
            reason: b.reason.clone(),
        });
        v1::ClientListResponse { sessions, breaches: breaches.collect() }
    }

    fn set_quota(&mut self, request: &v1::SetQuotaRequest) -> Result<v1::SetQuotaResponse, StatusError> {
        let v1::SetQuotaRequest { session_id, max_sockets, max_memory_bytes } = *request;
        let store = &mut self.core.store;
        let session = store.session_of(session_id).and_then(|key| store.session_mut(key));
        let session = session.ok_or_else(|| no_session(session_id))?;
        let Quota { sockets, memory } = session.quota;
        session.quota = Quota { sockets: max_sockets.unwrap_or(sockets), memory: max_memory_bytes.unwrap_or(memory) };
        if let Transport::Shared(shared) = &session.transport {
            let chunks = session.quota.memory / stackd_shm::abi::CHUNK_BYTES as u64;
            shared.memory.pool().set_quota(u32::try_from(chunks).unwrap_or(u32::MAX));
        }
        Ok(v1::SetQuotaResponse {})
    }

    fn disconnect(
        &mut self,
        now: Instant,
        request: &v1::DisconnectRequest,
    ) -> Result<v1::DisconnectResponse, StatusError> {
        let id = request.session_id;
        let key = self.core.store.session_of(id).ok_or_else(|| no_session(id))?;
        tracing::info!(session = id, "disconnected by an operator");
        self.end_session(now, key, Some(StatusError::new(Errno::Econnaborted, "disconnected by an operator")));
        Ok(v1::DisconnectResponse {})
    }

    fn start_capture(
        &mut self,
        devices: &[String],
        snap_len: u32,
        sink: mpsc::Sender<crate::control::backend::CapturedFrame>,
    ) -> Result<Vec<CaptureInterface>, StatusError> {
        let layer = self.core.stack.ip();
        for name in devices {
            net::port(layer, name)?;
        }
        let wanted: Vec<_> =
            layer.ports().iter().filter(|p| devices.is_empty() || devices.contains(&p.config.name)).collect();
        let interfaces = wanted
            .iter()
            .map(|p| CaptureInterface { index: p.id.0, name: p.config.name.clone(), link_type: LINKTYPE_ETHERNET })
            .collect();
        let ports = wanted.iter().map(|p| p.id).collect();
        let snap_len = if snap_len == 0 { DEFAULT_SNAP } else { snap_len };
        self.captures.start(ports, snap_len as usize, sink);
        Ok(interfaces)
    }

    fn start_recording(&mut self, now: Instant, id: u64, recording: Box<Recording>, cookies: &[u64]) -> Vec<u64> {
        let stack = &mut self.core.stack;
        stack.start_recording(id, recording);
        let all = stack.sockets(now).filter(|s| cookies.contains(&s.cookie));
        let found: Vec<_> = all.filter_map(|s| Some((s.cookie, s.sock?))).collect();
        let taped = found.into_iter().filter(|&(_, sock)| stack.record_socket(now, id, sock).is_ok());
        taped.map(|(cookie, _)| cookie).collect()
    }

    fn info(&self, _now: Instant) -> v1::ShardInfo {
        let super::Figures { turns, busy_turns, spin_ns, rx_frames, tx_frames } = self.figures;
        let sockets: usize = self.core.store.sessions().map(|(_, s)| s.sockets.len()).sum();
        v1::ShardInfo {
            id: self.index.into(),
            sockets: sockets as u64,
            loops: turns,
            busy_loops: busy_turns,
            sleeps: self.waiter.sleeps,
            spin_ns,
            rx_frames,
            tx_frames,
        }
    }

    fn doctor(&self) -> Vec<v1::Finding> {
        let finding = |severity: v1::Severity, subject: String, finding: String, remedy: &str| v1::Finding {
            severity: severity as i32,
            subject,
            finding,
            remedy: remedy.into(),
        };
        if self.ports.is_empty() {
            return vec![finding(
                v1::Severity::Note,
                "devices".into(),
                "loopback only".into(),
                "add a [[device]] to the configuration to reach other hosts",
            )];
        }
        let names = |id: PortId| self.core.stack.ip().port(id).map(|p| p.config.name.clone()).unwrap_or_default();
        self.ports
            .iter()
            .map(|port| {
                let caps = port.device.caps();
                let what = format!(
                    "{}, mtu {}, checksum offload {}, segmentation offload {}",
                    port.kind,
                    caps.mtu,
                    if caps.tx_csum { "on" } else { "off" },
                    if caps.tso_max > 0 { "on" } else { "off" },
                );
                let good = caps.tx_csum && caps.tso_max > 0;
                let severity = if good { v1::Severity::Ok } else { v1::Severity::Warning };
                finding(severity, format!("device {}", names(port.id)), what, if good { "" } else { "a newer kernel" })
            })
            .collect()
    }
}

fn port_is_loopback(shard: &Shard, id: PortId) -> bool {
    shard.core.stack.ip().port(id).is_some_and(|p| p.config.loopback)
}
