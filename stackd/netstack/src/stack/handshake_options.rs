//! Socket options that concern the handshake: they depend on the socket's state and on the namespace, not on one value alone.

use super::Stack;
use super::fastopen::{FastOpenKeys, bits};
use crate::socket::Body;
use crate::socket::opts::{OptionValue, name};
use stackd_base::{Errno, SockId};
use std::sync::Arc;

/// Options handled here.
pub(super) fn is_handshake_option(level: i32, option: i32) -> bool {
    level == name::SOL_TCP
        && matches!(
            option,
            name::TCP_FASTOPEN | name::TCP_FASTOPEN_CONNECT | name::TCP_FASTOPEN_KEY | name::TCP_FASTOPEN_NO_COOKIE
        )
}

impl Stack {
    /// `setsockopt` of one of these.
    pub(super) fn set_handshake_option(&mut self, sock: SockId, option: i32, value: &[u8]) -> Result<(), Errno> {
        let (somaxconn, mode) = (self.sysctls.net.somaxconn, self.sysctls.net.tcp_fastopen);
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        let (closed, listening) = match s.body {
            Body::TcpClosed => (true, false),
            Body::Listen(_) => (false, true),
            Body::Tcp(_) => (false, false),
            Body::Udp(_) => return Err(Errno::ENOPROTOOPT),
        };
        if option == name::TCP_FASTOPEN_KEY {
            let keys = FastOpenKeys::from_bytes(value).ok_or(Errno::EINVAL)?;
            Arc::make_mut(&mut s.opts).fastopen_key = Some(Box::new(keys));
            return Ok(());
        }
        let n = i32::from_ne_bytes(*value.first_chunk().ok_or(Errno::EINVAL)?);
        let flag = || if matches!(n, 0 | 1) { Ok(n == 1) } else { Err(Errno::EINVAL) };
        match option {
            name::TCP_FASTOPEN => {
                if n < 0 || !(closed || listening) {
                    return Err(Errno::EINVAL);
                }
                // Linux's fastopen_queue_tune.
                let most = (n as u32).min(somaxconn);
                Arc::make_mut(&mut s.opts).fastopen_qlen = most;
                if let Body::Listen(l) = &mut s.body {
                    l.fast_open_most = most;
                }
                self.ensure_fast_open_key();
            }
            name::TCP_FASTOPEN_CONNECT => {
                let on = flag()?;
                if mode & bits::CLIENT == 0 {
                    return Err(Errno::EOPNOTSUPP);
                }
                if !closed {
                    return Err(Errno::EINVAL);
                }
                Arc::make_mut(&mut s.opts).fastopen_connect = on;
            }
            name::TCP_FASTOPEN_NO_COOKIE => {
                let on = flag()?;
                if !(closed || listening) {
                    return Err(Errno::EINVAL);
                }
                Arc::make_mut(&mut s.opts).fastopen_no_cookie = on;
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    /// `getsockopt` of one of these.
    pub(super) fn get_handshake_option(&self, sock: SockId, option: i32) -> Result<OptionValue, Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let flag = |on: bool| OptionValue::Int(i32::from(on));
        Ok(match option {
            name::TCP_FASTOPEN => OptionValue::Int(match &s.body {
                Body::Listen(l) => l.fast_open_most,
                Body::TcpClosed | Body::Tcp(_) | Body::Udp(_) => s.opts.fastopen_qlen,
            } as i32),
            name::TCP_FASTOPEN_CONNECT => flag(s.opts.fastopen_connect),
            name::TCP_FASTOPEN_NO_COOKIE => flag(s.opts.fastopen_no_cookie),
            name::TCP_FASTOPEN_KEY => {
                let keys = s.opts.fastopen_key.as_deref().unwrap_or(&self.sysctls.net.tcp_fastopen_key);
                OptionValue::Bytes(if keys.is_unset() { Vec::new() } else { keys.to_bytes() })
            }
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }
}
