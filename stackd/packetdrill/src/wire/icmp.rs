//! ICMP's types and codes by the names scripts use.

const V4_TYPES: &[(&str, u8)] = &[
    ("echo_reply", 0),
    ("unreachable", 3),
    ("source_quench", 4),
    ("redirect", 5),
    ("echo_request", 8),
    ("time_exceeded", 11),
    ("parameter_problem", 12),
    ("timestamp_request", 13),
    ("timestamp_reply", 14),
    ("information_request", 15),
    ("information_reply", 16),
    ("address_mask_request", 17),
    ("address_mask_reply", 18),
];
const V6_TYPES: &[(&str, u8)] = &[
    ("unreachable", 1),
    ("packet_too_big", 2),
    ("time_exceeded", 3),
    ("parameter_problem", 4),
    ("echo_request", 128),
    ("echo_reply", 129),
];
const V4_UNREACHABLE: &[(&str, u8)] = &[
    ("net_unreachable", 0),
    ("host_unreachable", 1),
    ("protocol_unreachable", 2),
    ("port_unreachable", 3),
    ("frag_needed", 4),
    ("source_route_failed", 5),
    ("net_unknown", 6),
    ("host_unknown", 7),
    ("source_host_isolated", 8),
    ("net_prohibited", 9),
    ("host_prohibited", 10),
    ("net_unreachable_for_tos", 11),
    ("host_unreachable_for_tos", 12),
    ("packet_filtered", 13),
    ("precedence_violation", 14),
    ("precedence_cutoff", 15),
];
const V6_UNREACHABLE: &[(&str, u8)] = &[
    ("net_unreachable", 0),
    ("no_route", 0),
    ("admin_prohibited", 1),
    ("not_neighbour", 2),
    ("address_unreachable", 3),
    ("port_unreachable", 4),
];
const V6_TIME_EXCEEDED: &[(&str, u8)] = &[("exceeded_hop_limit", 0), ("exceeded_frag_time", 1)];
const V6_PARAMETER: &[(&str, u8)] = &[("header_field", 0), ("unknown_next_header", 1), ("unknown_option", 2)];

fn find(table: &[(&str, u8)], name: &str, prefix: &str) -> Option<u8> {
    match name.strip_prefix(prefix) {
        Some(n) => n.parse().ok(),
        None => table.iter().find(|(n, _)| *n == name).map(|(_, v)| *v),
    }
}

/// The type of that name, or of `type_N`.
pub fn type_of(v6: bool, name: &str) -> Option<u8> {
    find(if v6 { V6_TYPES } else { V4_TYPES }, name, "type_")
}

/// The code of that name under a type, or of `code_N`; none said is 0.
pub fn code_of(v6: bool, kind: u8, name: Option<&str>) -> Option<u8> {
    let table = match (v6, kind) {
        (false, 3) => V4_UNREACHABLE,
        (true, 1) => V6_UNREACHABLE,
        (true, 3) => V6_TIME_EXCEEDED,
        (true, 4) => V6_PARAMETER,
        _ => &[],
    };
    name.map_or(Some(0), |n| find(table, n, "code_"))
}

/// Type and code in words, for messages.
pub(super) fn name_of(v6: bool, kind: u8, code: u8) -> String {
    let types = if v6 { V6_TYPES } else { V4_TYPES };
    let kind_name =
        types.iter().find(|(_, v)| *v == kind).map_or_else(|| format!("type_{kind}"), |(n, _)| (*n).to_owned());
    let codes = match (v6, kind) {
        (false, 3) => V4_UNREACHABLE,
        (true, 1) => V6_UNREACHABLE,
        (true, 3) => V6_TIME_EXCEEDED,
        (true, 4) => V6_PARAMETER,
        _ => &[],
    };
    match codes.iter().rfind(|(_, v)| *v == code) {
        Some((n, _)) => format!("{kind_name} {n}"),
        None if code == 0 => kind_name,
        None => format!("{kind_name} code_{code}"),
    }
}
