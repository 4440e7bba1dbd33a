//! One line an event. In an open loop, values that differ stand side by side: recorded|now.

use super::show::{Row, Summary, Watcher};
use anyhow::Result;
use stackd_base::Duration;
use stackd_tcp::record::{View, Way};
use std::io::{BufWriter, Stdout, Write};

pub struct Table {
    way: Way,
    out: BufWriter<Stdout>,
    lines: u64,
}

impl Table {
    pub fn new(way: Way) -> Self {
        Self { way, out: BufWriter::new(std::io::stdout()), lines: 0 }
    }

    fn head(&mut self) -> std::io::Result<()> {
        let could = if self.way == Way::OpenLoop { "  could send" } else { "" };
        writeln!(
            self.out,
            "{:>12}  {:<11} {:<9} {:>11} {:>11} {:>9} {:>17} {:>15} {:>15}{could}  event",
            "time", "state", "recovery", "cwnd", "ssthresh", "in flight", "pacing Mbit/s", "rtt ms", "rto ms"
        )
    }
}

impl Watcher for Table {
    fn see(&mut self, row: &Row<'_>) -> Result<()> {
        if self.lines == 0 {
            self.head()?;
        }
        self.lines += 1;
        for (at, view) in &row.step.own_timers {
            let since = (*at - row.began).as_secs_f64();
            writeln!(self.out, "{since:>12.6}  its own timer: cwnd {}, recovery {}", view.cwnd, view.ca_name())?;
        }
        let (r, n) = row.views();
        let pair = |of: fn(&View) -> String| both(&of(r), &of(n));
        write!(
            self.out,
            "{:>12.6}  {:<11} {:<9} {:>11} {:>11} {:>9} {:>17} {:>15} {:>15}",
            row.since.as_secs_f64(),
            pair(|v| v.state_name().into()),
            pair(|v| v.ca_name().into()),
            pair(|v| v.cwnd.to_string()),
            pair(|v| if v.ssthresh >= u64::from(u32::MAX) { "-".into() } else { v.ssthresh.to_string() }),
            pair(|v| v.in_flight().to_string()),
            pair(|v| if v.pacing_rate == u64::MAX {
                "-".into()
            } else {
                format!("{:.2}", v.pacing_rate as f64 * 8e-6)
            }),
            pair(|v| millis(v.srtt)),
            pair(|v| millis(v.rto)),
        )?;
        if self.way == Way::OpenLoop {
            write!(self.out, "  {:>10}", row.step.could_send)?;
        }
        Ok(writeln!(self.out, "  {}", row.text)?)
    }

    fn finish(&mut self, _: &Summary) -> Result<()> {
        Ok(self.out.flush()?)
    }
}

fn both(recorded: &str, now: &str) -> String {
    if recorded == now { now.to_owned() } else { format!("{recorded}|{now}") }
}

fn millis(nanos: u64) -> String {
    format!("{:.3}", Duration::from_nanos(nanos).as_secs_f64() * 1e3)
}
