//! `doctor`: what a stackd needs here, what is missing, what to do. Works without a daemon, and asks it when there is one.

use std::{fs, io::Write, os::unix::fs::MetadataExt};

use serde_json::json;
use stackd_proto::v1::{DoctorRequest, Finding, InfoRequest, Severity, daemon_service_client::DaemonServiceClient};

use crate::cli::{Context, Failure};

/// Runs the command. Exit code 1 when something is an error.
pub async fn run(cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let mut findings = vec![tun(), namespaces(), descriptors(), kernel()];
    findings.extend(daemon(cx).await);
    if cx.json {
        let all: Vec<_> = findings
            .iter()
            .map(|f| json!({ "severity": word(f.severity()), "subject": f.subject, "finding": f.finding, "remedy": f.remedy }))
            .collect();
        writeln!(out, "{}", serde_json::Value::from(all))?;
    } else {
        for f in &findings {
            writeln!(out, "{:<8} {}: {}", word(f.severity()), f.subject, f.finding)?;
            if !f.remedy.is_empty() {
                writeln!(out, "         -> {}", f.remedy)?;
            }
        }
    }
    if findings.iter().any(|f| f.severity() == Severity::Error) {
        return Err(Failure { code: 1, text: String::new() });
    }
    Ok(())
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "ERROR",
        Severity::Unspecified => "?",
    }
}

fn finding(severity: Severity, subject: &str, found: impl Into<String>, remedy: &str) -> Finding {
    Finding { severity: severity as i32, subject: subject.into(), finding: found.into(), remedy: remedy.into() }
}

fn tun() -> Finding {
    let subject = "/dev/net/tun";
    match fs::OpenOptions::new().read(true).write(true).open(subject) {
        Ok(_) if capable_net_admin() => {
            finding(Severity::Ok, subject, "can be opened, and CAP_NET_ADMIN is there: TAP devices work", "")
        }
        Ok(_) => finding(
            Severity::Note,
            subject,
            "can be opened, but without CAP_NET_ADMIN only a TAP device made for you can be attached",
            "root: `ip tuntap add dev tap0 mode tap user NAME`; or run inside `unshare -Urn`",
        ),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => finding(
            Severity::Warning,
            subject,
            "does not exist: no TAP devices",
            "root: `modprobe tun`; wire and loopback devices work without",
        ),
        Err(e) => finding(
            Severity::Warning,
            subject,
            format!("{e}"),
            "root: `chmod 0666 /dev/net/tun`; wire and loopback devices work without",
        ),
    }
}

/// CAP_NET_ADMIN (bit 12) in the effective set.
fn capable_net_admin() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|mask| mask & (1 << 12) != 0)
}

fn namespaces() -> Finding {
    let subject = "user namespaces";
    let read = |path: &str| fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<u64>().ok());
    if read("/proc/sys/user/max_user_namespaces") == Some(0) {
        return finding(
            Severity::Note,
            subject,
            "switched off: an ordinary user cannot make a network namespace",
            "root: `sysctl -w user.max_user_namespaces=10000`",
        );
    }
    if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return finding(
            Severity::Note,
            subject,
            "AppArmor keeps capabilities from them",
            "root: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
        );
    }
    finding(
        Severity::Ok,
        subject,
        "allowed: `unshare -Urn` gives an ordinary user a network namespace with TAP devices",
        "",
    )
}

fn descriptors() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(n) if n < 4096 => finding(
            Severity::Warning,
            "limit nofile",
            format!("{n} descriptors"),
            "`ulimit -n 65536` before starting stackd",
        ),
        Some(n) => finding(Severity::Ok, "limit nofile", format!("{n} descriptors"), ""),
        None => finding(Severity::Ok, "limit nofile", "unlimited", ""),
    }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut parts = release.split(['.', '-']).map(|p| p.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    // UDP segmentation offload on TUN and IORING features that devices use came with 6.2; memfd seals, eventfd, pidfd by 5.4.
    match version {
        v if v >= (6, 2) => finding(Severity::Ok, "kernel", format!("{release}: everything stackd uses is there"), ""),
        v if v >= (5, 4) => finding(
            Severity::Note,
            "kernel",
            format!("{release}: works, without UDP segmentation on TAP"),
            "6.2 or newer for all offloads",
        ),
        _ => finding(
            Severity::Error,
            "kernel",
            format!("{release}: too old for sealed shared memory and pidfds"),
            "5.4 or newer",
        ),
    }
}

async fn daemon(cx: &Context) -> Vec<Finding> {
    let subject = "stackd";
    let channel = match cx.connect().await {
        Ok(channel) => channel,
        Err(failure) => {
            let text = failure.text.trim_start_matches("netctl: ");
            let (found, remedy) = text.rsplit_once("; ").unwrap_or((text, ""));
            return vec![finding(Severity::Error, subject, found, remedy)];
        }
    };
    let mut out = Vec::new();
    if let Ok(meta) = fs::metadata(&cx.path)
        && meta.mode() & 0o002 != 0
    {
        let text = format!("{} may be opened by everybody", cx.path.display());
        out.push(finding(Severity::Warning, "control socket", text, "mode 0660 and a group for those who may look"));
    }
    let mut client = DaemonServiceClient::new(channel);
    match client.info(InfoRequest {}).await {
        Ok(info) => {
            let i = info.into_inner();
            let text = format!(
                "version {}, pid {}, uid {}, {} shard(s), up {} s, {} MiB resident",
                i.version,
                i.pid,
                i.uid,
                i.shards.len(),
                i.uptime_ms / 1000,
                i.resident_bytes >> 20
            );
            out.push(finding(Severity::Ok, subject, text, ""));
            if !std::path::Path::new(&i.attach_path).exists() {
                out.push(finding(
                    Severity::Error,
                    "attach socket",
                    format!("{} is gone", i.attach_path),
                    "restart stackd",
                ));
            }
        }
        Err(status) => out.push(finding(Severity::Error, subject, status.message(), "restart stackd; look at its log")),
    }
    match client.doctor(DoctorRequest {}).await {
        Ok(answer) => out.extend(answer.into_inner().findings),
        Err(status) => out.push(finding(Severity::Error, subject, status.message(), "restart stackd; look at its log")),
    }
    out
}
