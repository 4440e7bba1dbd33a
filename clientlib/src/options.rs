//! Socket options: Linux's levels, numbers and layouts.

use crate::socket::Sock;
use stackd_shm::abi::{ARG_BYTES, Arg, Opcode};
use std::io;
use std::time::Duration;

pub(crate) const SOL_SOCKET: i32 = 1;
pub(crate) const SO_REUSEADDR: i32 = 2;
pub(crate) const SO_ERROR: i32 = 4;
pub(crate) const SO_BROADCAST: i32 = 6;
pub(crate) const SO_SNDBUF: i32 = 7;
pub(crate) const SO_RCVBUF: i32 = 8;
pub(crate) const SO_KEEPALIVE: i32 = 9;
pub(crate) const SO_OOBINLINE: i32 = 10;
pub(crate) const SO_LINGER: i32 = 13;
pub(crate) const SO_REUSEPORT: i32 = 15;
pub(crate) const SO_RCVLOWAT: i32 = 18;
pub(crate) const SO_RCVTIMEO: i32 = 20;
pub(crate) const SO_SNDTIMEO: i32 = 21;
pub(crate) const SO_PEEK_OFF: i32 = 42;
pub(crate) const SO_BUSY_POLL: i32 = 46;
pub(crate) const SO_ZEROCOPY: i32 = 60;
pub(crate) const TCP_INQ: i32 = 36;
pub(crate) const SO_MAX_PACING_RATE: i32 = 47;
pub(crate) const IPPROTO_IP: i32 = 0;
pub(crate) const IP_TTL: i32 = 2;
pub(crate) const IPPROTO_IPV6: i32 = 41;
pub(crate) const IPV6_UNICAST_HOPS: i32 = 16;
pub(crate) const IPPROTO_TCP: i32 = 6;
pub(crate) const TCP_NODELAY: i32 = 1;
pub(crate) const TCP_CORK: i32 = 3;
pub(crate) const TCP_KEEPIDLE: i32 = 4;
pub(crate) const TCP_KEEPINTVL: i32 = 5;
pub(crate) const TCP_KEEPCNT: i32 = 6;
pub(crate) const TCP_INFO: i32 = 11;
pub(crate) const TCP_QUICKACK: i32 = 12;
pub(crate) const TCP_CONGESTION: i32 = 13;
pub(crate) const TCP_USER_TIMEOUT: i32 = 18;
pub(crate) const TCP_FASTOPEN: i32 = 23;
pub(crate) const TCP_NOTSENT_LOWAT: i32 = 25;
pub(crate) const TCP_FASTOPEN_CONNECT: i32 = 30;
pub(crate) const TCP_MD5SIG_EXT: i32 = 32;
pub(crate) const TCP_AO_ADD_KEY: i32 = 38;

/// What close (the drop of the last handle) does with bytes not yet acknowledged: `None`, it sends them in the background; `Some(t)`, it waits until
/// the peer has them, `t` at most, then goes on in the background (a socket of tokio's does not wait); `Some(0)`, it resets the connection.
pub type Linger = Option<Duration>;

/// A `struct timeval` as SO_RCVTIMEO takes it; zero means no timeout.
pub(crate) fn timeval(value: &[u8]) -> Option<Duration> {
    let (seconds, micros) = value.first_chunk::<16>()?.split_at(8);
    let seconds = i64::from_ne_bytes(seconds.try_into().ok()?);
    let micros = i64::from_ne_bytes(micros.try_into().ok()?);
    // Linux: a negative time does not wait at all; the least that a deadline can say.
    let Ok(seconds) = u64::try_from(seconds) else { return Some(Duration::from_nanos(1)) };
    Some(Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(micros).ok()?))
}

fn too_long(len: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("an option value of {len} bytes; at most {ARG_BYTES} go"))
}

impl Sock {
    pub(crate) fn set(&self, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
        let arg = Arg::from_bytes(value).ok_or_else(|| too_long(value.len()))?;
        self.call(Opcode::SetSockOpt, [level as u64, name as u64, 0, 0, 0], &arg).map(drop)
    }

    pub(crate) fn get(&self, level: i32, name: i32, max: usize) -> io::Result<Vec<u8>> {
        let args = [level as u64, name as u64, max.min(ARG_BYTES) as u64, 0, 0];
        Ok(self.call(Opcode::GetSockOpt, args, Arg::NONE)?.arg().as_bytes().to_vec())
    }

    pub(crate) fn set_int(&self, level: i32, name: i32, value: i32) -> io::Result<()> {
        self.set(level, name, &value.to_ne_bytes())
    }

    pub(crate) fn get_int(&self, level: i32, name: i32) -> io::Result<i32> {
        let bytes = self.get(level, name, 4)?;
        let four = bytes
            .first_chunk()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an option shorter than an int"))?;
        Ok(i32::from_ne_bytes(*four))
    }

    pub(crate) fn set_size(&self, name: i32, bytes: usize) -> io::Result<()> {
        self.set_int(SOL_SOCKET, name, i32::try_from(bytes).unwrap_or(i32::MAX))
    }

    pub(crate) fn get_size(&self, name: i32) -> io::Result<usize> {
        Ok(usize::try_from(self.get_int(SOL_SOCKET, name)?).unwrap_or(0))
    }

    fn hop_option(&self) -> io::Result<(i32, i32)> {
        let v4 = self.name(Opcode::GetSockName)?.is_ipv4();
        Ok(if v4 { (IPPROTO_IP, IP_TTL) } else { (IPPROTO_IPV6, IPV6_UNICAST_HOPS) })
    }

    pub(crate) fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let (level, name) = self.hop_option()?;
        self.set_int(level, name, i32::try_from(ttl).map_err(|_| io::ErrorKind::InvalidInput)?)
    }

    pub(crate) fn ttl(&self) -> io::Result<u32> {
        let (level, name) = self.hop_option()?;
        Ok(self.get_int(level, name)? as u32)
    }

    pub(crate) fn set_linger(&self, linger: Linger) -> io::Result<()> {
        // struct linger { int l_onoff; int l_linger /* seconds */; }: a fraction rounds up, so that it does not become a reset.
        let seconds =
            linger.map_or(0, |t| i32::try_from(t.as_secs() + u64::from(t.subsec_nanos() > 0)).unwrap_or(i32::MAX));
        let mut value = [0; 8];
        value[..4].copy_from_slice(&i32::from(linger.is_some()).to_ne_bytes());
        value[4..].copy_from_slice(&seconds.to_ne_bytes());
        self.set_local(SOL_SOCKET, SO_LINGER, &value)
    }

    pub(crate) fn linger(&self) -> io::Result<Linger> {
        let bytes = self.get(SOL_SOCKET, SO_LINGER, 8)?;
        let whole: [u8; 8] = bytes.as_slice().try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        let [a, b, c, d, e, f, g, h] = whole;
        let (on, seconds) = (i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h]));
        Ok((on != 0).then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
    }

    /// Seconds, rounded up, as keepalive options want.
    pub(crate) fn set_seconds(&self, name: i32, time: Duration) -> io::Result<()> {
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        self.set_int(IPPROTO_TCP, name, i32::try_from(seconds).unwrap_or(i32::MAX))
    }
}
