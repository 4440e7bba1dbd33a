//! Our stack and Linux's, over a TAP: files, crowds, impairments.

use stackd_integration::bed::Bed;
use stackd_integration::scenario;
use stackd_integration::trials::{self, Case, case};
use std::process::ExitCode;

const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let mut cases: Vec<Case> = Vec::new();
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        let name = |what: &str| format!("{family}::{what}");
        cases.push(
            case(name("curl_fetches_and_uploads"), move || scenario::curl_fetches(&Bed::new("", "")?, v6, 16 * MIB))
                .tap()
                .program("curl"),
        );
        cases.push(
            case(name("nginx_serves_and_stores"), move || scenario::nginx_serves(&Bed::new("", "")?, v6, 64 * MIB))
                .tap()
                .program("nginx"),
        );
        for cc in ["reno", "cubic", "bbr"] {
            cases.push(
                case(name(&format!("filecopy_both_ways_by_{cc}")), move || {
                    scenario::filecopy_both_ways(&Bed::new("", "")?, v6, 64 * MIB, cc)
                })
                .tap(),
            );
        }
        cases.push(
            case(name("filecopy_without_offloads"), move || {
                scenario::filecopy_both_ways(&Bed::new("", "offload = false")?, v6, 16 * MIB, "cubic")
            })
            .tap(),
        );
        cases.push(
            case(name("filecopy_through_loss_reordering_duplication_corruption"), move || {
                let bed = Bed::new("", scenario::IMPAIRED)?;
                scenario::filecopy_both_ways(&bed, v6, 32 * MIB, "bbr")
            })
            .tap(),
        );
        cases.push(
            case(name("a_thousand_connections_at_once"), move || scenario::hold_many(&Bed::new("", "")?, v6, 1000))
                .tap(),
        );
        cases.push(
            case(name("short_connections_leave_nothing"), move || {
                let bed = Bed::new("", "")?;
                let (before, after) = scenario::short_connections(&bed, v6, 3000)?;
                anyhow::ensure!(after.descriptors <= before.descriptors, "{before:?} became {after:?}");
                anyhow::ensure!(before.sockets == after.sockets, "{before:?} became {after:?}");
                anyhow::ensure!(after.resident_kib < before.resident_kib + 8192, "{before:?} became {after:?}");
                Ok(())
            })
            .tap(),
        );
        cases.push(
            case(name("wrk_is_served_without_an_error"), move || {
                scenario::wrk_load(&Bed::new("", "")?, v6, 64, 2).map(drop)
            })
            .tap()
            .program("wrk"),
        );
    }
    trials::main(cases)
}
