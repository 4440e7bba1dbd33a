//! `sysctl`: the registry as `stackd.v1` shows it.

use super::super::Shard;
use stackd_base::{Duration, Instant};
use stackd_netstack::Stack;
use stackd_netstack::sysctl::{Kind, Shown, SysctlError};
use stackd_proto::v1::{Errno, SysctlKind};
use stackd_proto::{StatusError, v1};

/// The one key whose home is the loop rather than the stack.
pub const SPIN_US: &str = "stackd.spin_us";

fn refused(error: &SysctlError, value: Option<&str>) -> StatusError {
    let (errno, name, remedy) = match error {
        SysctlError::Unknown { name, near } => (
            Errno::Enoent,
            name.as_str(),
            near.map_or_else(|| "a key that `netctl sysctl -a` lists".to_owned(), str::to_owned),
        ),
        SysctlError::ReadOnly { name } => (Errno::Eperm, name.as_str(), String::new()),
        SysctlError::NotANumber { name, want, .. } => (Errno::Einval, name.as_str(), want.clone()),
        SysctlError::OutOfRange { name, min, max, .. } => (Errno::Einval, name.as_str(), format!("{min} to {max}")),
        SysctlError::Count { name, want, .. } | SysctlError::Order { name, want, .. } => {
            (Errno::Einval, name.as_str(), (*want).to_owned())
        }
        SysctlError::Text { name, want, .. } => (Errno::Einval, name.as_str(), (*want).to_owned()),
        SysctlError::Choice { name, choices, .. } => {
            (Errno::Einval, name.as_str(), format!("one of: {}", choices.join(" ")))
        }
    };
    let text = error.to_string();
    // The text says the key first, and what would be right last; the message has fields of their own for both.
    let reason = text.strip_prefix(&format!("{name}: ")).unwrap_or(&text);
    let reason = match error {
        SysctlError::Unknown { .. } => reason,
        _ => reason.split("; ").next().unwrap_or(reason),
    };
    // Where the reason says which part of the value is wrong, or the key itself is, the whole value would only be in the way.
    let value = value.filter(|_| !matches!(error, SysctlError::Order { .. } | SysctlError::Unknown { .. }));
    StatusError::new(errno, reason.to_owned()).argument(name, value.unwrap_or_default()).remedy(remedy)
}

fn describe(key: &Shown) -> v1::SysctlDescription {
    let (kind, min, max, choices) = match key.kind {
        Kind::Int { min: 0, max: 1 } => (SysctlKind::Bool, Some(0), Some(1), Vec::new()),
        Kind::Int { min, max } => (SysctlKind::Int, Some(min), Some(max), Vec::new()),
        Kind::Triple { min, max } => (SysctlKind::Triple, Some(min), Some(max), Vec::new()),
        Kind::PortRange => (SysctlKind::Range, Some(1), Some(65_535), Vec::new()),
        Kind::PortList => (SysctlKind::String, None, None, Vec::new()),
        Kind::Choice(words) => (SysctlKind::Choice, None, None, words()),
        Kind::Choices(words) => (SysctlKind::String, None, None, words()),
        Kind::Text { .. } | Kind::ReadOnly => (SysctlKind::String, None, None, Vec::new()),
    };
    v1::SysctlDescription {
        kind: kind as i32,
        default_value: key.default.clone(),
        min,
        max,
        choices: choices.into_iter().map(str::to_owned).collect(),
        unit: String::new(),
        doc: key.doc.into(),
        read_only: matches!(key.kind, Kind::ReadOnly),
    }
}

fn show(key: Shown, describe_it: bool) -> v1::SysctlEntry {
    let description = describe_it.then(|| describe(&key));
    v1::SysctlEntry { name: key.name, value: key.value, description }
}

pub(super) fn list(stack: &Stack, request: &v1::SysctlListRequest) -> v1::SysctlListResponse {
    let v1::SysctlListRequest { prefixes, describe } = request;
    let wanted = |name: &str| prefixes.is_empty() || prefixes.iter().any(|p| name.starts_with(p.as_str()));
    let shown = stack.sysctls().show().into_iter().filter(|k| wanted(&k.name));
    v1::SysctlListResponse { entries: shown.map(|k| show(k, *describe)).collect() }
}

pub(super) fn get(stack: &Stack, request: &v1::SysctlGetRequest) -> Result<v1::SysctlGetResponse, StatusError> {
    let v1::SysctlGetRequest { names, describe } = request;
    let all = if *describe { stack.sysctls().show() } else { Vec::new() };
    let entries = names
        .iter()
        .map(|name| {
            let value = stack.sysctl_get(name).map_err(|e| refused(&e, None))?;
            let described = all.iter().find(|k| k.name == *name).cloned().map(|k| show(k, true));
            Ok(described.unwrap_or_else(|| v1::SysctlEntry { name: name.clone(), value, description: None }))
        })
        .collect::<Result<_, StatusError>>()?;
    Ok(v1::SysctlGetResponse { entries })
}

impl Shard {
    /// All of them or none: what was set before the first refusal is set back.
    pub(super) fn set_sysctls(
        &mut self,
        now: Instant,
        request: &v1::SysctlSetRequest,
    ) -> Result<v1::SysctlSetResponse, StatusError> {
        let mut undo: Vec<(&str, String)> = Vec::new();
        for v1::SysctlAssignment { name, value } in &request.assignments {
            let before = self.core.stack.sysctl_get(name);
            let set = before.and_then(|before| {
                self.core.stack.sysctl_set(now, name, value, &mut self.core.store)?;
                Ok(before)
            });
            match set {
                Ok(before) => undo.push((name, before)),
                Err(error) => {
                    for (name, value) in undo.into_iter().rev() {
                        if let Err(error) = self.core.stack.sysctl_set(now, name, &value, &mut self.core.store) {
                            tracing::error!(name, %error, "a sysctl cannot be set back");
                        }
                    }
                    return Err(refused(&error, Some(value)));
                }
            }
        }
        self.apply_spin();
        let names = request.assignments.iter().map(|a| a.name.clone()).collect();
        let get_request = v1::SysctlGetRequest { names, describe: false };
        let v1::SysctlGetResponse { entries } = get(&self.core.stack, &get_request)?;
        for v1::SysctlEntry { name, value, .. } in &entries {
            tracing::info!(name, value, shard = self.index, "sysctl");
        }
        Ok(v1::SysctlSetResponse { entries })
    }

    /// `stackd.spin_us`, if the registry has it.
    fn apply_spin(&mut self) {
        if let Ok(text) = self.core.stack.sysctl_get(SPIN_US)
            && let Ok(us) = text.trim().parse()
        {
            self.waiter.set_spin(Duration::from_micros(us));
        }
    }
}
