//! The one place where the daemon reads time and draws randomness from the system.

use rustix::time::{ClockId, clock_gettime};
use stackd_base::{Clock, Instant, Rng, SplitMix64};

/// CLOCK_MONOTONIC, read through the vDSO: about 25 ns, no system call, the same origin for every thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Monotonic;

impl Clock for Monotonic {
    fn now(&self) -> Instant {
        let t = clock_gettime(ClockId::Monotonic);
        Instant::from_nanos(t.tv_sec.cast_unsigned() * 1_000_000_000 + t.tv_nsec.cast_unsigned())
    }
}

/// Seconds and nanoseconds since 1970, for file formats and logs; never for protocol decisions.
pub fn wall_nanos() -> u64 {
    let t = clock_gettime(ClockId::Realtime);
    t.tv_sec.cast_unsigned() * 1_000_000_000 + t.tv_nsec.cast_unsigned()
}

/// 64 bits of the kernel's randomness.
pub fn os_random_u64() -> u64 {
    let mut bytes = [0u8; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            // A kernel without getrandom(2) is older than any this daemon runs on; the clock and pid still differ per start.
            Err(_) => return SplitMix64::new(wall_nanos() ^ u64::from(std::process::id())).next_u64(),
        }
    }
    u64::from_ne_bytes(bytes)
}
