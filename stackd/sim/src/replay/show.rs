//! One event of a replay, for whoever shows it.

use anyhow::Result;
use stackd_base::{Duration, Instant};
use stackd_tcp::record::{EndReason, FlowRecording, Output, Replay, Step, View, Way, What, state_digest};
use std::fmt::Write;

/// Somebody who looks at every event.
pub trait Watcher {
    /// One event.
    fn see(&mut self, row: &Row<'_>) -> Result<()>;
    /// There are no more.
    fn finish(&mut self, summary: &Summary) -> Result<()>;
}

/// One event.
pub struct Row<'a> {
    pub step: &'a Step,
    pub since: Duration,
    pub began: Instant,
    pub text: String,
    pub differs: bool,
}

impl<'a> Row<'a> {
    pub fn of(step: &'a Step, began: Instant, way: Way) -> Self {
        let differs = match way {
            Way::Exact => !step.is_equal(),
            Way::OpenLoop => step.view != step.record.view || !step.own_timers.is_empty(),
        };
        Self { step, since: step.record.at - began, began, text: call_text(step), differs }
    }

    /// As recorded, and as it is now.
    pub fn views(&self) -> (&View, &View) {
        (&self.step.record.view, &self.step.view)
    }
}

/// A call in a few words, as tcpdump and strace would put it.
fn call_text(step: &Step) -> String {
    match &step.record.what {
        What::Segment { seg, len, .. } => {
            let mut text = format!("recv {:?} {:?}", seg.flags, seg.seq);
            if let Some(ack) = seg.ack {
                let _ = write!(text, " ack {ack:?}");
            }
            let _ = write!(text, " win {} len {len}", seg.window);
            if !seg.options.sack.as_slice().is_empty() {
                let _ = write!(text, " sack {:?}", seg.options.sack.as_slice());
            }
            if matches!(step.record.output, Output::Ingress(_)) && *len == 0 {
                text.push_str(" refused");
            }
            text
        }
        What::Transmit => match &step.record.output {
            Output::Sent(s) => {
                let again = if s.is_retransmit { " again" } else { "" };
                let mut text = format!("send{again} {:?} {:?} len {}", s.flags, s.seq, s.len);
                if let Some(wait) = s.departs_in {
                    let _ = write!(text, " in {wait:?}");
                }
                text
            }
            _ => "send nothing".into(),
        },
        What::TxComplete { bytes } => format!("sent {bytes}"),
        What::TxPiece { bytes } => format!("sent {bytes}, a piece"),
        What::Written { head } => format!("write to {head}"),
        What::Consumed { tail } => format!("read to {tail}"),
        What::Timeout => "timer".into(),
        What::Event => match &step.record.output {
            Output::Event(event) => format!("event {event:?}"),
            _ => "event".into(),
        },
        What::Icmp(error) => format!("icmp {:?}", error.kind),
        What::ShutdownWrite => "shutdown".into(),
        What::Close { unread } => if *unread { "close, data unread" } else { "close" }.into(),
        What::Abort => "abort".into(),
        What::SetCongestion { name } => format!("congestion control {name}"),
        What::Flush => String::from("flush (TCP_NODELAY)"),
        What::SetMore(more) => format!("more {}", if *more { "will be written (MSG_MORE)" } else { "need not come" }),
        What::SetReadShut(_) => "the application reads no more".to_owned(),
        What::MarkUrgent { end } => format!("urgent up to {end}"),
        What::SetRcvBuf(bytes) => format!("receive buffer of {bytes}"),
        What::UrgentTaken => "urgent byte read".to_owned(),
        What::Repair(call) => format!("repair: {call:?}"),
        What::SetPortPaces(paces) => format!("device {}", if *paces { "paces" } else { "does not pace" }),
        What::RearmKeepalive => "keepalive set".into(),
        // Rare ones, in the program's own words.
        other => format!("{other:?}"),
    }
}

/// The first event at which something differed.
pub struct First {
    pub index: u64,
    pub since: Duration,
    pub text: String,
    pub columns: Vec<(&'static str, u64, u64)>,
    /// What came of it differed.
    pub output: Option<(Output, Output)>,
    pub digest: bool,
}

/// What is to be said at the end.
pub struct Summary {
    pub events: u64,
    pub span: Duration,
    pub differing: u64,
    pub digests: u64,
    pub first: Option<First>,
    pub reason: Option<EndReason>,
    pub final_digest: Option<bool>,
    pub missing: u64,
    pub last: (View, View),
}

impl Summary {
    pub fn new(flow: &FlowRecording<'_>) -> Self {
        Self {
            events: 0,
            span: Duration::ZERO,
            differing: 0,
            digests: 0,
            first: None,
            reason: flow.end.map(|e| e.reason),
            final_digest: None,
            missing: 0,
            last: (View::default(), View::default()),
        }
    }

    pub fn see(&mut self, row: &Row<'_>) {
        let (recorded, now) = row.views();
        self.events += 1;
        self.span = row.since;
        self.digests += u64::from(row.step.digest.is_some());
        self.last = (*recorded, *now);
        if !row.differs {
            return;
        }
        self.differing += 1;
        if self.first.is_none() {
            let output = (row.step.output, row.step.record.output);
            self.first = Some(First {
                index: row.step.index,
                since: row.since,
                text: row.text.clone(),
                columns: recorded.differences(now).collect(),
                output: (output.0 != output.1).then_some((output.1, output.0)),
                digest: row.step.digest != row.step.record.digest,
            });
        }
    }

    pub fn finish(&mut self, flow: &FlowRecording<'_>, replay: &Replay<'_>, way: Way, digests: bool) {
        let Some(end) = flow.end else { return };
        self.missing = end.records.saturating_sub(self.events);
        if way == Way::Exact && self.missing == 0 && digests {
            self.final_digest = end.digest.map(|d| d == state_digest(replay.connection()));
        }
    }

    pub fn text(&self, way: Way) -> String {
        let mut out = String::new();
        let end = self.reason.map_or("the file is cut off", EndReason::text);
        let _ = writeln!(out, "{} events over {:?}; {end}", self.events, self.span);
        match (&self.first, way) {
            (None, Way::Exact) => {
                let whole = self.digests + u64::from(self.final_digest.is_some());
                let _ = writeln!(
                    out,
                    "the same life: equal at every event, {whole} checksums of the whole state among them"
                );
                if self.final_digest == Some(false) {
                    let _ = writeln!(out, "but the state at the end has another checksum than the recorded one");
                }
            }
            (None, Way::OpenLoop) => {
                let _ = writeln!(out, "nothing differs");
            }
            (Some(first), way) => {
                let _ = write!(out, "{}", first.lines());
                if way == Way::OpenLoop {
                    let _ = writeln!(out, "{} of {} events differ", self.differing, self.events);
                    let _ = writeln!(
                        out,
                        "open loop: the changed connection got the recorded answers and sent what was sent; what the peer would have answered is not known"
                    );
                } else {
                    let _ = writeln!(
                        out,
                        "this build behaves otherwise from there on; --open-loop leads it through the rest"
                    );
                }
            }
        }
        out
    }
}

impl First {
    pub fn lines(&self) -> String {
        let mut out = format!("first difference: event {} at {:?}, {}\n", self.index, self.since, self.text);
        for (name, recorded, now) in &self.columns {
            let _ = writeln!(out, "  {name:<15} recorded {:>20}  now {:>20}", value(*recorded), value(*now));
        }
        if let Some((recorded, now)) = &self.output {
            let _ = writeln!(out, "  output          recorded {recorded:?}\n                  now      {now:?}");
        }
        if self.digest && self.columns.is_empty() && self.output.is_none() {
            let _ = writeln!(out, "  only the checksum of the whole state differs");
        }
        out
    }
}

/// A column's value for a reader.
pub fn value(v: u64) -> String {
    if v == u64::MAX { "none".into() } else { v.to_string() }
}
