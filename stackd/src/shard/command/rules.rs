//! `ip rule`: which table a route is looked up in.

use super::net::{octets, optional_ip, port};
use stackd_netstack::addr::Prefix;
use stackd_netstack::ip::{IpLayer, Rule, TABLE_DEFAULT, TABLE_LOCAL, TABLE_MAIN};
use stackd_proto::v1::{Errno, ModifyMode};
use stackd_proto::{StatusError, v1};

const AF_INET6: u32 = 10;

fn to_proto(layer: &IpLayer, r: &Rule) -> v1::Rule {
    let Rule { priority, v6, fwmark, from, to, oif, table } = *r;
    let bytes = |p: Option<Prefix>| p.map(|p| octets(p.addr())).unwrap_or_default();
    let bits = |p: Option<Prefix>| p.map_or(0, |p| p.bits().into());
    v1::Rule {
        family: if v6 { AF_INET6 } else { 2 },
        priority,
        fwmark: fwmark.map_or(0, |m| m.0),
        fwmask: fwmark.map_or(0, |m| m.1),
        from: bytes(from),
        from_len: bits(from),
        to: bytes(to),
        to_len: bits(to),
        oif: oif.and_then(|p| layer.port(p)).map(|p| p.config.name.clone()).unwrap_or_default(),
        table,
    }
}

/// `ip rule show`: the operators' and those that are always there.
pub fn rules(layer: &IpLayer, request: &v1::ListRulesRequest) -> v1::ListRulesResponse {
    let always = |v6, priority, table| Rule { priority, v6, fwmark: None, from: None, to: None, oif: None, table };
    let mut all = layer.rules().to_vec();
    for v6 in [false, true] {
        all.push(always(v6, 0, TABLE_LOCAL));
        all.push(always(v6, 32_766, TABLE_MAIN));
        all.push(always(v6, 32_767, TABLE_DEFAULT));
    }
    all.retain(|r| request.family == 0 || (request.family == AF_INET6) == r.v6);
    all.sort_by_key(|r| (r.v6, r.priority));
    v1::ListRulesResponse { rules: all.iter().map(|r| to_proto(layer, r)).collect() }
}

/// `ip rule add|del`.
pub fn modify(layer: &mut IpLayer, request: &v1::ModifyRuleRequest) -> Result<v1::ModifyRuleResponse, StatusError> {
    let asked = request.rule.as_ref().ok_or_else(|| StatusError::invalid("rule", "", "missing"))?;
    let v6 = asked.family == AF_INET6;
    let prefix = |name: &str, bytes: &[u8], len: u32| match optional_ip(name, bytes)? {
        None => Ok(None),
        Some(ip) if ip.is_ipv6() != v6 => Err(StatusError::invalid(name, ip, "not of the rule's family")),
        Some(ip) => u8::try_from(len)
            .ok()
            .and_then(|l| Prefix::new(ip, l))
            .map(Some)
            .ok_or_else(|| StatusError::invalid(name, len, "not the length of a prefix")),
    };
    let mut rule = Rule {
        priority: asked.priority,
        v6,
        fwmark: (asked.fwmask != 0).then_some((asked.fwmark, asked.fwmask)),
        from: prefix("from", &asked.from, asked.from_len)?,
        to: prefix("to", &asked.to, asked.to_len)?,
        oif: if asked.oif.is_empty() { None } else { Some(port(layer, &asked.oif)?.id) },
        table: asked.table,
    };
    match request.mode() {
        ModifyMode::Add => {
            if rule.table == TABLE_LOCAL || rule.table == 0 {
                return Err(StatusError::invalid(
                    "table",
                    rule.table,
                    "this stack's own addresses are always asked first",
                )
                .remedy("main, default, or a number of your own"));
            }
            if rule.priority == 0 {
                rule.priority = layer.next_rule_priority(v6);
            }
            if !layer.add_rule(rule) {
                return Err(StatusError::new(Errno::Eexist, "the rule exists").argument("priority", rule.priority));
            }
        }
        ModifyMode::Delete => {
            if !layer.remove_rule(&rule) {
                return Err(StatusError::new(Errno::Enoent, "no such rule").argument("priority", rule.priority));
            }
        }
        ModifyMode::Unspecified | ModifyMode::Replace | ModifyMode::Change | ModifyMode::Append => {
            return Err(StatusError::invalid("mode", request.mode().as_str_name(), "rules are added and deleted"));
        }
    }
    Ok(v1::ModifyRuleResponse {})
}
