//! How the control plane talks to shards: messages with a reply channel, never shared state.
//!
//! A control task builds a [`Command`], sends it to one shard or to all ([`Backend`]), and awaits the reply. The shard thread
//! drains its queue once a turn of its loop and answers from its own data. A reply that nobody awaits any more (the
//! client went away) is dropped by `oneshot::Sender::send` failing: that is not an error.
//!
//! Configuration is replicated: every shard holds the same sysctls, addresses, routes and qdiscs. A change goes to shard 0 first,
//! which validates it; only when it agreed do the others get it, so a refused change changes nothing. Should a later shard
//! refuse, the change is taken back on those before it ([`Backend::change`]).

use std::{fmt, net::SocketAddr, sync::Arc, sync::mpsc as std_mpsc};

use bytes::Bytes;
use stackd_proto::{
    StatusError,
    v1::{self, Errno},
};
use tokio::sync::{mpsc, oneshot};

use crate::shard::NewLink;
use crate::shard::record::Recording;

/// Where the answer to a command goes.
pub type Reply<T> = oneshot::Sender<Result<T, StatusError>>;

/// A session's number on its shard, chosen by the shard; unique while the daemon lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// What a shard can be asked by the control plane. Requests and answers are the messages of `stackd.v1`, already checked for
/// what can be checked without the shard's state (address lengths, prefix lengths, enum values).
#[derive(Debug)]
pub enum Command {
    /// `sysctl -a`.
    SysctlList(v1::SysctlListRequest, Reply<v1::SysctlListResponse>),
    /// `sysctl key...`.
    SysctlGet(v1::SysctlGetRequest, Reply<v1::SysctlGetResponse>),
    /// `sysctl -w`: all or none.
    SysctlSet(v1::SysctlSetRequest, Reply<v1::SysctlSetResponse>),

    /// `ip link show`.
    LinkList(v1::ListLinksRequest, Reply<v1::ListLinksResponse>),
    /// `ip link set`.
    LinkSet(v1::SetLinkRequest, Reply<v1::SetLinkResponse>),
    /// `ip link add`.
    LinkAdd(Box<NewLink>, Reply<v1::AddLinkResponse>),
    /// `ip link del`.
    LinkDelete(v1::DeleteLinkRequest, Reply<v1::DeleteLinkResponse>),
    /// `ip addr show`.
    AddressList(v1::ListAddressesRequest, Reply<v1::ListAddressesResponse>),
    /// `ip addr add|replace|change|del`.
    AddressModify(v1::ModifyAddressRequest, Reply<v1::ModifyAddressResponse>),
    /// `ip route show`.
    RouteList(v1::ListRoutesRequest, Reply<v1::ListRoutesResponse>),
    /// `ip route add|replace|change|append|del`.
    RouteModify(v1::ModifyRouteRequest, Reply<v1::ModifyRouteResponse>),
    /// `ip route get`.
    RouteGet(v1::GetRouteRequest, Reply<v1::GetRouteResponse>),
    /// `ip rule show`.
    RuleList(v1::ListRulesRequest, Reply<v1::ListRulesResponse>),
    /// `ip rule add|del`.
    RuleModify(v1::ModifyRuleRequest, Reply<v1::ModifyRuleResponse>),
    /// `ip neigh show`.
    NeighbourList(v1::ListNeighboursRequest, Reply<v1::ListNeighboursResponse>),
    /// `ip neigh add|replace|change|del`.
    NeighbourModify(v1::ModifyNeighbourRequest, Reply<v1::ModifyNeighbourResponse>),

    /// `ip maddr show`: groups that this shard's sockets, and the stack, are in.
    GroupList(v1::ListGroupsRequest, Reply<v1::ListGroupsResponse>),

    /// `tc qdisc show`: this shard's instances.
    QdiscList(v1::QdiscListRequest, Reply<v1::QdiscListResponse>),
    /// `tc qdisc add|replace|change|del`.
    QdiscModify(v1::QdiscModifyRequest, Reply<v1::QdiscModifyResponse>),

    /// `ss`: this shard's sockets.
    DiagList(v1::DiagFilter, Reply<Vec<v1::SocketDiag>>),
    /// `ss -K`: aborts those cookies that are this shard's, and says which.
    DiagKill(Vec<u64>, Reply<Vec<u64>>),
    /// `ss -s`: this shard's share.
    DiagSummary(Reply<v1::DiagSummaryResponse>),
    /// `ss -E`: from now on send each socket that closes; full queue = drop and count in the next one's `missed`. Ends when the
    /// receiver is gone.
    DiagWatchClosed(mpsc::Sender<ClosedSocket>),

    /// `nstat`: this shard's counters.
    CounterList(v1::CounterListRequest, Reply<v1::CounterListResponse>),

    /// `netctl clients`: sessions served by this shard.
    ClientList(v1::ClientListRequest, Reply<v1::ClientListResponse>),
    /// Changes one session's quotas; ENOENT when the session is not this shard's.
    ClientSetQuota(v1::SetQuotaRequest, Reply<v1::SetQuotaResponse>),
    /// Ends a session; ENOENT when it is not this shard's.
    ClientDisconnect(v1::DisconnectRequest, Reply<v1::DisconnectResponse>),

    /// Starts a capture of this shard's frames. Frames go to `sink`; a full sink drops and counts (`CapturedFrame::missed`).
    /// Ends when the receiver is gone.
    CaptureStart {
        /// Interface names; empty: all.
        devices: Vec<String>,
        /// Bytes to keep of each frame.
        snap_len: u32,
        /// Where the frames go.
        sink: mpsc::Sender<CapturedFrame>,
        /// The interfaces that are captured.
        reply: Reply<Vec<CaptureInterface>>,
    },

    /// Records the connections with these cookies that are this shard's, and those that begin and are wanted. Answers which of the cookies were found.
    RecordStart {
        /// Names the recording in `RecordStop`.
        id: u64,
        /// What to record, and where it goes.
        recording: Box<Recording>,
        /// `SO_COOKIE` of live connections.
        cookies: Vec<u64>,
        /// Those found.
        reply: Reply<Vec<u64>>,
    },
    /// Ends a recording.
    RecordStop {
        /// Which.
        id: u64,
        /// When it has ended.
        reply: Reply<()>,
    },

    /// The loop's own figures.
    ShardInfo(Reply<v1::ShardInfo>),
    /// What this shard thinks is wrong with its devices.
    Doctor(Reply<Vec<v1::Finding>>),

    /// Opens a session for a gRPC client.
    SessionOpen {
        /// Who, from SO_PEERCRED.
        process: v1::Process,
        /// Told when the daemon ends the session (breach, `netctl clients --disconnect`, shutdown). The shard keeps it while
        /// the session lives: dropping it ends the session too.
        closing: oneshot::Sender<StatusError>,
        /// The session and its quotas.
        reply: Reply<OpenedSession>,
    },
    /// The client's lease ended: close every socket left, as process exit does.
    SessionClose(SessionId),
    /// One socket call.
    Call {
        /// On whose behalf.
        session: SessionId,
        /// What.
        call: SocketCall,
        /// The result; dropping the receiver cancels a waiting `Poll` and nothing else.
        reply: Reply<SocketResult>,
    },
}

/// A session as its shard made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenedSession {
    /// Its number on the shard.
    pub id: SessionId,
    /// Quotas.
    pub max_sockets: u32,
    /// Bytes of socket memory.
    pub max_memory_bytes: u64,
}

/// A socket call. None of them waits, except `Poll`; a call that would have to answers EAGAIN (EINPROGRESS for connect).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SocketCall {
    /// socket(2): Linux's numbers.
    Socket { family: i32, kind: i32, protocol: i32 },
    /// bind(2).
    Bind { socket: u32, local: SocketAddr },
    /// listen(2).
    Listen { socket: u32, backlog: i32 },
    /// connect(2).
    Connect { socket: u32, remote: SocketAddr },
    /// The first half of sendto(2) with MSG_FASTOPEN.
    ConnectWithData { socket: u32, remote: SocketAddr },
    /// connect(2) to AF_UNSPEC: dissolves the association.
    Disconnect { socket: u32 },
    /// accept4(2).
    Accept { socket: u32 },
    /// shutdown(2): SHUT_RD = 0, SHUT_WR = 1, SHUT_RDWR = 2.
    Shutdown { socket: u32, how: i32 },
    /// close(2).
    Close { socket: u32 },
    /// setsockopt(2), Linux's layouts.
    SetOption { socket: u32, level: i32, name: i32, value: Vec<u8> },
    /// getsockopt(2).
    GetOption { socket: u32, level: i32, name: i32, max: u32 },
    /// getsockname(2) and getpeername(2).
    GetNames { socket: u32 },
    /// sendto(2).
    Send { socket: u32, data: Bytes, to: Option<SocketAddr>, control: Bytes },
    /// recvfrom(2).
    Receive { socket: u32, max: u32, peek: bool },
    /// recvmsg(2) with MSG_ERRQUEUE.
    ReceiveError { socket: u32, max: u32, peek: bool },
    /// ioctl(2): SIOCINQ, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK.
    Ioctl { socket: u32, request: u32 },
    /// poll(2) on one socket, one shot: answers when any of `events` (ERR and HUP always) holds.
    Poll { socket: u32, events: u32 },
}

/// The answer to a [`SocketCall`], by the kind of the call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SocketResult {
    /// `Socket`: the new number.
    Socket(u32),
    /// Nothing to tell (`Listen`, `Connect` that completed at once, `Shutdown`, `Close`, `SetOption`).
    Done,
    /// `Bind`: what was bound.
    Bound(SocketAddr),
    /// `Accept`.
    Accepted { socket: u32, local: SocketAddr, remote: SocketAddr },
    /// `GetOption`.
    Option(Vec<u8>),
    /// `GetNames`; `remote` only when connected.
    Names { local: SocketAddr, remote: Option<SocketAddr> },
    /// `Send`: bytes taken, more than 0 unless none were offered.
    Sent(u64),
    /// `Receive`. `end_of_stream` with empty `data` is the peer's FIN.
    Received { data: Bytes, control: Bytes, from: Option<SocketAddr>, full_length: u64, end_of_stream: bool },
    /// `Poll`: what holds now.
    Ready(u32),
    /// `Ioctl`.
    Number(i32),
    /// The urgent byte's place in the received stream; `None` at the stream's end.
    Urgent(Option<u64>),
}

/// A socket that closed, for `ss -E`.
#[derive(Clone, PartialEq, Debug)]
pub struct ClosedSocket {
    /// Its last state.
    pub diag: v1::SocketDiag,
    /// Closed sockets not reported before this one because the queue was full.
    pub missed: u64,
}

/// An interface of a capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureInterface {
    /// ifindex; frames refer to it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// LINKTYPE: 1 Ethernet, 101 raw IP.
    pub link_type: u16,
}

/// One frame of a capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CapturedFrame {
    /// ifindex.
    pub interface: u32,
    /// Wall-clock nanoseconds since 1970.
    pub unix_ns: u64,
    /// Length on the wire.
    pub original_len: u32,
    /// The first `snap_len` bytes.
    pub data: Bytes,
    /// It left (true) or arrived (false).
    pub outbound: bool,
    /// Frames dropped before this one because the queue was full.
    pub missed: u64,
}

/// One shard's queue.
#[derive(Clone)]
pub struct ShardHandle {
    sender: std_mpsc::Sender<Command>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for ShardHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardHandle").finish_non_exhaustive()
    }
}

impl ShardHandle {
    /// A handle and the shard's end. `wake` is called after each send: it rings the shard's eventfd if the shard sleeps.
    pub fn new(wake: Arc<dyn Fn() + Send + Sync>) -> (Self, std_mpsc::Receiver<Command>) {
        let (sender, receiver) = std_mpsc::channel();
        (Self { sender, wake }, receiver)
    }

    /// Hands a command over; never waits. EPIPE when the shard is gone.
    pub fn send(&self, command: Command) -> Result<(), StatusError> {
        self.sender.send(command).map_err(|_| shard_gone())?;
        (self.wake)();
        Ok(())
    }

    /// Sends the command made for a reply channel, and waits for the answer.
    pub async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Command) -> Result<T, StatusError> {
        let (reply, answer) = oneshot::channel();
        self.send(make(reply))?;
        answer.await.unwrap_or_else(|_| Err(shard_gone()))
    }
}

impl ShardHandle {
    async fn revert<T>(&self, undo: impl Fn(Reply<T>) -> Option<Command>) -> Result<(), StatusError> {
        let (reply, answer) = oneshot::channel();
        let Some(command) = undo(reply) else {
            return Err(StatusError::new(Errno::Eopnotsupp, "this kind of change has no inverse"));
        };
        self.send(command)?;
        answer.await.unwrap_or_else(|_| Err(shard_gone())).map(drop)
    }
}

/// All shards of the daemon.
#[derive(Clone, Debug)]
pub struct Backend {
    shards: Arc<[ShardHandle]>,
}

impl Backend {
    /// At least one shard; shard i is element i.
    pub fn new(shards: Vec<ShardHandle>) -> Self {
        assert!(!shards.is_empty(), "a daemon has at least one shard");
        Self { shards: shards.into() }
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// One shard; indices wrap round.
    pub fn shard(&self, index: usize) -> &ShardHandle {
        &self.shards[index % self.shards.len()]
    }

    /// Asks shard 0 for what every shard knows alike.
    pub async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Command) -> Result<T, StatusError> {
        self.shard(0).ask(make).await
    }

    /// Asks every shard at once; answers in shard order, or the first error.
    pub async fn ask_all<T>(&self, make: impl Fn(Reply<T>) -> Command) -> Result<Vec<T>, StatusError> {
        let mut answers = Vec::with_capacity(self.shards.len());
        for shard in self.shards.iter() {
            let (reply, answer) = oneshot::channel();
            shard.send(make(reply))?;
            answers.push(answer);
        }
        let mut out = Vec::with_capacity(answers.len());
        for answer in answers {
            out.push(answer.await.unwrap_or_else(|_| Err(shard_gone()))?);
        }
        Ok(out)
    }

    /// Changes what is replicated: shard 0 decides, the others follow. The answers in shard order.
    ///
    /// When a later shard refuses what shard 0 took (it ran out of something, or is gone), `undo` is sent to those that had
    /// changed already, last first, so that all shards agree again; `None` says that there is no way back.
    pub async fn change<T>(
        &self,
        make: impl Fn(Reply<T>) -> Command,
        undo: impl Fn(Reply<T>) -> Option<Command>,
    ) -> Result<Vec<T>, StatusError> {
        let mut out = Vec::with_capacity(self.shards.len());
        for (index, shard) in self.shards.iter().enumerate() {
            match shard.ask(&make).await {
                Ok(answer) => out.push(answer),
                Err(error) => {
                    for (index, shard) in self.shards[..index].iter().enumerate().rev() {
                        if let Err(error) = shard.revert(&undo).await {
                            tracing::error!(shard = index, %error, "shards disagree: a change cannot be taken back");
                        }
                    }
                    return Err(error);
                }
            }
        }
        Ok(out)
    }
}

fn shard_gone() -> StatusError {
    StatusError::new(Errno::Epipe, "the daemon is stopping").remedy("start stackd again")
}
