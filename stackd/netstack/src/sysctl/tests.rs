use super::*;

fn error(name: &str, value: &str) -> String {
    Sysctls::default().set(name, value).expect_err("must be refused").to_string()
}

#[test]
fn every_default_is_legal_and_survives_being_written_back() {
    let mut s = Sysctls::default();
    for entry in Sysctls::entries() {
        let value = (entry.get)(&s);
        match entry.kind {
            Kind::ReadOnly => {
                assert!(matches!(s.set(entry.name, &value), Err(SysctlError::ReadOnly { .. })), "{}", entry.name);
            }
            _ => {
                s.set(entry.name, &value).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!((entry.get)(&s), value, "{}", entry.name);
            }
        }
    }
}

/// A key that is accepted is a key that acts: whatever legal value is written is what is in force afterwards.
#[test]
fn what_is_written_is_read_back() {
    for entry in Sysctls::entries() {
        let values = match entry.kind {
            Kind::Int { min, max } => vec![min.to_string(), (min + 1).min(max).to_string()],
            Kind::Triple { .. } => vec!["4096\t8192\t100000000".to_owned()],
            Kind::PortRange => vec!["1024\t2000".to_owned()],
            Kind::PortList => vec!["80,8080-8090".to_owned()],
            Kind::Choice(list) => list().into_iter().map(str::to_owned).collect(),
            Kind::Choices(list) => vec![list()[..1].join(" ")],
            Kind::Text { .. } => vec!["00000001-00000002-00000003-00000004".to_owned()],
            Kind::ReadOnly => continue,
        };
        for value in values {
            let mut s = Sysctls::default();
            s.set(entry.name, &value).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(s.get(entry.name).expect("known"), value, "{}", entry.name);
        }
    }
}

#[test]
fn names_are_unique_and_documented() {
    let mut names: Vec<_> = Sysctls::entries().map(|e| e.name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(Sysctls::entries().all(|e| e.doc.ends_with('.')));
}

#[test]
fn errors_say_what_was_wrong_and_what_would_be_right() {
    assert_eq!(
        error("net.ipv4.tcp_wmem", "4096 16384 1000"),
        r#"net.ipv4.tcp_wmem: "max" (1000) is below "default" (16384); want min <= default <= max"#
    );
    assert_eq!(
        error("net.ipv4.tcp_wmem", "4096"),
        r#"net.ipv4.tcp_wmem: 1 values in "4096"; want three: min default max"#
    );
    assert_eq!(
        error("net.ipv4.tcp_congestion_control", "bbr9"),
        r#"net.ipv4.tcp_congestion_control: "bbr9" is not available; want one of: reno cubic bbr"#
    );
    assert_eq!(
        error("net.ipv4.tcp_syn_retries", "six"),
        r#"net.ipv4.tcp_syn_retries: "six" is not a number; want a number from 1 to 127"#
    );
    assert_eq!(
        error("net.ipv4.tcp_syn_retries", "128"),
        "net.ipv4.tcp_syn_retries: 128 is out of range; want 1 to 127"
    );
    assert_eq!(error("net.ipv4.tcp_sak", "1"), "net.ipv4.tcp_sak: no such key; did you mean net.ipv4.tcp_sack?");
    assert_eq!(error("nonsense", "1"), "nonsense: no such key");
}

#[test]
fn numbers_are_read_as_the_kernel_reads_them_and_slashes_as_dots() {
    let mut s = Sysctls::default();
    s.set("net/ipv4/tcp_retries2", "0x10").expect("hexadecimal");
    assert_eq!(s.tcp.retries2, 16);
    s.set("net.ipv4.tcp_retries2", "010").expect("octal");
    assert_eq!(s.tcp.retries2, 8);
}
