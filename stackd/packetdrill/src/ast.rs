//! A parsed script, and how its parts are written.

use stackd_base::Duration;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A whole script.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Script {
    /// `--name=value` lines.
    pub options: Vec<ScriptOption>,
    /// The command before the first event.
    pub init: Option<Command>,
    /// What happens, in order.
    pub events: Vec<Event>,
    /// The command after the last event, which has no time.
    pub cleanup: Option<Command>,
}

/// One option of a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptOption {
    /// Where.
    pub line: u32,
    /// Without the dashes.
    pub name: String,
    /// What follows `=`.
    pub value: Option<String>,
}

/// A shell command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// Where it starts.
    pub line: u32,
    /// All of it, line ends included.
    pub text: String,
}

/// Something that happens, or should.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Where.
    pub line: u32,
    /// When.
    pub time: Time,
    /// What.
    pub action: Action,
}

/// When an event happens. Absolute times count from the start of the script, relative ones from the event before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Time {
    Absolute(Duration),
    Relative(Duration),
    /// `*`: an outbound packet at any time.
    Any,
    AbsoluteRange(Duration, Duration),
    RelativeRange(Duration, Duration),
}

/// What happens.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// A packet goes to (`<`) or comes from (`>`) the stack.
    Packet(Box<Packet>),
    /// A program makes a system call.
    Syscall(Syscall),
    /// A shell command.
    Command(Command),
    /// Python.
    Code(String),
}

/// A packet.
#[derive(Clone, PartialEq, Debug)]
pub struct Packet {
    /// `<`: into the stack.
    pub inbound: bool,
    /// `socket(4)` in front: it is of that descriptor's connection.
    pub socket: Option<i64>,
    /// Headers around it, outermost first.
    pub outer: Vec<Outer>,
    /// What is said of its IP header.
    pub ip: IpInfo,
    /// The rest.
    pub body: Body,
}

/// A header around a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outer {
    /// `ipv4 1.1.1.1 > 2.2.2.2:`.
    V4 {
        /// Source.
        src: Ipv4Addr,
        /// Destination.
        dst: Ipv4Addr,
        /// What is said of it.
        ip: IpInfo,
    },
    /// `ipv6 1:: > 2:::`.
    V6 {
        /// Source.
        src: Ipv6Addr,
        /// Destination.
        dst: Ipv6Addr,
        /// What is said of it.
        ip: IpInfo,
    },
    /// `gre:` with its optional fields as 32-bit words behind the flags.
    Gre {
        /// C, K, S as on the wire.
        flags: u16,
        /// Checksum and offset.
        sum: u32,
        /// Key.
        key: u32,
        /// Sequence number.
        seq: u32,
    },
    /// `mpls (label 1, tc 0, [S], ttl 9)…:` as label stack entries.
    Mpls(Vec<u32>),
}

/// What is checked, or set, in the TOS octet or traffic class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tos {
    /// Nothing.
    #[default]
    Any,
    /// The ECN bits: `[noecn]`, `[ect1]`, `[ect0]`, `[ce]` are 0 to 3.
    Ecn(u8),
    /// `[ect01]`: either of the two.
    Ect01,
    /// All of it.
    Octet(u8),
}

/// What a script says of an IP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IpInfo {
    /// TOS or traffic class.
    pub tos: Tos,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// IPv6 flow label.
    pub flow_label: Option<u32>,
}

/// Ports of a packet in its own direction.
pub type Ports = (u16, u16);

/// What follows the IP header.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// A TCP segment.
    Tcp(Tcp),
    /// `udp (100)`.
    Udp {
        /// `1000>2000` in front.
        ports: Option<Ports>,
        /// Bytes of payload.
        len: u16,
    },
    /// `icmp unreachable port_unreachable [1:1001(1000)]`.
    Icmp(Icmp),
}

/// A TCP segment in script space.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tcp {
    /// `1000>2000` in front.
    pub ports: Option<Ports>,
    /// The bits as on the wire, AE to FIN.
    pub flags: u16,
    /// AccECN's counter was written as a number: it stands in AE, CWR, ECE.
    pub ace: bool,
    /// First sequence number.
    pub seq: u32,
    /// Bytes of payload.
    pub len: u16,
    /// Acknowledgment number.
    pub ack: u32,
    /// Window field.
    pub win: Option<u16>,
    /// Urgent pointer.
    pub urg: u16,
    /// Options in order; `None` = `<...>`, whatever they are.
    pub options: Option<Vec<TcpOption>>,
}

/// Bits of a TCP header.
#[allow(missing_docs)]
pub mod flag {
    pub const FIN: u16 = 0x001;
    pub const SYN: u16 = 0x002;
    pub const RST: u16 = 0x004;
    pub const PSH: u16 = 0x008;
    pub const ACK: u16 = 0x010;
    pub const URG: u16 = 0x020;
    pub const ECE: u16 = 0x040;
    pub const CWR: u16 = 0x080;
    pub const AE: u16 = 0x100;
}

/// A TCP option.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum TcpOption {
    Eol,
    Nop,
    Mss(u16),
    WindowScale(u8),
    SackOk,
    Sack(Vec<(u32, u32)>),
    Timestamp {
        val: u32,
        ecr: u32,
    },
    FastOpen(Vec<u8>),
    /// Fast Open in the experimental option (254, 0xf989).
    FastOpenExp(Vec<u8>),
    Md5(Vec<u8>),
    /// `ECN e0b 1 ceb 0 e1b 1` (option 172), or `e1b` first (174).
    AccEcn {
        e1_first: bool,
        counters: Vec<u32>,
    },
    /// Any other: `opt KIND HEX`.
    Other {
        kind: u8,
        data: Vec<u8>,
    },
}

/// An ICMP message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Icmp {
    /// Type by name or `type_N`.
    pub kind: String,
    /// Code by name or `code_N`.
    pub code: Option<String>,
    /// `mtu N`.
    pub mtu: Option<u32>,
    /// `id N`.
    pub id: Option<u16>,
    /// What it quotes.
    pub quoted: Option<Quoted>,
}

/// The packet that an ICMP message quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Quoted {
    Tcp {
        seq: u32,
        len: u16,
    },
    Udp {
        len: u16,
    },
    /// Not quoted: so many bytes of message.
    Raw {
        len: u16,
    },
}

/// A system call with the result it should have.
#[derive(Clone, PartialEq, Debug)]
pub struct Syscall {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// It blocks, until this time (of the same kind as the event's).
    pub end: Option<Duration>,
    /// The value.
    pub result: Expr,
    /// The error's name.
    pub errno: Option<String>,
    /// What stands in parentheses behind it.
    pub note: Option<String>,
}

/// An expression in C.
#[derive(Clone, PartialEq, Debug)]
pub enum Expr {
    /// `...`: any value.
    Ellipsis,
    /// A number; true if it was written in hexadecimal.
    Int(i64, bool),
    /// A symbol.
    Word(String),
    /// A string, concatenated.
    Str(Vec<u8>),
    /// `"abc"...`: a string, shown cut.
    StrEllipsis(Vec<u8>),
    /// `a | b`.
    Or(Box<Expr>, Box<Expr>),
    /// `symbol = value`.
    Assign(String, Box<Expr>),
    /// `[a, b]`.
    Array(Vec<Expr>),
    /// `{a, b}`.
    Braces(Vec<Expr>),
    /// `{name = value, name(argument) = value}`.
    Struct(Vec<Field>),
    /// `htons(1)`, `inet_addr("1.1.1.1")`.
    Call(String, Vec<Expr>),
}

/// A field of a struct.
#[derive(Clone, PartialEq, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What stands in parentheses behind it.
    pub arg: Option<Expr>,
    /// Its value.
    pub value: Expr,
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list(f: &mut fmt::Formatter<'_>, items: &[Expr]) -> fmt::Result {
            for (i, e) in items.iter().enumerate() {
                write!(f, "{}{e}", if i > 0 { ", " } else { "" })?;
            }
            Ok(())
        }
        match self {
            Self::Ellipsis => f.write_str("..."),
            Self::Int(n, false) => write!(f, "{n}"),
            Self::Int(n, true) => write!(f, "{n:#x}"),
            Self::Word(w) => f.write_str(w),
            Self::Str(s) => write!(f, "\"{}\"", s.escape_ascii()),
            Self::StrEllipsis(s) => write!(f, "\"{}\"...", s.escape_ascii()),
            Self::Or(a, b) => write!(f, "{a}|{b}"),
            Self::Assign(n, v) => write!(f, "{n}={v}"),
            Self::Array(items) => {
                f.write_str("[")?;
                list(f, items)?;
                f.write_str("]")
            }
            Self::Braces(items) => {
                f.write_str("{")?;
                list(f, items)?;
                f.write_str("}")
            }
            Self::Struct(fields) => {
                f.write_str("{")?;
                for (i, field) in fields.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    match &field.arg {
                        Some(arg) => write!(f, "{comma}{}({arg})={}", field.name, field.value)?,
                        None => write!(f, "{comma}{}={}", field.name, field.value)?,
                    }
                }
                f.write_str("}")
            }
            Self::Call(name, args) => {
                write!(f, "{name}(")?;
                list(f, args)?;
                f.write_str(")")
            }
        }
    }
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (i, a) in self.args.iter().enumerate() {
            write!(f, "{}{a}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str(")")
    }
}
