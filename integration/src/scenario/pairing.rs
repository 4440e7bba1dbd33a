//! One connection between our TCP and Linux's, bytes both ways at once, compared.

use crate::bed::Bed;
use anyhow::{Context, Result, ensure};
use stackd_client::{Session, TcpConnect, TcpListener};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Who speaks to whom, and how.
#[derive(Clone, Copy, Debug)]
pub struct Pairing {
    /// Our congestion control.
    pub ours: &'static str,
    /// Linux's.
    pub theirs: &'static str,
    /// Linux listens.
    pub we_connect: bool,
    /// How much goes each way.
    pub bytes: usize,
}

/// Sends `bytes` each way and compares what arrived.
pub fn exchange(bed: &Bed, session: &Session, v6: bool, pairing: Pairing) -> Result<()> {
    let Pairing { ours: our_cc, theirs: their_cc, we_connect, bytes } = pairing;
    let (ours, theirs) = if we_connect {
        let kernel = std::net::TcpListener::bind((bed.kernel(v6), 0))?;
        let ours = TcpConnect::new(session).congestion(our_cc).timeout(LIMIT).connect(kernel.local_addr()?)?;
        (ours, kernel.accept()?.0)
    } else {
        let listener = TcpListener::bind_in(session, (bed.ours(v6), 0))?;
        listener.set_congestion(our_cc)?;
        let theirs = std::net::TcpStream::connect_timeout(&listener.local_addr()?, LIMIT)?;
        (listener.accept()?.0, theirs)
    };
    rustix::net::sockopt::set_tcp_congestion(&theirs, their_cc)?;
    ensure!(ours.congestion()? == our_cc, "{} instead of {our_cc}", ours.congestion()?);
    for timeout in [ours.set_read_timeout(Some(LIMIT)), ours.set_write_timeout(Some(LIMIT))] {
        timeout?;
    }
    theirs.set_read_timeout(Some(LIMIT))?;
    theirs.set_write_timeout(Some(LIMIT))?;
    let (out, back) = (pattern(bytes, 7), pattern(bytes, 11));
    std::thread::scope(|scope| -> Result<()> {
        let sends = scope.spawn(|| -> Result<()> {
            (&ours).write_all(&out).context("our writes")?;
            Ok(ours.shutdown(Shutdown::Write)?)
        });
        let answers = scope.spawn(|| -> Result<()> {
            (&theirs).write_all(&back).context("Linux's writes")?;
            Ok(theirs.shutdown(Shutdown::Write)?)
        });
        let arrives = scope.spawn(|| read_all(&theirs).context("Linux's reads"));
        let got = read_all(&ours).context("our reads");
        let joined = |r: std::thread::Result<_>| r.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")));
        joined(sends.join())?;
        joined(answers.join())?;
        ensure!(got? == back, "other bytes came to us than Linux sent");
        let arrived = arrives.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))?;
        ensure!(arrived == out, "other bytes came to Linux than we sent");
        Ok(())
    })
}

fn read_all(mut from: impl Read) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    from.read_to_end(&mut all)?;
    Ok(all)
}

/// Bytes with no period that a lost or doubled segment could hide in.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut x = seed;
    (0..len)
        .map(|_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        })
        .collect()
}
