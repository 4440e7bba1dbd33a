//! `SOL_SOCKET`: Linux's rules for what may be set, and what is read back.

use super::ancillary::Stamp;
use super::ip_opts::Interfaces;
use super::opts::{Context, Effect, Linger, MIN_RCVBUF, MIN_SNDBUF, OptionValue, SockOpts, int, name, within};
use stackd_base::{Errno, PortId};

impl SockOpts {
    pub(super) fn set_socket(
        &mut self,
        cx: Context,
        option: i32,
        value: &[u8],
        ports: &dyn Interfaces,
    ) -> Result<Effect, Errno> {
        if option == name::SO_BINDTODEVICE {
            let end = value.iter().position(|&b| b == 0).unwrap_or(value.len()).min(15);
            let device = match &value[..end] {
                [] => None,
                bytes => {
                    let text = core::str::from_utf8(bytes).map_err(|_| Errno::ENODEV)?;
                    Some(ports.named(text).ok_or(Errno::ENODEV)?)
                }
            };
            self.may_leave_device(cx)?;
            self.device = device;
            return Ok(Effect::Claim);
        }
        let n = int(value)?;
        if option == name::SO_TXTIME {
            self.txtime = Some(txtime(cx, value)?);
            return Ok(Effect::None);
        }
        let flag = n != 0;
        match option {
            name::SO_REUSEADDR => {
                self.reuseaddr = flag;
                return Ok(Effect::Claim);
            }
            name::SO_REUSEPORT => {
                self.reuseport = flag;
                return Ok(Effect::Claim);
            }
            name::SO_BROADCAST => self.broadcast = flag,
            name::SO_OOBINLINE => self.oobinline = flag,
            name::SO_DEBUG if flag && !cx.privileged => return Err(Errno::EACCES),
            name::SO_DEBUG => self.debug = flag,
            name::SO_NO_CHECK => self.no_check = flag,
            // Linux forgot what it meant, and says yes.
            name::SO_BSDCOMPAT => {}
            name::SO_LINGER => {
                let seconds = value.get(4..8).ok_or(Errno::EINVAL).and_then(int)?;
                self.linger = Linger { on: flag, seconds: seconds.max(0) as u32 };
            }
            name::SO_PRIORITY if !(0..=6).contains(&n) && !cx.privileged => return Err(Errno::EPERM),
            name::SO_PRIORITY => self.priority = n as u32,
            name::SO_MARK if !cx.privileged => return Err(Errno::EPERM),
            name::SO_MARK => self.mark = n as u32,
            name::SO_RCVTIMEO => self.rcvtimeo = timeval(value)?,
            name::SO_SNDTIMEO => self.sndtimeo = timeval(value)?,
            name::SO_PEEK_OFF => self.peek_off = n,
            name::SO_SELECT_ERR_QUEUE => self.select_err_queue = flag,
            name::SO_BUSY_POLL => self.busy_poll = within(n, 0, i32::MAX)? as i32,
            name::SO_ZEROCOPY => self.zerocopy = within(n, 0, 1)? == 1,
            name::SO_BINDTOIFINDEX => {
                self.may_leave_device(cx)?;
                let found = |p: &PortId| ports.exists(*p);
                self.device = match within(n, 0, i32::MAX)? {
                    0 => None,
                    n => Some(Some(PortId(n)).filter(found).ok_or(Errno::ENODEV)?),
                };
                return Ok(Effect::Claim);
            }
            // The bytes of a stream carry no time.
            _ if Stamp::of_option(option).is_some() && !cx.tcp => {
                self.ip.wanted.stamp = Stamp::of_option(option).filter(|_| flag);
            }
            // They belong to AF_UNIX and the like.
            name::SO_PASSCRED | name::SO_PASSSEC => return Err(Errno::EOPNOTSUPP),
            _ => return self.set_flow(cx, option, n, value),
        }
        Ok(Effect::None)
    }

    /// Linux: everybody may keep a socket to an interface, and only who has privileges takes it away again.
    const fn may_leave_device(&self, cx: Context) -> Result<(), Errno> {
        if self.device.is_some() && !cx.privileged { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Options that a live connection must hear of.
    fn set_flow(&mut self, cx: Context, option: i32, n: i32, value: &[u8]) -> Result<Effect, Errno> {
        let doubled = |n: u32, floor: u32| Some(n.min(i32::MAX as u32 / 2).saturating_mul(2).max(floor));
        match option {
            name::SO_KEEPALIVE => self.keepalive = n != 0,
            // socket(7): "The kernel doubles this value (to allow space for bookkeeping overhead)". A negative one is a large one.
            name::SO_SNDBUF => self.sndbuf = doubled((n as u32).min(cx.wmem_max), MIN_SNDBUF),
            name::SO_RCVBUF => self.rcvbuf = doubled((n as u32).min(cx.rmem_max), MIN_RCVBUF),
            name::SO_SNDBUFFORCE | name::SO_RCVBUFFORCE if !cx.privileged => return Err(Errno::EPERM),
            name::SO_SNDBUFFORCE => self.sndbuf = doubled(n.max(0) as u32, MIN_SNDBUF),
            name::SO_RCVBUFFORCE => self.rcvbuf = doubled(n.max(0) as u32, MIN_RCVBUF),
            name::SO_RCVLOWAT => {
                let wanted = if n < 0 { i32::MAX as u32 } else { n as u32 };
                self.rcvlowat = wanted.min(if cx.tcp { cx.lowat_max } else { u32::MAX }).max(1);
            }
            name::SO_MAX_PACING_RATE => {
                self.max_pacing_rate = match value.first_chunk::<8>() {
                    Some(b) => u64::from_ne_bytes(*b),
                    None if n == -1 => u64::MAX,
                    None => u64::from(n as u32),
                };
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(Effect::Connection)
    }

    /// Reads what is stored here.
    pub(super) fn get_socket(&self, cx: Context, option: i32) -> Option<OptionValue> {
        let flag = |b: bool| Some(OptionValue::Int(i32::from(b)));
        let number = |n: u32| Some(OptionValue::Int(n as i32));
        match option {
            name::SO_REUSEADDR => flag(self.reuseaddr),
            name::SO_REUSEPORT => flag(self.reuseport),
            name::SO_BROADCAST => flag(self.broadcast),
            name::SO_OOBINLINE => flag(self.oobinline),
            name::SO_KEEPALIVE => flag(self.keepalive),
            name::SO_DEBUG => flag(self.debug),
            name::SO_NO_CHECK => flag(self.no_check),
            name::SO_BSDCOMPAT => number(0),
            name::SO_LINGER => Some(OptionValue::Pair(i32::from(self.linger.on), self.linger.seconds as i32)),
            name::SO_PRIORITY => number(self.priority),
            name::SO_MARK => number(self.mark),
            name::SO_RCVLOWAT => number(self.rcvlowat),
            name::SO_SNDLOWAT => number(1),
            name::SO_RCVTIMEO => Some(time(self.rcvtimeo)),
            name::SO_SNDTIMEO => Some(time(self.sndtimeo)),
            name::SO_TXTIME => Some(match self.txtime {
                Some(flags) => OptionValue::Pair(CLOCK_MONOTONIC, flags as i32),
                None => OptionValue::Pair(0, 0),
            }),
            name::SO_PEEK_OFF => Some(OptionValue::Int(self.peek_off)),
            name::SO_SELECT_ERR_QUEUE => flag(self.select_err_queue),
            name::SO_BUSY_POLL => Some(OptionValue::Int(self.busy_poll)),
            name::SO_ZEROCOPY => flag(self.zerocopy),
            name::SO_BINDTOIFINDEX => number(self.device.map_or(0, |p| p.0)),
            name::SO_MAX_PACING_RATE => Some(OptionValue::Long(self.max_pacing_rate)),
            _ if !cx.tcp => Stamp::of_option(option).and_then(|stamp| flag(self.ip.wanted.stamp == Some(stamp))),
            _ => None,
        }
    }
}

/// The only clock of departure times, Linux's number: the one that stackd and its clients share, and the one that fq keeps.
const CLOCK_MONOTONIC: i32 = 1;
/// `SOF_TXTIME_DEADLINE_MODE` and `SOF_TXTIME_REPORT_ERRORS`: both concern qdiscs with deadlines (etf); fq has none and reports nothing.
const TXTIME_FLAGS: u32 = 3;

/// A `struct sock_txtime`: its flags.
fn txtime(cx: Context, value: &[u8]) -> Result<u32, Errno> {
    let [clock, flags] = [0, 4].map(|at| value.get(at..).and_then(|v| v.first_chunk::<4>()).copied());
    let (Some(clock), Some(flags), 8) = (clock, flags, value.len()) else { return Err(Errno::EINVAL) };
    let (clock, flags) = (i32::from_ne_bytes(clock), u32::from_ne_bytes(flags));
    match clock {
        _ if flags & !TXTIME_FLAGS != 0 => Err(Errno::EINVAL),
        CLOCK_MONOTONIC => Ok(flags),
        _ if !cx.privileged => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// A `struct timeval`; zero = for ever.
fn timeval(value: &[u8]) -> Result<(i64, i64), Errno> {
    let bytes = value.first_chunk::<16>().ok_or(Errno::EINVAL)?;
    let (seconds, micros) = bytes.split_at(8);
    let long = |b: &[u8]| b.first_chunk().map_or(0, |b| i64::from_ne_bytes(*b));
    let (seconds, micros) = (long(seconds), long(micros));
    // Linux: EDOM for microseconds that are none.
    if !(0..1_000_000).contains(&micros) {
        return Err(Errno::EDOM);
    }
    Ok((seconds.max(0), if seconds < 0 { 0 } else { micros }))
}

fn time((seconds, micros): (i64, i64)) -> OptionValue {
    OptionValue::Bytes([seconds.to_ne_bytes(), micros.to_ne_bytes()].concat())
}
