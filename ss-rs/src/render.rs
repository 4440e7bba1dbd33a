//! Sockets as `ss` prints them: columns sized by their content, details on a second line.

use std::{fmt::Write, net::IpAddr};

use stackd_proto::v1::{
    AddressFamily, Endpoint, SocketDiag, SocketOptions, SocketOwner, TcpState, TimerKind, Transport,
};

use crate::{filter::ip, info, number, services::Services, state};

/// What to show.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// -n: no service names, exact rates.
    pub numeric: bool,
    /// -i.
    pub info: bool,
    /// -m.
    pub memory: bool,
    /// -o.
    pub options: bool,
    /// -e.
    pub extended: bool,
    /// --inet-sockopt.
    pub sockopt: bool,
    /// -p.
    pub processes: bool,
    /// -O: one line a socket.
    pub one_line: bool,
    /// -H.
    pub no_header: bool,
    /// Show the Netid column: more than one transport was asked for.
    pub netid: bool,
    /// Show the State column: more than one state was asked for.
    pub state: bool,
    /// Names for ports; empty shows numbers.
    pub services: Services,
}

/// One line's cells.
struct Row {
    netid: &'static str,
    state: &'static str,
    receive_queue: String,
    send_queue: String,
    local: (String, String),
    remote: (String, String),
    rest: String,
}

/// All sockets as text, header first.
pub fn table(sockets: &[SocketDiag], options: &Options) -> String {
    let mut rows: Vec<Row> = sockets.iter().map(|socket| row(socket, options)).collect();
    if !options.no_header {
        let header = Row {
            netid: "Netid",
            state: "State",
            receive_queue: "Recv-Q".into(),
            send_queue: "Send-Q".into(),
            local: ("Local Address".into(), "Port".into()),
            remote: ("Peer Address".into(), "Port".into()),
            rest: "Process".into(),
        };
        rows.insert(0, header);
    }
    let width = |cell: fn(&Row) -> usize| rows.iter().map(cell).max().unwrap_or(0);
    let netid = width(|r| r.netid.len());
    let state = width(|r| r.state.len());
    let receive = width(|r| r.receive_queue.len());
    let send = width(|r| r.send_queue.len());
    let local = width(|r| r.local.0.len());
    let local_port = width(|r| r.local.1.len());
    let remote = width(|r| r.remote.0.len());
    let remote_port = width(|r| r.remote.1.len());
    let mut out = String::new();
    for Row { netid: id, state: st, receive_queue, send_queue, local: l, remote: r, rest } in &rows {
        let mut line = String::new();
        if options.netid {
            let _ = write!(line, "{id:<netid$} ");
        }
        if options.state {
            let _ = write!(line, "{st:<state$} ");
        }
        let _ = write!(
            line,
            "{receive_queue:<receive$} {send_queue:<send$} {:>local$}:{:<local_port$} {:>remote$}:{:<remote_port$}",
            l.0, l.1, r.0, r.1
        );
        line.push_str(rest);
        // The first line may end in padding; the details never do.
        match line.split_once('\n') {
            Some((first, details)) => {
                let _ = writeln!(out, "{}\n{details}", first.trim_end());
            }
            None => {
                let _ = writeln!(out, "{}", line.trim_end());
            }
        }
    }
    out
}

fn row(socket: &SocketDiag, options: &Options) -> Row {
    let transport = socket.transport();
    Row {
        netid: match transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Unspecified => "???",
        },
        state: state::column(socket.state()),
        receive_queue: socket.receive_queue.to_string(),
        send_queue: socket.send_queue.to_string(),
        local: end(socket, socket.local.as_ref(), true, options),
        remote: end(socket, socket.remote.as_ref(), false, options),
        rest: rest(socket, options),
    }
}

/// Address and port of one end, as `ss` writes them.
fn end(socket: &SocketDiag, end: Option<&Endpoint>, local: bool, options: &Options) -> (String, String) {
    let any = Endpoint::default();
    let end = end.unwrap_or(&any);
    let v6 = socket.family() == AddressFamily::Inet6;
    let mut address = match ip(&end.address) {
        // A dual-stack wildcard stands for both families.
        Some(IpAddr::V6(a)) if a.is_unspecified() && !socket.v6only => "*".to_owned(),
        Some(IpAddr::V6(a)) => format!("[{a}]"),
        Some(IpAddr::V4(a)) => a.to_string(),
        None if v6 => "*".to_owned(),
        None => "0.0.0.0".to_owned(),
    };
    if local && !socket.device.is_empty() {
        let _ = write!(address, "%{}", socket.device);
    }
    let port = match u16::try_from(end.port) {
        Ok(0) => "*".to_owned(),
        Ok(port) if !options.numeric => {
            options.services.name(socket.transport, port).map_or_else(|| port.to_string(), str::to_owned)
        }
        _ => end.port.to_string(),
    };
    (address, port)
}

fn rest(socket: &SocketDiag, options: &Options) -> String {
    let mut out = String::new();
    if options.processes {
        owners(&mut out, &socket.owners);
    }
    if options.options || options.extended {
        timer(&mut out, socket);
    }
    if options.extended {
        details(&mut out, socket);
    }
    if options.sockopt {
        sockopt(&mut out, socket);
    }
    let mut more = String::new();
    if options.memory
        && let Some(memory) = &socket.memory
    {
        info::memory(&mut more, memory);
    }
    if options.info {
        info::tcp(&mut more, socket, options.options || options.extended, options.numeric);
    }
    if !more.is_empty() {
        out.push_str(if options.one_line { "" } else { "\n\t" });
        out.push_str(&more);
    }
    out
}

/// ` users:(("curl",pid=1,fd=3))`; a descriptor that the daemon does not know is left out.
fn owners(out: &mut String, owners: &[SocketOwner]) {
    if owners.is_empty() {
        return;
    }
    out.push_str(" users:(");
    for (n, SocketOwner { process, fd }) in owners.iter().enumerate() {
        let process = process.clone().unwrap_or_default();
        // The name is the client's: it must not be able to end the line or move the cursor.
        let comm: String = process.comm.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let _ = write!(out, "{}(\"{comm}\",pid={}", if n > 0 { "," } else { "" }, process.pid);
        if *fd >= 0 {
            let _ = write!(out, ",fd={fd}");
        }
        out.push(')');
    }
    out.push(')');
}

/// ` inet-sockopt: ( recverr is_icsk ...)`, in `ss`'s words and order; those of other levels, which `ss` does not know, behind them.
fn sockopt(out: &mut String, socket: &SocketDiag) {
    out.push_str(" inet-sockopt: (");
    if let Some(o) = &socket.options {
        let tcp = socket.transport() == Transport::Tcp;
        for (name, on) in sockopt_names(o, tcp) {
            if on {
                let _ = write!(out, " {name}");
            }
        }
    }
    out.push(')');
}

/// Options by name.
pub fn sockopt_names(o: &SocketOptions, tcp: bool) -> [(&'static str, bool); 13] {
    [
        ("recverr", o.receive_error),
        ("is_icsk", tcp),
        ("freebind", o.freebind),
        ("transparent", o.transparent),
        ("bind_addr_no_port", o.bind_address_no_port),
        ("reuseaddr", o.reuse_address),
        ("reuseport", o.reuse_port),
        ("keepalive", o.keepalive),
        ("nodelay", o.no_delay),
        ("cork", o.cork),
        ("defer_accept", o.defer_accept),
        ("linger", o.linger),
        ("broadcast", o.broadcast),
    ]
}

fn timer(out: &mut String, socket: &SocketDiag) {
    let Some(timer) = &socket.timer else { return };
    let name = timer_name(timer.kind());
    if timer.kind() != TimerKind::Off {
        let _ = write!(out, " timer:({name},{},{})", number::timer(timer.expires_ms), timer.retransmits);
    }
}

/// The word in `timer:(..)`.
pub fn timer_name(kind: TimerKind) -> &'static str {
    match kind {
        TimerKind::Off => "off",
        TimerKind::On => "on",
        TimerKind::Keepalive => "keepalive",
        TimerKind::Timewait => "timewait",
        TimerKind::Persist => "persist",
    }
}

fn details(out: &mut String, socket: &SocketDiag) {
    if socket.uid != 0 {
        let _ = write!(out, " uid:{}", socket.uid);
    }
    let _ = write!(out, " ino:{} sk:{:x}", socket.inode, socket.cookie);
    if socket.mark != 0 {
        let _ = write!(out, " fwmark:{:#x}", socket.mark);
    }
    if socket.family() == AddressFamily::Inet6 && matches!(socket.state(), TcpState::Listen | TcpState::Close) {
        let _ = write!(out, " v6only:{}", u8::from(socket.v6only));
    }
    let side = |closed: bool, open| if closed { '-' } else { open };
    let _ = write!(out, " {}-{}", side(socket.shutdown & 1 != 0, '<'), side(socket.shutdown & 2 != 0, '>'));
}

#[cfg(test)]
mod tests;
