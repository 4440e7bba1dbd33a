//! Which CPU each party of a row runs on, and how it waits. Placement decides latency more than any stack's code does, so both arms
//! try the same set and each is represented by its best.

use anyhow::{Context, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where the three parties of a run are, and how the two ends wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// What the output calls it.
    pub name: &'static str,
    /// The client program's CPU, counted among those this process may use; `None`: the scheduler chooses.
    pub client: Option<usize>,
    /// The daemon's worker's. Means nothing to the native arm.
    pub worker: Option<usize>,
    /// The server program's.
    pub server: Option<usize>,
    /// How the client and the server wait.
    pub waits: Waits,
}

/// How the two ends wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// As their library does unless told otherwise.
    Usual,
    /// They sleep in the kernel.
    Sleep,
    /// They spin.
    Spin,
    /// They spin, and those on the kernel's sockets yield between two looks (stackd's clients find out by themselves when to).
    Yield,
    /// The same, and a turn of those on the kernel's sockets lasts as long as one of stackd's clients.
    Turns,
    /// The client sleeps, the server spins.
    ClientSleeps,
}

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Who asks.
    Client,
    /// Who answers.
    Server,
}

impl Waits {
    /// The load program's flags for it.
    pub fn flags(self, end: End, native: bool) -> &'static [&'static str] {
        match (self, end) {
            (Self::Usual, _) => &[],
            (Self::Sleep, _) | (Self::ClientSleeps, End::Client) => &["--spin-us", "0"],
            (Self::Yield, _) if native => &["--spin-us", "1000000", "--yield-us", "0"],
            (Self::Turns, _) if native => &["--spin-us", "1000000", "--yield-us", "3"],
            (Self::Spin | Self::Yield | Self::Turns | Self::ClientSleeps, _) => &["--spin-us", "1000000"],
        }
    }
}

impl Placement {
    const fn new(
        name: &'static str,
        client: Option<usize>,
        worker: Option<usize>,
        server: Option<usize>,
        waits: Waits,
    ) -> Self {
        Self { name, client, worker, server, waits }
    }

    /// The scheduler's choice.
    pub const fn anywhere(waits: Waits) -> Self {
        Self::new("anywhere", None, None, None, waits)
    }

    /// Whether the machine has the CPUs for it.
    pub fn fits(&self, cpus: usize) -> bool {
        [self.client, self.worker, self.server].into_iter().flatten().all(|cpu| cpu < cpus)
    }
}

const ON_0: Option<usize> = Some(0);
const ON_1: Option<usize> = Some(1);
const ON_2: Option<usize> = Some(2);

/// Rows that nobody places.
pub const USUAL: &[Placement] = &[Placement::anywhere(Waits::Usual)];
/// The same, and nobody spins.
pub const ASLEEP: &[Placement] = &[Placement::anywhere(Waits::Sleep)];

/// What the stackd arm tries.
pub const WITH_WORKER: &[Placement] = &[
    Placement::anywhere(Waits::Spin),
    Placement::new("all on one CPU, spin", ON_0, ON_0, ON_0, Waits::Yield),
    Placement::new("all on one CPU, sleep", ON_0, ON_0, ON_0, Waits::Sleep),
    Placement::new("client | worker, server", ON_0, ON_1, ON_1, Waits::Yield),
    Placement::new("client, worker | server", ON_0, ON_0, ON_1, Waits::Spin),
    Placement::new("client sleeps, worker | server", ON_0, ON_0, ON_1, Waits::ClientSleeps),
    Placement::new("client, server | worker", ON_0, ON_1, ON_0, Waits::Yield),
    Placement::new("client, server in turns | worker", ON_0, ON_1, ON_0, Waits::Turns),
    Placement::new("client, server sleep | worker", ON_0, ON_1, ON_0, Waits::Sleep),
    Placement::new("client | worker | server", ON_0, ON_1, ON_2, Waits::Spin),
];

/// What the native arm tries.
pub const TWO_ENDS: &[Placement] = &[
    Placement::anywhere(Waits::Spin),
    Placement::new("one CPU, yield", ON_0, None, ON_0, Waits::Yield),
    Placement::new("one CPU, in turns", ON_0, None, ON_0, Waits::Turns),
    Placement::new("one CPU, sleep", ON_0, None, ON_0, Waits::Sleep),
    Placement::new("two CPUs, spin", ON_0, None, ON_1, Waits::Spin),
    Placement::new("two CPUs, sleep", ON_0, None, ON_1, Waits::Sleep),
];

/// The CPUs this process may use.
pub fn cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("sched_getaffinity")?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Binds a thread (`None`: this one) to the `at`-th of `cpus`, or to all of them.
pub fn bind(thread: Option<Pid>, at: Option<usize>, cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    match at.and_then(|at| cpus.get(at)) {
        Some(&cpu) => set.set(cpu),
        None => cpus.iter().for_each(|&cpu| set.set(cpu)),
    }
    sched_setaffinity(thread, &set).context("sched_setaffinity")
}

/// Runs `work` on a thread bound to a CPU: processes that it starts inherit that.
pub fn bound<T: Send>(at: Option<usize>, cpus: &[usize], work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            bind(None, at, cpus)?;
            work()
        });
        thread.join().map_err(|_| anyhow::anyhow!("work on a bound thread panicked"))?
    })
}

/// The thread of a process that has this name.
pub fn thread_named(process: u32, name: &str) -> Result<Pid> {
    for entry in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let path = entry?.path();
        // A thread may end between the listing and the look.
        if std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name) {
            let id = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
            return id.and_then(Pid::from_raw).context("a thread without an id");
        }
    }
    anyhow::bail!("process {process} has no thread {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_thread_stays_where_it_was_put_and_its_neighbours_do_not() -> Result<()> {
        let cpus = cpus()?;
        let inside = bound(Some(0), &cpus, super::cpus)?;
        assert_eq!(inside, cpus[..1]);
        assert_eq!(super::cpus()?, cpus, "only the worker thread was bound");
        Ok(())
    }

    #[test]
    fn a_placement_needs_the_cpus_it_names() {
        assert!(Placement::anywhere(Waits::Spin).fits(1));
        let three = WITH_WORKER.last().expect("some");
        assert!(!three.fits(2) && three.fits(3));
    }

    #[test]
    fn threads_are_found_by_name() -> Result<()> {
        std::thread::Builder::new()
            .name("a-bench-thread".into())
            .spawn(|| {
                let me = rustix::thread::gettid();
                assert_eq!(thread_named(std::process::id(), "a-bench-thread").expect("found"), me);
            })?
            .join()
            .map_err(|_| anyhow::anyhow!("it was not found"))?;
        let refused = thread_named(std::process::id(), "nobody").expect_err("nobody has this name");
        assert!(refused.to_string().contains("has no thread nobody"), "{refused}");
        Ok(())
    }
}
