//! `nsrun PROGRAM [ARG ...]`: runs a program in a fresh network namespace, as root or through a user namespace.

use std::os::unix::process::CommandExt;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let Some(program) = args.next() else { anyhow::bail!("usage: nsrun PROGRAM [ARG ...]") };
    stackd_integration::ns::enter()?;
    Err(std::process::Command::new(&program).args(args).exec())
        .map_err(|e| anyhow::anyhow!("cannot run {}: {e}", program.display()))
}
