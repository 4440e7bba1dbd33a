use proptest::prelude::*;
use stackd_proto::v1::TcpState;

use super::*;

fn services() -> Services {
    Services::parse("http 80/tcp\nhttps 443/tcp\n")
}

fn socket(local: &str, remote: &str) -> SocketDiag {
    let end = |text: &str| {
        let addr: std::net::SocketAddr = text.parse().unwrap();
        let address = match addr.ip() {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        Some(Endpoint { address, port: addr.port().into(), scope_id: 0 })
    };
    SocketDiag { state: TcpState::Established as i32, local: end(local), remote: end(remote), ..Default::default() }
}

fn passes(filter: &str, local: &str, remote: &str) -> bool {
    let filter = Filter::parse(&[filter], &services()).unwrap_or_else(|e| panic!("{filter}: {e}"));
    filter.matches(&socket(local, remote), (32768, 60999))
}

#[test]
fn predicates_against_one_socket() {
    let (local, remote) = ("10.1.2.3:45000", "192.0.2.7:443");
    for (filter, want) in [
        ("dport = :443", true),
        ("dport = :https", true),
        ("dport = 443", true),
        ("dport eq :80", false),
        ("dport != :80", true),
        ("sport > :1024", true),
        ("sport le :1024", false),
        ("dst 192.0.2.0/24", true),
        ("dst = 192.0.2.7", true),
        ("dst != 192.0.2.7", false),
        ("dst 192.0.2.7:443", true),
        ("dst 192.0.2.7:80", false),
        ("dst :443", true),
        ("src *:45000", true),
        ("src 10.0.0.0/8 and dst 10.0.0.0/8", false),
        ("src 10.0.0.0/8 or dst 10.0.0.0/8", true),
        ("( dport = :80 or sport = :45000 ) and dst 192.0.2.0/24", true),
        ("(dport=:80||sport=:45000)&&dst 192.0.2.0/24", true),
        ("not dport = :443", false),
        ("! dport = :80", true),
        ("autobound", true),
        ("dport = :443 sport = :45000", true),
        ("dport = :443 sport = :45001", false),
        // "and" binds tighter than "or".
        ("dport = :443 or sport = :1 and sport = :2", true),
        ("dst ::/0", false),
        ("dev = eth0", false),
        ("dev != eth0", true),
        ("fwmark 0/0xff", true),
        ("fwmark = 0x10", false),
        ("state established", true),
        ("state listening", false),
        ("exclude established", false),
        ("state connected exclude time-wait dport = :443", true),
        ("state bucket state established", true),
        ("", true),
    ] {
        assert_eq!(passes(filter, local, remote), want, "{filter}");
    }
}

#[test]
fn ipv6_and_mapped_addresses() {
    assert!(passes("dst [2001:db8::1]:80", "[::1]:5", "[2001:db8::1]:80"));
    assert!(passes("dst 2001:db8::/32", "[::1]:5", "[2001:db8::1]:80"));
    assert!(passes("dst [2001:db8::]/32:80", "[::1]:5", "[2001:db8::1]:80"));
    assert!(!passes("dst 2001:db9::/32", "[::1]:5", "[2001:db8::1]:80"));
    assert!(passes("dst 10.0.0.0/8", "[::1]:5", "[::ffff:10.1.1.1]:80"));
}

#[test]
fn errors_name_the_word() {
    for (filter, word) in [
        ("state nope", "nope"),
        ("foo bar", "foo"),
        ("dport = :xx", ":xx"),
        ("dport 80", "80"),
        ("dst 10.0.0.0/33", "10.0.0.0/33"),
        ("( dport = :80", ""),
        ("dport = :80 )", ")"),
        ("dport = :99999", ":99999"),
        ("not", ""),
        ("dst [::1:80", "[::1:80"),
    ] {
        let error = Filter::parse(&[filter], &services()).unwrap_err();
        assert_eq!(error.word, word, "{filter}: {error}");
    }
}

#[test]
fn deep_nesting_is_refused_rather_than_overflowing() {
    let deep = "(".repeat(100_000);
    assert!(Filter::parse(&[deep], &services()).unwrap_err().reason.contains("nested"));
    let deep = "! ".repeat(100_000);
    assert!(Filter::parse(&[deep], &services()).unwrap_err().reason.contains("nested"));
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = Filter::parse(&[text], &services());
    }

    #[test]
    fn no_words_of_the_language_panic(words in proptest::collection::vec(
        prop_oneof![
            Just("("), Just(")"), Just("and"), Just("or"), Just("not"), Just("!"), Just("dst"), Just("src"), Just("dport"),
            Just("sport"), Just("="), Just("!="), Just(">="), Just(":80"), Just("10.0.0.0/8"), Just("[::1]:80"), Just("state"),
            Just("exclude"), Just("established"), Just("autobound"), Just("dev"), Just("fwmark"), Just("1/2"), Just("[]"),
        ], 0..24)) {
        if let Ok(filter) = Filter::parse(&words, &services()) {
            filter.matches(&socket("10.0.0.1:1", "10.0.0.2:80"), (1, 2));
        }
    }

    #[test]
    fn a_port_comparison_is_the_comparison(port in 0u16.., bound in 0u16..) {
        let local = format!("10.0.0.1:{port}");
        prop_assert_eq!(passes(&format!("sport >= :{bound}"), &local, "10.0.0.2:1"), port >= bound);
        prop_assert_eq!(passes(&format!("not sport >= :{bound}"), &local, "10.0.0.2:1"), port < bound);
    }

    #[test]
    fn a_prefix_match_is_equality_of_the_leading_bits(a in 0u32.., b in 0u32.., len in 0u8..=32) {
        let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
        let filter = format!("dst {}/{len}", Ipv4Addr::from(b));
        prop_assert_eq!(passes(&filter, "1.1.1.1:1", &format!("{}:1", Ipv4Addr::from(a))), a & mask == b & mask);
    }
}
