//! The daemon as a process: configuration mistakes, one daemon a path, stale sockets, a clean stop.

#![allow(dead_code, reason = "each test file uses its part of `common`")]
mod common;

use common::{Daemon, output, stackd};
use rustix::process::Signal;
use std::os::unix::net::UnixListener;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_bad_file_is_refused_with_its_place() {
    let dir = dir();
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, "workers = 1\n\n[[device]]\nname = \"tap0\"\nkind = \"tun\"\n").expect("written");
    for extra in [&["--check"][..], &[]] {
        let out = output(stackd(dir.path()).arg("--config").arg(&file).args(extra));
        assert_eq!(out.status.code(), Some(78));
        let text = String::from_utf8_lossy(&out.stderr);
        let want = format!(
            "stackd: {}:5:8: device.kind: unknown variant `tun`, expected one of `tap`, `wire`, `dummy`\n",
            file.display()
        );
        assert_eq!(text, want);
    }
}

#[test]
fn a_sysctl_that_does_not_exist_is_refused_with_its_place() {
    let dir = dir();
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, "[sysctl]\n\"net.ipv4.tcp_sakc\" = 1\n").expect("written");
    let out = output(stackd(dir.path()).arg("--config").arg(&file).arg("--check"));
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(78), "{text}");
    assert!(text.contains("bad.toml:2:1") && text.contains("net.ipv4.tcp_sakc"), "{text}");
}

#[test]
fn check_accepts_a_good_file_and_opens_nothing() {
    let dir = dir();
    let file = dir.path().join("good.toml");
    std::fs::write(&file, "workers = 2\n[sysctl]\n\"net.ipv4.tcp_congestion_control\" = \"cubic\"\n").expect("written");
    let out = output(stackd(dir.path()).arg("--config").arg(&file).arg("--check"));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(!dir.path().join("control").exists());
}

#[test]
fn a_second_daemon_on_the_same_path_is_refused_by_name() {
    let dir = dir();
    let first = Daemon::start(dir.path(), "");
    let out = output(&mut stackd(dir.path()));
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(text.contains("already serves") && text.contains("--control"), "{text}");
    assert!(first.control().exists(), "the first one is undisturbed");
    assert_eq!(first.stop().code(), Some(0));
}

#[test]
fn sockets_that_a_dead_daemon_left_are_replaced() {
    let dir = dir();
    // Dropping a listener leaves its file, as kill -9 does.
    drop(UnixListener::bind(dir.path().join("control")).expect("bound"));
    drop(UnixListener::bind(dir.path().join("attach")).expect("bound"));
    let daemon = Daemon::start(dir.path(), "");
    std::os::unix::net::UnixStream::connect(daemon.control()).expect("the new daemon listens");
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Group and mode of what is there.
fn door(path: &std::path::Path) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).expect("a socket");
    (meta.gid(), meta.mode() & 0o777)
}

#[test]
fn a_group_may_be_the_only_one_to_open_the_sockets() {
    let me = rustix::process::getegid().as_raw();
    let dir = dir();
    for (config, mode) in [("", if rustix::process::geteuid().is_root() { 0o666 } else { 0o600 }), ("GROUP", 0o660)] {
        let daemon = Daemon::start(dir.path(), &config.replace("GROUP", &format!("group = \"{me}\"")));
        for socket in ["control", "attach"] {
            assert_eq!(door(&dir.path().join(socket)), (me, mode), "{socket}, {config}");
        }
        assert_eq!(daemon.stop().code(), Some(0));
    }
    let out = output(stackd(dir.path()).env("STACKD_GROUP", "no such group"));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.contains("getent group") && text.contains("STACKD_GROUP"), "{text}");
}

#[test]
fn a_daemon_killed_hard_can_be_started_again() {
    let dir = dir();
    let first = Daemon::start(dir.path(), "");
    first.signal(Signal::KILL);
    first.wait();
    assert!(dir.path().join("control").exists(), "kill -9 leaves the file");
    assert_eq!(Daemon::start(dir.path(), "").stop().code(), Some(0));
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = dir();
    std::fs::write(dir.path().join("attach"), "precious").expect("written");
    let out = output(&mut stackd(dir.path()));
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("is not a socket"));
    assert_eq!(std::fs::read_to_string(dir.path().join("attach")).expect("there"), "precious");
}

#[test]
fn sigterm_ends_it_cleanly_and_removes_its_sockets() {
    let dir = dir();
    let daemon = Daemon::start(dir.path(), "");
    assert_eq!(daemon.stop().code(), Some(0));
    for name in ["control", "attach", "control.lock"] {
        assert!(!dir.path().join(name).exists(), "{name} was left");
    }
}

/// The CPUs that the daemon's worker may use, as the kernel has it.
fn worker_cpus(pid: u32) -> rustix::thread::CpuSet {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let worker = tasks
        .map(|t| t.expect("a thread").path())
        .find(|t| std::fs::read_to_string(t.join("comm")).expect("its name").trim() == "shard0");
    let id = worker.and_then(|w| w.file_name()?.to_str()?.parse().ok()).and_then(rustix::process::Pid::from_raw);
    rustix::thread::sched_getaffinity(id).expect("its CPUs")
}

#[test]
fn a_worker_stays_on_the_cpu_it_was_given_and_one_that_is_not_there_is_refused() {
    let all = rustix::thread::sched_getaffinity(None).expect("our CPUs");
    let (have, miss): (Vec<usize>, Vec<usize>) = (0..rustix::thread::CpuSet::MAX_CPU).partition(|&n| all.is_set(n));
    let place = dir();
    let last = have.last().expect("one at least");
    let daemon = Daemon::start(place.path(), &format!("worker_cpus = [{last}]\n"));
    let cpus = worker_cpus(daemon.pid());
    assert!(cpus.is_set(*last) && cpus.count() == 1, "{cpus:?}");
    assert_eq!(daemon.stop().code(), Some(0));

    let nowhere = miss.last().expect("no machine has them all");
    let out = output(stackd(dir().path()).args(["--worker-cpus", &nowhere.to_string()]));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.contains(&format!("cannot stay on CPU {nowhere}")), "{text}");
}
