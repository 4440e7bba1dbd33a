//! Every mistake names its file, line, key and remedy.

use super::*;

fn load(text: &str) -> Result<Config, ConfigError> {
    Config::from_text("stackd.toml", text, &Args::default())
}

/// The message that loading `text` ends with.
fn refusal(text: &str) -> String {
    match load(text) {
        Ok(config) => panic!("was accepted: {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_empty_file_is_the_default() {
    let config = load("").expect("the default");
    assert_eq!(config.workers, 1);
    assert!(config.devices.is_empty() && config.routes.is_empty() && config.sysctls.is_empty());
    assert!(config.control.ends_with("control.sock") && config.attach.ends_with("attach.sock"));
}

#[test]
fn the_shipped_example_is_accepted() {
    let text = include_str!("../../../stackd.toml");
    let config = load(text).expect("the example");
    assert!(!config.devices.is_empty());
}

#[test]
fn offloads_are_on_unless_a_tap_says_otherwise() {
    let tap = "[[device]]\nname = \"t0\"\nkind = \"tap\"\n";
    assert!(load(tap).expect("a tap").devices[0].offload);
    assert!(!load(&format!("{tap}offload = false")).expect("a plain tap").devices[0].offload);
    let wire = "[[device]]\nname = \"w0\"\nkind = \"wire\"\nconnect = \"/x\"\noffload = false";
    assert_eq!(
        refusal(wire),
        "stackd.toml:5:1: device.offload: a wire carries every frame whole; want a TAP, or leave this out"
    );
}

#[test]
fn mistakes_name_line_key_and_remedy() {
    let golden = [
        ("workers = 0", "stackd.toml:1:1: workers: 0 workers; want 1 to 64"),
        (
            "\nworkrs = 2",
            "stackd.toml:2:1: workrs: unknown field `workrs`, expected one of `control`, `attach`, `group`, `workers`, `worker_cpus`, \
             `spin_us`, `stop_timeout`, `log`, `quota`, `sysctl`, `device`, `route`, `neighbour`",
        ),
        (
            "workers = 2\nworker_cpus = [1]",
            "stackd.toml:2:1: worker_cpus: 1 CPUs for 2 workers; want one for each, or leave it out",
        ),
        ("worker_cpus = [5000]", "stackd.toml:1:1: worker_cpus: no system has a CPU 5000; want numbers below 1024"),
        ("workers = \"two\"", "stackd.toml:1:11: workers: invalid type: string \"two\", expected u8"),
        (
            "[[device]]\nname = \"w0\"\nkind = \"wire\"\nconnect = \"/x\"\n[device.emulate]\nrate = \"10mbits\"",
            "stackd.toml:6:8: device.emulate.rate: \"10mbits\" is not a rate; want a number of bits per second with a unit, as \
             \"512kbit\", \"100mbit\" or \"10gbit\"",
        ),
        (
            "[[device]]\nname = \"t0\"\nkind = \"tap\"\n\n[[device]]\nname = \"t0\"\nkind = \"tap\"",
            "stackd.toml:6:1: device.name: a second device named \"t0\"; want each name once",
        ),
        (
            "[[device]]\nname = \"w0\"\nkind = \"wire\"",
            "stackd.toml:3:1: device.kind: a wire needs one of: listen = \"/path\", connect = \"/path\"",
        ),
        (
            "[[device]]\nname = \"t0\"\nkind = \"tap\"\naddresses = [\"10.0.0.1/33\"]",
            "stackd.toml:4:13: device.addresses: \"10.0.0.1/33\" is not an address with a prefix length (at most 32 here); want an \
             address and a prefix length, as \"10.0.0.2/24\" or \"fd00::2/64\"",
        ),
        (
            "[[route]]\nto = \"default\"\ndev = \"eth9\"",
            "stackd.toml:3:1: route.dev: no device \"eth9\" in this file; want one of lo",
        ),
        (
            "[sysctl]\n\"net.ipv4.tcp_sack\" = 1.5",
            "stackd.toml:2:1: sysctl.\"net.ipv4.tcp_sack\": want a number, a string, or an array of them",
        ),
    ];
    for (text, want) in golden {
        assert_eq!(refusal(text), want);
    }
}

#[test]
fn a_broken_line_is_named() {
    let error = refusal("workers = 1\nspin_us = = 3");
    assert!(error.starts_with("stackd.toml:2:"), "{error}");
}

#[test]
fn flags_win_over_the_file_and_add_to_it() {
    let args = Args {
        workers: Some(2),
        tap: vec!["tap7".into()],
        address: vec!["tap7=10.7.0.2/24".into()],
        route: vec!["to=\"default\", via=\"10.7.0.1\", dev=\"tap7\"".into()],
        sysctl: vec!["net.ipv4.tcp_sack=0".into()],
        ..Args::default()
    };
    let config =
        Config::from_text("stackd.toml", "workers = 1\n[sysctl]\n\"net.ipv4.tcp_sack\" = 1", &args).expect("fine");
    assert_eq!(config.workers, 2);
    assert_eq!(config.devices[0].name, "tap7");
    assert_eq!(config.devices[0].addresses[0].to_string(), "10.7.0.2/24");
    assert_eq!(config.routes[0].via, Some("10.7.0.1".parse().expect("an address")));
    let last = config.sysctls.last().expect("two");
    assert_eq!(last, &("net.ipv4.tcp_sack".to_owned(), "0".to_owned()));
}

#[test]
fn a_flag_with_a_mistake_names_the_flag() {
    let args = Args { address: vec!["tap7=10.7.0.2/24".into()], ..Args::default() };
    let error = Config::from_text("stackd.toml", "", &args).expect_err("no such device").to_string();
    assert_eq!(error, "--address: there is no device \"tap7\"; open it with --tap tap7 or --device");
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let args = Args { config: Some("/nonexistent/stackd.toml".into()), ..Args::default() };
    let error = Config::load(&args).expect_err("no file").to_string();
    assert!(error.starts_with("/nonexistent/stackd.toml: cannot be read"), "{error}");
}

/// `missing field` named the key and left what may stand there to be guessed.
#[test]
fn a_missing_key_is_told_with_what_could_stand_there() {
    for (text, want) in [
        ("[[device]]\nname = \"x\"\n", "missing field `kind`; want kind = \"tap\", \"wire\" or \"dummy\""),
        ("[[device]]\nkind = \"tap\"\n", "missing field `name`; want name = \"tap0\""),
        ("[[route]]\nvia = \"10.0.0.1\"\n", "missing field `to`; want to = \"default\" or a network"),
        ("[[neighbour]]\naddr = \"10.0.0.1\"\ndev = \"lo\"\n", "missing field `mac`; want mac = \"02:00"),
    ] {
        let error = Config::from_text("f", text, &Args::default()).expect_err("incomplete");
        assert!(error.message.starts_with(want), "{}", error.message);
    }
    let args = Args { device: vec!["name=\"w0\"".into()], ..Args::default() };
    let error = Config::from_text("f", "", &args).expect_err("incomplete");
    assert!(error.message.ends_with("want kind = \"tap\", \"wire\" or \"dummy\""), "{}", error.message);
}
