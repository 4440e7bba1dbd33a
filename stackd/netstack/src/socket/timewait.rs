//! TIME_WAIT: what is left of a connection for a minute, in about a hundred bytes.

use crate::demux::FlowKey;
use crate::socket::ports::Hold;
use crate::timer_wheel::TimerWheel;
use slab::Slab;
use stackd_base::{DropReason, Duration, Instant, SeqNum};
use stackd_wire::{TcpFlags, TcpOptions, TcpRepr, Timestamps};

/// Linux's `TCP_TIMEWAIT_LEN`: not the RFC's 2 MSL of four minutes, but what everybody runs with.
pub const TIME_WAIT: Duration = Duration::from_secs(60);

/// What is left.
#[derive(Clone, Copy, Debug)]
pub struct TimeWait {
    /// Whose flow this was.
    pub flow: FlowKey,
    /// Our next sequence number (FIN counted).
    pub snd_nxt: SeqNum,
    /// The next one expected from the peer (FIN counted).
    pub rcv_nxt: SeqNum,
    /// Window we offered last, in bytes.
    pub rcv_wnd: u32,
    /// Shift of our window field.
    pub rcv_wscale: u8,
    /// Timestamps, if they were negotiated.
    pub ts: Option<TwTimestamps>,
    /// How it holds its local port.
    pub hold: Hold,
    /// TOS or traffic class of its answers.
    pub tos: u8,
    /// Still in FIN_WAIT_2: the peer's FIN is awaited without a socket.
    pub fin_wait_2: bool,
}

/// Timestamp state that outlives the connection.
#[derive(Clone, Copy, Debug)]
pub struct TwTimestamps {
    /// Last `tsval` accepted from the peer.
    pub recent: u32,
    /// When.
    pub recent_at: Instant,
    /// Added to our clock in milliseconds.
    pub offset: u32,
}

/// What an arriving segment means to a TIME_WAIT entry.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// Answer with this ACK and keep the entry (its minute may have been restarted).
    Ack(TcpRepr),
    /// Silently dropped for this reason.
    Drop(DropReason),
    /// The entry dies, nothing is sent.
    Kill,
    /// A new connection may take the four-tuple over; its ISS must be at least this.
    Reopen(SeqNum),
}

/// All entries of a shard.
#[derive(Debug, Default)]
pub struct TimeWaitTable {
    entries: Slab<TimeWait>,
    timers: TimerWheel,
}

impl TimeWaitTable {
    /// Entries alive.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// The entry of this index.
    pub fn get(&self, index: u32) -> Option<&TimeWait> {
        self.entries.get(index as usize)
    }
    /// All of them with what remains of their time.
    pub fn iter(&self, now: Instant) -> impl Iterator<Item = (&TimeWait, Duration)> {
        self.entries.iter().map(move |(i, e)| (e, self.timers.get(i as u32).map_or(Duration::ZERO, |d| d - now)))
    }
    /// A connection ends here for `lasts`.
    pub fn insert(&mut self, now: Instant, entry: TimeWait, lasts: Duration) -> u32 {
        let index = self.entries.insert(entry) as u32;
        self.timers.set(index, Some(now + lasts));
        index
    }
    /// Takes an entry out.
    pub fn remove(&mut self, index: u32) -> Option<TimeWait> {
        self.timers.set(index, None);
        self.entries.try_remove(index as usize)
    }
    /// An entry whose time is over.
    pub fn pop_expired(&mut self, now: Instant) -> Option<(u32, TimeWait)> {
        let index = self.timers.pop_expired(now)?;
        Some((index, self.entries.try_remove(index as usize)?))
    }
    /// When to look again.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Judges a segment that arrived for entry `index` (Linux's `tcp_timewait_state_process`).
    pub fn handle_segment(
        &mut self,
        now: Instant,
        index: u32,
        seg: &TcpRepr,
        payload_len: u32,
        rfc1337: bool,
        fin_timeout: Duration,
    ) -> Verdict {
        let Some(tw) = self.entries.get_mut(index as usize) else { return Verdict::Drop(DropReason::TcpNoSocket) };
        let paws_reject = match (tw.ts, seg.options.timestamps) {
            // RFC 7323, 5.3: "If there is a Timestamps option in the arriving segment, SEG.TSval < TS.Recent, ... the segment is not acceptable".
            (Some(ts), Some(t)) => {
                (t.tsval.wrapping_sub(ts.recent) as i32) < 0 && now - ts.recent_at < Duration::from_secs(24 * 86_400)
            }
            _ => false,
        };
        let end = seg.seq + seg.sequence_len(payload_len);
        let in_window = seg.seq == tw.rcv_nxt
            || (end.after_eq(tw.rcv_nxt)
                && seg.seq.before_eq(tw.rcv_nxt + tw.rcv_wnd)
                && !end.after(tw.rcv_nxt + tw.rcv_wnd));

        if tw.fin_wait_2 {
            return self.fin_wait_2(now, index, seg, end, paws_reject || !in_window, payload_len, fin_timeout);
        }
        if seg.flags.rst() {
            // RFC 1337, fix (F1): "Ignore RST segments in TIME-WAIT state."
            if paws_reject || seg.seq != tw.rcv_nxt || rfc1337 {
                return Verdict::Drop(DropReason::TcpTimeWait);
            }
            return Verdict::Kill;
        }
        // RFC 6191, 2: a SYN opens a new connection if its timestamp, or without timestamps its sequence number, is later than
        // the last one of the old.
        if seg.flags.syn() && seg.ack.is_none() && !paws_reject {
            let later_time = matches!((tw.ts, seg.options.timestamps),
                (Some(ts), Some(t)) if (t.tsval.wrapping_sub(ts.recent) as i32) > 0);
            if seg.seq.after(tw.rcv_nxt) || later_time {
                // As Linux: far beyond what the old connection could have in flight.
                return Verdict::Reopen(tw.snd_nxt + 65_535 + 2);
            }
        }
        if seg.seq == tw.rcv_nxt && seg.sequence_len(payload_len) == 0 && !paws_reject {
            if let (Some(ts), Some(t)) = (&mut tw.ts, seg.options.timestamps) {
                (ts.recent, ts.recent_at) = (t.tsval, now);
            }
            // An ACK in order needs no answer: answering could start a war of ACKs.
            return Verdict::Drop(DropReason::TcpTimeWait);
        }
        // RFC 9293, 3.10.7.4, TIME-WAIT: "The only thing that can arrive in this state is a retransmission of the remote FIN.
        // Acknowledge it, and restart the 2 MSL timeout."
        if !paws_reject || seg.flags.fin() {
            self.timers.set(index, Some(now + TIME_WAIT));
        }
        Verdict::Ack(self.entries[index as usize].ack(seg, now))
    }

    #[allow(clippy::too_many_arguments)]
    fn fin_wait_2(
        &mut self,
        now: Instant,
        index: u32,
        seg: &TcpRepr,
        end: SeqNum,
        unacceptable: bool,
        payload_len: u32,
        fin_timeout: Duration,
    ) -> Verdict {
        let tw = &mut self.entries[index as usize];
        if unacceptable {
            return if seg.flags.rst() {
                Verdict::Drop(DropReason::TcpTimeWait)
            } else {
                Verdict::Ack(tw.ack(seg, now))
            };
        }
        if seg.flags.rst() || seg.flags.syn() {
            return if seg.flags.rst() { Verdict::Kill } else { Verdict::Ack(tw.ack(seg, now)) };
        }
        if payload_len > 0 {
            // Data for an application that closed: RFC 2525, 2.17 wants it told. The caller answers with RST when the entry dies.
            return Verdict::Kill;
        }
        if !seg.flags.fin() {
            return Verdict::Drop(DropReason::TcpTimeWait);
        }
        tw.fin_wait_2 = false;
        tw.rcv_nxt = end;
        if let (Some(ts), Some(t)) = (&mut tw.ts, seg.options.timestamps) {
            (ts.recent, ts.recent_at) = (t.tsval, now);
        }
        let answer = tw.ack(seg, now);
        self.timers.set(index, Some(now + if fin_timeout > TIME_WAIT { fin_timeout } else { TIME_WAIT }));
        Verdict::Ack(answer)
    }
}

impl TimeWait {
    fn ack(&self, seg: &TcpRepr, now: Instant) -> TcpRepr {
        let timestamps =
            self.ts.map(|ts| Timestamps { tsval: (now.as_millis() as u32).wrapping_add(ts.offset), tsecr: ts.recent });
        TcpRepr {
            src_port: seg.dst_port,
            dst_port: seg.src_port,
            seq: self.snd_nxt,
            ack: Some(self.rcv_nxt),
            flags: TcpFlags::NONE,
            window: (self.rcv_wnd >> self.rcv_wscale).min(65_535) as u16,
            urgent: 0,
            options: TcpOptions { timestamps, ..TcpOptions::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> TimeWait {
        TimeWait {
            flow: FlowKey::new(([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 4000).into()),
            snd_nxt: SeqNum(1000),
            rcv_nxt: SeqNum(5000),
            rcv_wnd: 65_536,
            rcv_wscale: 7,
            ts: Some(TwTimestamps { recent: 100, recent_at: Instant::ZERO, offset: 0 }),
            hold: Hold::Follower(false),
            tos: 0,
            fin_wait_2: false,
        }
    }
    fn seg(seq: u32, flags: TcpFlags, tsval: u32) -> TcpRepr {
        TcpRepr {
            src_port: 4000,
            dst_port: 80,
            seq: SeqNum(seq),
            ack: (!flags.syn()).then_some(SeqNum(1000)),
            flags,
            options: TcpOptions { timestamps: Some(Timestamps { tsval, tsecr: 0 }), ..TcpOptions::default() },
            ..TcpRepr::default()
        }
    }
    fn judge(t: &mut TimeWaitTable, i: u32, s: &TcpRepr) -> Verdict {
        t.handle_segment(Instant::from_nanos(1), i, s, 0, false, TIME_WAIT)
    }

    #[test]
    fn a_retransmitted_fin_is_acknowledged_and_restarts_the_minute() {
        let mut t = TimeWaitTable::default();
        let i = t.insert(Instant::ZERO, entry(), TIME_WAIT);
        let later = Instant::ZERO + Duration::from_secs(59);
        let v = t.handle_segment(later, i, &seg(4999, TcpFlags::FIN, 101), 0, false, TIME_WAIT);
        assert!(matches!(v, Verdict::Ack(a) if a.ack == Some(SeqNum(5000)) && a.seq == SeqNum(1000)));
        assert!(t.pop_expired(later + Duration::from_secs(59)).is_none());
        assert!(t.pop_expired(later + Duration::from_secs(60)).is_some());
        assert!(t.is_empty());
    }

    #[test]
    fn rfc1337_an_rst_kills_the_entry_only_if_allowed_to() {
        let mut t = TimeWaitTable::default();
        let i = t.insert(Instant::ZERO, entry(), TIME_WAIT);
        let rst = seg(5000, TcpFlags::RST, 101);
        assert!(matches!(t.handle_segment(Instant::ZERO, i, &rst, 0, true, TIME_WAIT), Verdict::Drop(_)));
        assert!(matches!(judge(&mut t, i, &seg(5001, TcpFlags::RST, 101)), Verdict::Drop(_)));
        assert!(matches!(judge(&mut t, i, &rst), Verdict::Kill));
    }

    #[test]
    fn rfc6191_a_later_syn_reopens_and_an_older_one_does_not() {
        let mut t = TimeWaitTable::default();
        let i = t.insert(Instant::ZERO, entry(), TIME_WAIT);
        assert!(
            matches!(judge(&mut t, i, &seg(5001, TcpFlags::SYN, 100)), Verdict::Reopen(iss) if iss.after(SeqNum(1000)))
        );
        assert!(matches!(judge(&mut t, i, &seg(10, TcpFlags::SYN, 101)), Verdict::Reopen(_)));
        assert!(matches!(judge(&mut t, i, &seg(10, TcpFlags::SYN, 100)), Verdict::Ack(_)));
        assert!(matches!(judge(&mut t, i, &seg(5001, TcpFlags::SYN, 99)), Verdict::Ack(_)));
    }

    #[test]
    fn an_orphan_in_fin_wait_2_goes_on_to_time_wait_when_the_fin_comes() {
        let mut t = TimeWaitTable::default();
        let i = t.insert(Instant::ZERO, TimeWait { fin_wait_2: true, ..entry() }, TIME_WAIT);
        let v = judge(&mut t, i, &seg(5000, TcpFlags::FIN, 101));
        assert!(matches!(v, Verdict::Ack(a) if a.ack == Some(SeqNum(5001))));
        assert!(t.get(i).is_some_and(|e| !e.fin_wait_2 && e.rcv_nxt == SeqNum(5001)));
    }
}
