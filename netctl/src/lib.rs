//! `netctl`: inspect and tune a live stackd with the commands of sysctl, iproute2, tc and nstat.
//!
//! Parsing and printing are pure functions over the messages of `stackd.v1`; only `run` talks to the daemon.
#![forbid(unsafe_code)]

pub mod addr;
pub mod capture;
pub mod cli;
pub mod clients;
pub mod doctor;
pub mod ip;
pub mod kill;
pub mod man;
pub mod nstat;
pub mod record;
pub mod sysctl;
pub mod tc;
pub mod units;
pub mod words;
