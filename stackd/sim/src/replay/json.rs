//! The same for programs: one object, its events written as they come.

use super::show::{Row, Summary, Watcher};
use anyhow::Result;
use serde_json::{Map, Value, json};
use stackd_tcp::record::{FlowRecording, Recording, Start, View, Way};
use std::io::{BufWriter, Stdout, Write};

pub struct Json {
    out: BufWriter<Stdout>,
    first: bool,
}

impl Json {
    pub fn begin(
        recording: &Recording<'_>,
        flow: &FlowRecording<'_>,
        way: Way,
        set: &[(String, String)],
    ) -> Result<Self> {
        let mut out = BufWriter::new(std::io::stdout());
        let changes: Map<String, Value> = set.iter().map(|(k, v)| (k.clone(), Value::from(v.clone()))).collect();
        let head = json!({
            "version": recording.head.version,
            "recorded_unix_ns": recording.head.unix_ns,
            "local": flow.head.local.to_string(),
            "remote": flow.head.remote.to_string(),
            "from_birth": !matches!(flow.start(), Start::Live),
            "congestion": flow.config().congestion,
            "open_loop": way == Way::OpenLoop,
            "set": changes,
        });
        write!(out, "{{\"recording\":{head},\n\"events\":[")?;
        Ok(Self { out, first: true })
    }
}

fn view(v: &View) -> Value {
    let mut map = Map::new();
    map.insert("state_name".into(), v.state_name().into());
    map.insert("recovery".into(), v.ca_name().into());
    map.insert("in_flight".into(), v.in_flight().into());
    for (name, value) in View::NAMES.iter().zip(v.values()) {
        // What there is none of; JSON's readers lose the last bits of numbers as large as its sign.
        let value = if value == u64::MAX { Value::Null } else { value.into() };
        map.insert((*name).into(), value);
    }
    map.into()
}

impl Watcher for Json {
    fn see(&mut self, row: &Row<'_>) -> Result<()> {
        let (recorded, now) = row.views();
        let mut event = json!({
            "index": row.step.index,
            "ns": row.since.as_nanos(),
            "event": row.text,
            "recorded": view(recorded),
        });
        if row.differs {
            event["now"] = view(now);
            let timers = row.step.own_timers.iter();
            event["own_timers"] =
                timers.map(|(at, v)| json!({ "ns": (*at - row.began).as_nanos(), "view": view(v) })).collect();
        }
        if row.step.could_send > 0 {
            event["could_send"] = row.step.could_send.into();
        }
        write!(self.out, "{}\n{event}", if self.first { "" } else { "," })?;
        self.first = false;
        Ok(())
    }

    fn finish(&mut self, s: &Summary) -> Result<()> {
        let first = s.first.as_ref().map(|f| {
            let columns: Map<String, Value> =
                f.columns.iter().map(|(n, a, b)| ((*n).into(), json!({ "recorded": a, "now": b }))).collect();
            let outputs = f.output.map(|(r, n)| json!({ "recorded": format!("{r:?}"), "now": format!("{n:?}") }));
            json!({ "index": f.index, "ns": f.since.as_nanos(), "event": f.text, "columns": columns, "output": outputs })
        });
        let summary = json!({
            "events": s.events,
            "ns": s.span.as_nanos(),
            "differing": s.differing,
            "state_checksums": s.digests,
            "first_difference": first,
            "final_state_equal": s.final_digest,
            "ended": s.reason,
        });
        writeln!(self.out, "\n],\n\"summary\":{summary}}}")?;
        Ok(self.out.flush()?)
    }
}
