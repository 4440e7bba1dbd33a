//! TAP against the kernel, in a network namespace of its own. Where none can be made, it says why and passes.

use stackd_base::Instant;
use stackd_netdev::{Device, IoVec, RX_BUFFER_LEN, Tap, TapConfig, TxFrame, TxResult, host};
use std::os::fd::AsRawFd;

/// Runs `test` in a new network namespace (and user namespace, for an ordinary user) on a thread of its own.
fn in_new_netns(test: impl FnOnce() + Send + 'static) {
    // SAFETY: takes a number; affects this thread alone. A user namespace needs a single-threaded process, so only root comes here.
    if unsafe { libc::geteuid() } != 0 {
        return eprintln!("SKIPPED: only root can unshare the network in a threaded test; run under `unshare -Urn`");
    }
    let thread = std::thread::Builder::new().spawn(move || {
        // SAFETY: takes a number; affects this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return eprintln!("SKIPPED: no network namespace: {}", std::io::Error::last_os_error());
        }
        test();
    });
    thread.expect("a thread").join().expect("the test in the namespace");
}

fn config(queues: u16) -> TapConfig {
    TapConfig { name: "st0".to_owned(), queues, mtu: 1500, netns: None }
}

fn wait(tap: &Tap) {
    let mut p = libc::pollfd { fd: tap.as_fd().expect("has one").as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, exclusively borrowed.
    assert_eq!(unsafe { libc::poll(&mut p, 1, 5000) }, 1, "nothing from the kernel in 5 s");
}

#[test]
fn the_kernel_answers_an_arp_request() {
    in_new_netns(|| {
        if !std::path::Path::new("/dev/net/tun").exists() {
            return eprintln!("SKIPPED: no /dev/net/tun");
        }
        let mut tap = Tap::open(&config(1)).expect("opens").remove(0);
        assert_eq!(tap.name(), "st0");
        host::link_up("st0").expect("up");
        host::addr_add("st0", [10, 99, 0, 1].into(), 24).expect("address");
        let mut arp = vec![0xff; 6];
        arp.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 99, 0, 2]);
        arp.extend([0, 0, 0, 0, 0, 0, 10, 99, 0, 1]);
        let pieces = [IoVec { base: arp.as_ptr(), len: 14 }, IoVec { base: arp[14..].as_ptr(), len: arp.len() - 14 }];
        let frame = TxFrame { pieces: &pieces, offload: Default::default() };
        // SAFETY: the pieces are parts of `arp`.
        assert!(matches!(unsafe { tap.transmit(Instant::ZERO, &frame) }, TxResult::Sent));
        let mut buf = vec![0; RX_BUFFER_LEN];
        loop {
            wait(&tap);
            let Some(meta) = tap.receive(Instant::ZERO, &mut buf).expect("reads") else { continue };
            let f = &buf[..meta.len];
            // Whatever else the kernel says on a new link (IPv6 router solicitations) is passed over.
            if f[12..14] == [8, 6] && f[20..22] == [0, 2] {
                assert_eq!((&f[..6], &f[28..32]), (&[2, 0, 0, 0, 0, 9][..], &[10, 99, 0, 1][..]));
                return;
            }
        }
    });
}

#[test]
fn two_queues_open_on_one_interface() {
    in_new_netns(|| match Tap::open(&config(2)) {
        Ok(queues) => {
            assert_eq!(queues.iter().map(|q| (q.name(), q.queue().0)).collect::<Vec<_>>(), [("st0", 0), ("st0", 1)])
        }
        Err(e) => eprintln!("SKIPPED: {e}"),
    });
}
