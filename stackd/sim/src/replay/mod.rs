//! `stackd-sim replay`: a recorded connection lives again.

mod change;
mod json;
mod plot;
mod show;
mod table;

use anyhow::{Context, Result, bail};
use clap::Args;
use show::{Row, Summary, Watcher};
use stackd_tcp::record::{FlowRecording, Recording, Replay, Start, Way};
use std::io::Write;
use std::path::PathBuf;

/// Lives a recorded connection again, and shows its state at every event
///
/// Without a change it must be the same life, to the bit: the first event that differs is an error. With --set, the changed connection is given the same answers
/// and made to send what was sent (an open loop): what its peer would have answered to other segments is not known. What it makes of them, its window, its
/// pacing, when it would have sent, stands beside what was recorded.
#[derive(Args, Debug)]
pub struct Command {
    /// What `netctl record` wrote
    file: PathBuf,
    /// Which of its connections
    #[arg(long, default_value_t = 1)]
    flow: usize,
    /// Another value of a sysctl, e.g. net.ipv4.tcp_congestion_control=cubic
    #[arg(long, value_name = "KEY=VALUE", value_parser = change::parse)]
    set: Vec<(String, String)>,
    /// An open loop also without a change: for a stackd-sim that was built from changed code
    #[arg(long)]
    open_loop: bool,
    /// Only events from this time on, counted from the beginning of the recording, e.g. 1.5s
    #[arg(long, value_parser = crate::units::time)]
    from: Option<stackd_base::Duration>,
    /// Only events up to this time
    #[arg(long, value_parser = crate::units::time)]
    to: Option<stackd_base::Duration>,
    /// Only events at which something differs
    #[arg(long)]
    differing: bool,
    /// The summary alone
    #[arg(short, long)]
    quiet: bool,
    /// Everything as JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Draws cwnd, pacing, RTT and state over time into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Takes what is there of a file that was cut off
    #[arg(long)]
    partial: bool,
}

impl Command {
    /// Runs it. False: the life was not the same, though nothing was to be different.
    pub fn run(&self) -> Result<bool> {
        let name = self.file.display();
        let bytes = std::fs::read(&self.file).with_context(|| format!("cannot read {name}"))?;
        let recording = if self.partial {
            let (recording, trouble) = Recording::parse_what_is_there(&bytes).with_context(|| name.to_string())?;
            if let Some(trouble) = trouble {
                eprintln!("{name}: {trouble}; replaying what is there");
            }
            recording
        } else {
            Recording::parse(&bytes).with_context(|| name.to_string())?
        };
        let flow = recording.flow(self.flow).with_context(|| name.to_string())?;
        let way = if self.set.is_empty() && !self.open_loop { Way::Exact } else { Way::OpenLoop };
        // A crafted file may hold a state that no connection can be in.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.replay(&recording, flow, way)));
        match outcome {
            Ok(summary) => self.conclude(summary?, way),
            Err(_) => bail!("{name}: cannot be replayed: it holds a state that no connection can be in"),
        }
    }

    fn conclude(&self, summary: Summary, way: Way) -> Result<bool> {
        let same = summary.first.is_none() && summary.final_digest != Some(false);
        if !self.json {
            std::io::stdout().write_all(summary.text(way).as_bytes())?;
        }
        Ok(same || way == Way::OpenLoop)
    }

    fn replay(&self, recording: &Recording<'_>, flow: &FlowRecording<'_>, way: Way) -> Result<Summary> {
        let change = change::Change::new(&self.set, flow.config())?;
        for unmoved in change.without_effect() {
            eprintln!("--set {unmoved}: changes nothing of this connection's configuration");
        }
        let mut replay = Replay::changed(recording, flow, way, move |cfg| change.apply(cfg))?;
        let mut watchers: Vec<Box<dyn Watcher>> = Vec::new();
        if self.json {
            watchers.push(Box::new(json::Json::begin(recording, flow, way, &self.set)?));
        } else if !self.quiet {
            let head = describe(recording, flow, replay.config().congestion);
            std::io::stdout().write_all(head.as_bytes())?;
            watchers.push(Box::new(table::Table::new(way)));
        }
        let mut plot = self.svg.as_ref().map(|_| plot::Plot::new(way));
        let mut summary = Summary::new(flow);
        let (from, to) = (self.from.unwrap_or_default(), self.to.unwrap_or(stackd_base::Duration::MAX));
        for step in &mut replay {
            let step = step.context("the recording cannot be followed any further")?;
            let row = Row::of(&step, flow.began(), way);
            summary.see(&row);
            let within = (from..=to).contains(&row.since) && (!self.differing || row.differs);
            if within {
                if let Some(plot) = &mut plot {
                    plot.see(&row);
                }
                for watcher in &mut watchers {
                    watcher.see(&row)?;
                }
            }
            // An exact replay that has left the path says nothing more about it.
            if way == Way::Exact && row.differs {
                break;
            }
        }
        summary.finish(flow, &replay, way, recording.state_is_readable());
        for watcher in &mut watchers {
            watcher.finish(&summary)?;
        }
        if let (Some(plot), Some(path)) = (plot, &self.svg) {
            let title = format!("{} {}", flow.head.local, flow.head.remote);
            let svg = plot.draw(&title).with_context(|| format!("--svg {}", path.display()))?;
            std::fs::write(path, svg).with_context(|| format!("--svg {}", path.display()))?;
        }
        Ok(summary)
    }
}

fn describe(recording: &Recording<'_>, flow: &FlowRecording<'_>, congestion: &str) -> String {
    let how = match flow.start() {
        Start::Connect { .. } => "connecting, from its birth",
        Start::Accept { .. } => "accepting, from its birth",
        Start::Cookie { .. } => "accepting by a SYN cookie, from its birth",
        Start::Live => "from the middle of its life",
    };
    let recorded = flow.config().congestion;
    let cc = if congestion == recorded { recorded.to_owned() } else { format!("{congestion} instead of {recorded}") };
    format!("{} {} ({cc}), {how}, by stackd {}\n", flow.head.local, flow.head.remote, recording.head.version)
}
