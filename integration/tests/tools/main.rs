//! The operators' tools against a live daemon whose peer is the kernel.

mod ip;
mod links;
mod observe;
mod policy;
mod reference;
mod sockets;
mod support;
mod sysctl;
mod tc;

use stackd_integration::trials::{self, case};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut cases = vec![
        case("sysctl::reads_writes_and_loads", sysctl::reads_writes_and_loads).tap(),
        case("sysctl::says_what_is_wrong", sysctl::says_what_is_wrong).tap(),
        case("sysctl::tcp_wmem_reaches_a_running_flow", sysctl::tcp_wmem_reaches_a_running_flow).tap(),
        case("sysctl::congestion_control_is_for_new_sockets", sysctl::congestion_control_is_for_new_sockets).tap(),
        case("ip::addresses", ip::addresses).tap(),
        case("ip::routes", ip::routes).tap(),
        case("ip::links_and_neighbours", ip::links_and_neighbours).tap(),
        case("links::up_and_down_as_linux", links::up_and_down_as_linux).tap().program("ip"),
        case("links::a_wire_at_runtime", links::a_wire_at_runtime).tap(),
        case("links::nonsense_is_refused", links::nonsense_is_refused).tap(),
        case("policy::route_get_obeys_rules_as_linux", policy::route_get_obeys_rules_as_linux).tap().program("ip"),
        case("policy::route_flags_as_linux", policy::route_flags_as_linux).tap().program("ip"),
        case("policy::groups_as_linux", policy::groups_as_linux).tap().program("ip"),
        case("tc::replace_under_traffic_loses_nothing", tc::replace_under_traffic_loses_nothing).tap(),
        case("tc::netem_delays_and_refuses", tc::netem_delays_and_refuses).tap(),
        case("nstat::shows_growth", observe::nstat_shows_growth).tap(),
        case("capture::tshark_reads_it", observe::tshark_reads_the_capture).tap().program("tshark"),
        case("clients::lists_limits_and_disconnects", observe::clients_lists_limits_and_disconnects).tap(),
        case("doctor::as_root_and_as_somebody", observe::doctor).tap(),
        case("docs::sysctl_page_is_current", reference::sysctl_page_is_current),
        case("json::everything_parses", observe::json_parses).tap(),
        case("ss::states_addresses_and_ports_filter", sockets::filters).tap(),
        case("ss::summary_counts", sockets::summary_counts).tap(),
        case("ss::events_report_closed_sockets", sockets::events_report_closed_sockets).tap(),
    ];
    for v6 in [false, true] {
        let name = |what: &str| format!("{}::{what}", if v6 { "ipv6" } else { "ipv4" });
        cases.push(
            case(name("ss_sees_what_linux_sees"), move || sockets::ss_sees_what_linux_sees(v6)).tap().program("ss"),
        );
        cases.push(
            case(name("a_tap_comes_carries_and_goes"), move || links::a_tap_comes_carries_and_goes(v6))
                .tap()
                .program("ip"),
        );
        cases.push(case(name("kill_resets_both_ends"), move || sockets::kill_resets_both_ends(v6)).tap());
    }
    trials::main(cases)
}
