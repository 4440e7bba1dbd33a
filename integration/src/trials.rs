//! A test program whose cases run in a network namespace, or are listed as ignored with the reason.

use crate::ns;
use libtest_mimic::{Arguments, Failed, Trial};
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

const INSIDE: &str = "STACKD_TEST_INSIDE";

/// One case.
pub struct Case {
    name: String,
    needs_tap: bool,
    needs_program: Option<&'static str>,
    work: Box<dyn FnOnce() -> anyhow::Result<()> + Send>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A case that needs nothing but processes.
pub fn case(name: impl Into<String>, work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Case {
    Case { name: name.into(), needs_tap: false, needs_program: None, work: Box::new(work) }
}

impl Case {
    /// It opens a TAP.
    pub fn tap(mut self) -> Self {
        self.needs_tap = true;
        self
    }

    /// It starts a program of the system.
    pub fn program(mut self, name: &'static str) -> Self {
        self.needs_program = Some(name);
        self
    }

    /// Why it cannot run here, if it cannot.
    fn skip_reason(&self) -> Option<String> {
        let support = ns::support();
        if self.needs_tap
            && let Some(why) = support.no_netns.as_ref().or(support.no_tap.as_ref())
        {
            return Some(why.replace('\n', " "));
        }
        let program = self.needs_program?;
        crate::bins::system(program).is_none().then(|| format!("{program} is not installed"))
    }
}

/// Runs the cases, one at a time: each brings several busy processes.
pub fn main(cases: Vec<Case>) -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let wants_ns = cases.iter().any(|c| c.needs_tap) && ns::support().no_netns.is_none();
    if wants_ns && !args.list && std::env::var_os(INSIDE).is_none() {
        let error = match std::env::current_exe().map_err(anyhow::Error::from).and_then(ns::inside) {
            Ok(mut command) => command.env(INSIDE, "1").args(std::env::args_os().skip(1)).exec().to_string(),
            Err(e) => format!("{e:#}"),
        };
        eprintln!("cannot enter a network namespace: {error}");
        return ExitCode::FAILURE;
    }
    let trials = cases.into_iter().map(trial).collect();
    libtest_mimic::run(&args, trials).exit_code()
}

fn trial(case: Case) -> Trial {
    match case.skip_reason() {
        Some(why) => {
            eprintln!("skipped: {}: {why}", case.name);
            Trial::test(format!("{} (skipped: {why})", case.name), || Ok(())).with_ignored_flag(true)
        }
        None => Trial::test(case.name, move || (case.work)().map_err(|e| Failed::from(format!("{e:#}")))),
    }
}
