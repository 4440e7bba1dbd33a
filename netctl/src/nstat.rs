//! `nstat`: counters, and their growth since the last look.

use std::{collections::BTreeMap, fs, io::Write, path::PathBuf};

use stackd_proto::v1::{
    Counter, CounterListRequest, CounterListResponse, counter_service_client::CounterServiceClient,
};

use crate::cli::{Context, Failure};

/// Show the MIB counters; by default what was added since the last `nstat` of this user.
#[derive(Clone, Debug, clap::Args)]
#[allow(missing_docs)]
pub struct Args {
    /// Absolute values, not growth since the last look
    #[arg(short = 'a', long, visible_alias = "ignore")]
    pub absolute: bool,
    /// Also those that are zero
    #[arg(short = 'z', long, visible_alias = "zero")]
    pub zeros: bool,
    /// Do not remember this look
    #[arg(short = 's', long, visible_alias = "noupdate")]
    pub no_update: bool,
    /// Forget earlier looks
    #[arg(short = 'r', long)]
    pub reset: bool,
    /// Drop reasons instead of MIB counters
    #[arg(long)]
    pub drops: bool,
    /// Each shard apart
    #[arg(long)]
    pub per_shard: bool,
    /// Shell patterns of names; default all
    pub patterns: Vec<String>,
}

/// `*` and `?`, as in the shell; without either, the name itself (case does not matter).
pub fn glob(pattern: &str, name: &str) -> bool {
    let (p, n): (Vec<char>, Vec<char>) =
        (pattern.to_lowercase().chars().collect(), name.to_lowercase().chars().collect());
    // The classic two-pointer match: linear memory, no recursion, for any pattern.
    let (mut pi, mut ni, mut star, mut mark) = (0, 0, None, 0);
    while ni < n.len() {
        if pi < p.len() && p[pi] == '*' {
            star = Some(pi);
            mark = ni;
            pi += 1;
        } else if pi < p.len() && (p[pi] == '?' || p[pi] == n[ni]) {
            pi += 1;
            ni += 1;
        } else if let Some(at) = star {
            pi = at + 1;
            mark += 1;
            ni = mark;
        } else {
            return false;
        }
    }
    p[pi..].iter().all(|c| *c == '*')
}

/// Values of the last look by name; void when the daemon restarted in between.
fn history(path: &PathBuf, boot_id: u64) -> BTreeMap<String, u64> {
    let Ok(text) = fs::read_to_string(path) else { return BTreeMap::new() };
    let mut lines = text.lines();
    if lines.next() != Some(&format!("#{boot_id:016x}")) {
        return BTreeMap::new();
    }
    lines.filter_map(|line| line.split_once(' ').and_then(|(n, v)| Some((n.to_owned(), v.parse().ok()?)))).collect()
}

fn remember(path: &PathBuf, answer: &CounterListResponse) -> std::io::Result<()> {
    let mut text = format!("#{:016x}\n", answer.boot_id);
    for counter in answer.mib.iter().chain(&answer.drops) {
        text.push_str(&format!("{} {}\n", counter.name, counter.value));
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let next = path.with_extension(format!("{}", std::process::id()));
    fs::write(&next, text)?;
    fs::rename(&next, path)
}

/// `$NSTAT_HISTORY`, or a file in the user's cache.
fn history_path() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("NSTAT_HISTORY") {
        return Some(path.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    Some(cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?.join("stackd/nstat"))
}

/// Runs the command.
pub async fn run(args: &Args, cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let mut client = CounterServiceClient::new(cx.connect().await?);
    let request = CounterListRequest { mib: true, drops: true, per_shard: args.per_shard };
    let answer = client.list(request).await.map_err(|s| Failure::daemon("nstat", &s, 1))?.into_inner();
    let path = history_path();
    let relative = !(args.absolute || args.reset || args.per_shard);
    let before = path.as_ref().filter(|_| relative).map(|p| history(p, answer.boot_id)).unwrap_or_default();
    let counters: Vec<&Counter> = if args.drops { &answer.drops } else { &answer.mib }
        .iter()
        .filter(|c| args.patterns.is_empty() || args.patterns.iter().any(|p| glob(p, &c.name)))
        .collect();
    let shown =
        |c: &Counter| if c.gauge { c.value } else { c.value.saturating_sub(before.get(&c.name).copied().unwrap_or(0)) };
    if cx.json {
        let key = |c: &Counter| if args.per_shard { format!("{}:{}", c.shard, c.name) } else { c.name.clone() };
        let map: serde_json::Map<_, _> =
            counters.iter().filter(|c| args.zeros || shown(c) != 0).map(|c| (key(c), shown(c).into())).collect();
        writeln!(out, "{}", serde_json::json!({ if args.drops { "drops" } else { "stackd" }: map }))?;
    } else {
        out.write_all(text(&counters, shown, args.zeros, args.per_shard).as_bytes())?;
    }
    if !args.no_update
        && !args.per_shard
        && let Some(path) = path
    {
        remember(&path, &answer)
            .map_err(|e| Failure::usage(format!("nstat: cannot remember in {}: {e}", path.display())))?;
    }
    Ok(())
}

/// nstat's three columns: name, value, rate (which a single look does not have).
fn text(counters: &[&Counter], value: impl Fn(&Counter) -> u64, zeros: bool, per_shard: bool) -> String {
    let mut out = String::from("#stackd\n");
    for counter in counters {
        let value = value(counter);
        if value == 0 && !zeros {
            continue;
        }
        let name = if per_shard { format!("{}:{}", counter.shard, counter.name) } else { counter.name.clone() };
        // Drop reasons explain themselves; MIB counters are in RFCs and in nstat's own layout.
        match counter.text.as_str() {
            "" => out.push_str(&format!("{name:<32}{value:<19}0.0\n")),
            why => out.push_str(&format!("{name:<32}{value:<19}{why}\n")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        assert!(glob("TcpExt*", "TcpExtTCPLossProbes"));
        assert!(glob("*retrans*", "TcpRetransSegs"));
        assert!(glob("tcp?ctiveopens", "TcpActiveOpens"));
        assert!(!glob("Tcp", "TcpActiveOpens"));
        assert!(glob(&"*a".repeat(50), &"a".repeat(60)));
    }

    #[test]
    fn columns_and_zeros() {
        let a = Counter { name: "TcpInSegs".into(), value: 7, ..Default::default() };
        let b = Counter { name: "TcpInErrs".into(), ..Default::default() };
        assert_eq!(
            text(&[&a, &b], |c| c.value, false, false),
            "#stackd\nTcpInSegs                       7                  0.0\n"
        );
        assert_eq!(text(&[&a, &b], |c| c.value, true, false).lines().count(), 3);
    }
}
