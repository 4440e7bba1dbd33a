//! `docs/rfc9293.md` names a test for each requirement: every requirement has its row, and every test exists.

use std::collections::BTreeSet;
use std::path::Path;

const PAGE: &str = include_str!("../../../docs/rfc9293.md");

/// Appendix B of RFC 9293 numbers its requirements so far.
const NUMBERED: [(&str, u32); 4] = [("MUST", 69), ("SHLD", 31), ("MAY", 18), ("REC", 1)];

#[test]
fn every_numbered_requirement_has_one_row() {
    let mut seen = BTreeSet::new();
    for row in PAGE.lines().filter_map(|l| l.strip_prefix("| ")) {
        let id = row.split(" |").next().unwrap_or_default();
        if NUMBERED.iter().any(|(kind, _)| id.strip_prefix(kind).is_some_and(|n| n.starts_with('-'))) {
            assert!(seen.insert(id.to_owned()), "{id} has two rows");
        }
    }
    for (kind, last) in NUMBERED {
        for n in 1..=last {
            assert!(seen.remove(&format!("{kind}-{n}")), "{kind}-{n} has no row");
        }
    }
    assert!(seen.is_empty(), "no such requirements: {seen:?}");
}

#[test]
fn every_row_names_a_test_or_says_why_not() {
    for row in PAGE.lines().filter(|l| l.starts_with("| ") && !l.contains("| held by |")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let held = cells.last().copied().unwrap_or_default();
        let excuses = ["**hole**", "**deviates", "not taken", "concerns programs"];
        assert!(held.contains("::") || excuses.iter().any(|e| held.starts_with(e)), "{row}");
        // Wherever the protocol says MUST, only a named hole may have no test.
        let must = cells[0].starts_with("MUST");
        assert!(!must || held.contains("::") || held.starts_with("**hole**"), "{row}");
    }
}

#[test]
fn every_test_that_the_page_names_exists() {
    let stackd = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut checked = 0;
    for name in PAGE.split('`').filter(|s| s.contains(".rs::")) {
        let (file, test) = name.split_once("::").expect("has ::");
        let path = stackd.join(file);
        let source = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let at = source.find(&format!("fn {test}(")).unwrap_or_else(|| panic!("{file} has no test {test}"));
        let before: Vec<&str> = source[..at].lines().rev().take(4).collect();
        // proptest's cases stand under one #[test] each as well.
        assert!(before.iter().any(|l| l.contains("#[test]")), "{file}: {test} is no test");
        checked += 1;
    }
    assert!(checked > 100, "{checked} names read");
}
