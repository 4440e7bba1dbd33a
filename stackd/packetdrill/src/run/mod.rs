//! Runs a parsed script against a stack.

mod call;
mod code;
mod command;
mod epoll;
mod expect;
mod fds;
mod flow;
mod host;
mod inject;

use crate::ast::{Action, Event, Script, Syscall, Time};
use crate::config::Config;
use crate::error::{Failure, Result};
use crate::python::Names;
use call::Progress;
use fds::Fds;
use flow::Flow;
use host::Host;
use stackd_base::{Duration, Instant, MibCounters, SockId};
use std::collections::BTreeMap;

/// How long a packet or the end of a call is waited for, to say when it did happen.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a script did, for whoever asked to see it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// What code snippets printed and what differed without being fatal.
    pub output: Vec<String>,
    /// Events that ran.
    pub events: usize,
}

/// A blocking system call under way.
struct Pending {
    line: u32,
    call: Syscall,
    /// When it should return.
    end: Instant,
    /// How long before that the script asked for it.
    took: Duration,
    progress: Progress,
}

/// Bytes of a socket as the script's programs and peers made them.
#[derive(Clone, Debug, Default)]
struct Streams {
    /// Everything that was written.
    tx: Vec<u8>,
    /// How much of what the peer sent was read.
    read: usize,
    /// Where the urgent byte stood that `MSG_OOB` read.
    urgent_read: Option<u64>,
}

struct Runner<'a> {
    file: &'a str,
    cfg: &'a Config,
    host: Host,
    flows: Vec<Flow>,
    /// The connection that packets without ports belong to.
    current: Option<usize>,
    streams: BTreeMap<SockId, Streams>,
    fds: Fds,
    names: Names,
    /// Counters when the script started, or when `nstat` forgot the past.
    counters: MibCounters,
    /// Ports that peers got.
    peers: u16,
    start: Instant,
    /// Time of the last event.
    last: Instant,
    pending: Option<Pending>,
    report: Report,
}

/// Runs a script.
///
/// # Errors
/// The first thing that is not as the script says, or that cannot be done.
pub fn run(file: &str, script: &Script, cfg: &Config) -> Result<Report> {
    let host = Host::new(cfg);
    let (start, counters) = (host.now, host.stack.mib().clone());
    let mut runner = Runner {
        file,
        cfg,
        host,
        flows: Vec::new(),
        current: None,
        streams: BTreeMap::new(),
        fds: Fds::default(),
        names: code::constants(),
        counters,
        peers: 0,
        start,
        last: start,
        pending: None,
        report: Report::default(),
    };
    if let Some(init) = &script.init {
        runner.command(init)?;
    }
    for event in &script.events {
        runner.event(event)?;
        runner.report.events += 1;
    }
    runner.finish_pending()?;
    if cfg.reject_trailing {
        runner.reject_trailing(script.events.last().map_or(0, |e| e.line))?;
    }
    if let Some(cleanup) = &script.cleanup {
        runner.command(cleanup)?;
    }
    Ok(runner.report)
}

impl Runner<'_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        let (at, end) = match event.time {
            Time::Absolute(t) => (self.start + t, None),
            Time::Relative(t) => (self.last + t, None),
            Time::Any => (self.last, None),
            Time::AbsoluteRange(a, b) => (self.start + a, Some(self.start + b)),
            Time::RelativeRange(a, b) => (self.last + a, Some(self.last + b)),
        };
        if at < self.last && matches!(event.time, Time::Absolute(_)) {
            return Err(Failure::syntax(
                self.file,
                event.line,
                format!("time runs backwards: it is {} already", self.clock(self.last)),
            ));
        }
        if let Action::Packet(p) = &event.action
            && let Some(fd) = p.socket
        {
            let Some(flow) = self.fds.socket(fd).and_then(|s| s.flow) else {
                return Err(Failure::syntax(self.file, event.line, format!("socket({fd}) is no open connection")));
            };
            self.current = Some(flow);
        }
        match &event.action {
            Action::Packet(p) if p.inbound => {
                self.advance(at)?;
                self.inject(event.line, p)?;
            }
            Action::Packet(p) => {
                let window = match (event.time, end) {
                    (Time::Any, _) => None,
                    (_, Some(end)) => Some((at, end)),
                    (_, None) => Some((at, at)),
                };
                self.expect(event.line, p, window)?;
            }
            Action::Syscall(call) => {
                // One program makes the calls: the next one waits for the one before.
                self.finish_pending()?;
                self.advance(at)?;
                let end = call.end.map(|e| match event.time {
                    Time::Relative(_) => self.last + e,
                    _ => self.start + e,
                });
                self.begin_call(event.line, call, end)?;
            }
            Action::Command(c) => {
                self.advance(at)?;
                self.command(c)?;
            }
            Action::Code(text) => {
                self.advance(at)?;
                self.code(event.line, text)?;
            }
        }
        self.poll_pending()?;
        self.last = self.host.now;
        Ok(())
    }

    /// Lets time pass, calls that block included.
    fn advance(&mut self, to: Instant) -> Result<()> {
        loop {
            self.poll_pending()?;
            let wake = self.pending.as_ref().and_then(|p| p.progress.wake).filter(|&w| w < to);
            let end = wake.unwrap_or(to);
            if !self.host.step(end) {
                self.host.advance(end);
                self.take_events();
                self.poll_pending()?;
                if end == to {
                    return Ok(());
                }
            }
            self.take_events();
        }
    }

    /// Starts a call; one that should not block is done at once.
    fn begin_call(&mut self, line: u32, call: &Syscall, end: Option<Instant>) -> Result<()> {
        if self.cfg.verbose {
            self.say(line, &format!("{call}"));
        }
        let mut progress = Progress { blocking: end.is_some(), ..Progress::default() };
        let done = self.attempt(line, call, &mut progress)?;
        match (done, end) {
            (true, None) => Ok(()),
            (true, Some(end)) => self.check_end(line, call, end, end - self.host.now),
            (false, None) => {
                Err(self.mismatch(line, format!("{call} blocks: give it an end time (+0...0.1), or O_NONBLOCK")))
            }
            (false, Some(end)) => {
                let took = end - self.host.now;
                self.pending = Some(Pending { line, call: call.clone(), end, took, progress });
                Ok(())
            }
        }
    }

    /// Goes on with the call that blocks, if there is one.
    fn poll_pending(&mut self) -> Result<()> {
        let Some(mut p) = self.pending.take() else { return Ok(()) };
        if self.attempt(p.line, &p.call, &mut p.progress)? {
            return self.check_end(p.line, &p.call, p.end, p.took);
        }
        self.pending = Some(p);
        Ok(())
    }

    fn check_end(&self, line: u32, call: &Syscall, end: Instant, took: Duration) -> Result<()> {
        let now = self.host.now;
        let tolerance = self.tolerance(took);
        if now + tolerance < end || now > end + tolerance {
            return Err(
                self.mismatch(line, format!("{call} returned at {}, expected at {}", self.clock(now), self.clock(end)))
            );
        }
        Ok(())
    }

    fn finish_pending(&mut self) -> Result<()> {
        let Some(p) = &self.pending else { return Ok(()) };
        let limit = p.end + PATIENCE;
        while self.pending.is_some() {
            let wake = self.pending.as_ref().and_then(|p| p.progress.wake).unwrap_or(limit).min(limit);
            if !self.host.step(wake) {
                self.host.advance(wake);
            }
            self.take_events();
            self.poll_pending()?;
            if self.host.now >= limit && self.pending.is_some() {
                break;
            }
        }
        if let Some(p) = &self.pending {
            return Err(self.mismatch(p.line, format!("{} never returned; expected at {}", p.call, self.clock(p.end))));
        }
        self.last = self.host.now;
        Ok(())
    }

    /// What may pass between when something should happen and when it does, `ahead` of the event before.
    fn tolerance(&self, ahead: Duration) -> Duration {
        let percent = Duration::from_nanos((ahead.as_nanos() as f64 * self.cfg.tolerance_percent / 100.0) as u64);
        percent.max(self.cfg.tolerance)
    }

    /// Time of the script in seconds.
    fn clock(&self, at: Instant) -> String {
        format!("{:.6}", (at - self.start).as_secs_f64())
    }

    fn mismatch(&self, line: u32, text: impl std::fmt::Display) -> Failure {
        Failure::mismatch(self.file, line, format!("at {}: {text}", self.clock(self.host.now)))
    }

    fn unsupported(&self, line: u32, text: impl Into<String>) -> Failure {
        Failure::unsupported(self.file, line, text)
    }

    fn say(&mut self, line: u32, text: &str) {
        let text = format!("{}:{line}: {} {text}", self.file, self.clock(self.host.now));
        self.report.output.push(text);
    }
}
