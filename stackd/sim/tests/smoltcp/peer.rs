//! A host that runs smoltcp.

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};
use stackd_base::Instant;
use stackd_sim::net::app::Outcome;
use stackd_sim::net::content::{Reader, StreamId};
use stackd_sim::net::{IpPacket, Node, Wrong};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// Frames to and from the interface.
struct Wire {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
    mtu: usize,
}

struct Received(Vec<u8>);
struct Sends<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sends<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let r = f(&mut frame);
        self.0.push_back(frame);
        r
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sends<'a>;
    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Sends<'_>)> {
        let frame = self.rx.pop_front()?;
        Some((Received(frame), Sends(&mut self.tx)))
    }
    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sends<'_>> {
        Some(Sends(&mut self.tx))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut c = DeviceCapabilities::default();
        c.medium = Medium::Ip;
        c.max_transmission_unit = self.mtu;
        c
    }
}

/// How its program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// As soon as it has written all.
    First,
    /// When it has read all.
    Second,
    /// Resets after so many bytes.
    Abort(u64),
}

/// What its program does.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Connects there at that time; else it listens on port 80.
    pub connect: Option<(Instant, SocketAddr)>,
    /// Bytes to write.
    pub total: u64,
    /// Bytes of one read.
    pub read_at_most: usize,
    pub close: Close,
    pub nagle: bool,
    pub buffers: usize,
}

pub struct Smoltcp {
    iface: Interface,
    wire: Wire,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    job: Job,
    id: StreamId,
    reader: Reader,
    written: u64,
    began: bool,
    connected: bool,
    eof: bool,
    closed: bool,
    deadline: Option<Instant>,
}

impl std::fmt::Debug for Smoltcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smoltcp").field("job", &self.job).finish_non_exhaustive()
    }
}

fn time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros((now.as_nanos() / 1000) as i64)
}

fn clock() -> u32 {
    // smoltcp asks a function without arguments for its timestamp; a constant would fail PAWS nowhere and measure nothing.
    1
}

impl Smoltcp {
    pub fn new(now: Instant, addresses: [IpAddr; 2], mtu: usize, seed: u64, timestamps: bool, job: Job) -> Self {
        // smoltcp 0.13 fills the MSS and adds its timestamps to that (RFC 6691, 2: they come off it), and its interface then drops the
        // segment as too large, for ever. With room for them it does not.
        let mtu = if timestamps { mtu + 12 } else { mtu };
        let mut wire = Wire { rx: VecDeque::new(), tx: VecDeque::new(), mtu };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut wire, time(now));
        iface.update_ip_addrs(|a| {
            for ip in addresses {
                let _ = a.push(IpCidr::new(IpAddress::from(ip), 0));
            }
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; job.buffers]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(job.nagle);
        if timestamps {
            socket.set_tsval_generator(Some(clock));
        }
        if job.connect.is_none() {
            socket.listen(80).expect("listens");
        }
        let mut sockets = SocketSet::new(vec![]);
        let handle = sockets.add(socket);
        let client = job.connect.is_some();
        Self {
            iface,
            wire,
            sockets,
            handle,
            job,
            id: StreamId { flow: 0, index: 0, from_client: client },
            reader: Reader::new(0, !client),
            written: 0,
            began: !client,
            connected: false,
            eof: false,
            closed: false,
            deadline: job.connect.map(|c| c.0),
        }
    }

    fn step(&mut self, now: Instant) -> Result<bool, Wrong> {
        let mut worked = false;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if let Some((at, to)) = self.job.connect
            && !self.began
        {
            if now < at {
                return Ok(false);
            }
            self.began = true;
            let to = IpEndpoint::new(IpAddress::from(to.ip()), to.port());
            socket.connect(self.iface.context(), to, 50_000).map_err(|e| format!("connect: {e:?}"))?;
            worked = true;
        }
        self.connected |= socket.may_send();
        while socket.can_recv() {
            let mut buffer = vec![0; self.job.read_at_most];
            let n = socket.recv_slice(&mut buffer).map_err(|e| format!("recv: {e:?}"))?;
            self.reader.take(&buffer[..n])?;
            worked = true;
        }
        if socket.can_send() && self.written < self.job.total {
            let to = self.job.total.min(self.written + 4096);
            let n = socket.send_slice(&self.id.bytes(self.written, to)).map_err(|e| format!("send: {e:?}"))?;
            self.written += n as u64;
            worked |= n > 0;
        }
        if self.connected && !socket.may_recv() && !self.eof {
            self.eof = true;
            worked = true;
        }
        let close = match self.job.close {
            Close::First => self.connected && self.written == self.job.total,
            Close::Second => self.eof && self.written == self.job.total,
            Close::Abort(after) => self.connected && self.written + self.reader.read() >= after || self.eof,
        };
        if (close || self.eof && !socket.may_send()) && !self.closed {
            self.closed = true;
            worked = true;
            if matches!(self.job.close, Close::Abort(_)) { socket.abort() } else { socket.close() }
        }
        Ok(worked)
    }
}

impl Node for Smoltcp {
    fn receive(&mut self, _: Instant, packet: IpPacket) {
        self.wire.rx.push_back(packet.into_bytes());
    }
    fn handle_timeout(&mut self, _: Instant) {}
    fn poll(&mut self, now: Instant, out: &mut Vec<IpPacket>) -> Result<(), Wrong> {
        for round in 0.. {
            let _ = self.iface.poll(time(now), &mut self.wire, &mut self.sockets);
            let sent = !self.wire.tx.is_empty();
            out.extend(self.wire.tx.drain(..).map(IpPacket::new));
            if !self.step(now)? && !sent {
                break;
            }
            if round > 100_000 {
                return Err(String::from("smoltcp does not come to rest"));
            }
        }
        let at = self.iface.poll_at(time(now), &self.sockets);
        let at = at.map(|t| Instant::from_nanos(t.total_micros().max(0) as u64 * 1000));
        let soonest = Instant::from_nanos(now.as_nanos() / 1000 * 1000 + 1000);
        let start = self.job.connect.map(|c| c.0).filter(|_| !self.began);
        self.deadline = at.map(|t| t.max(soonest)).into_iter().chain(start).min();
        Ok(())
    }
    fn next_deadline(&self, _: Instant) -> Option<Instant> {
        self.deadline
    }
    fn check(&mut self, _: Instant) -> Result<(), Wrong> {
        Ok(())
    }
    fn is_finished(&self) -> bool {
        let state = self.sockets.get::<tcp::Socket<'_>>(self.handle).state();
        self.closed && matches!(state, tcp::State::Closed | tcp::State::TimeWait)
    }
    fn outcomes(&self, _: u16) -> Vec<Outcome> {
        vec![Outcome {
            written: self.written,
            read: self.reader.read(),
            eof: self.eof,
            error: None,
            gave_up: false,
            connected: self.connected,
        }]
    }
    fn check_empty(&mut self, _: Instant) -> Result<(), Wrong> {
        Ok(())
    }
}
