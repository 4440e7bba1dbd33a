//! `ss` for stackd: the flags, columns and filter language of iproute2's `ss`, over the control socket of a live daemon.
//!
//! The pieces are usable by themselves: [`filter`] parses and evaluates socket filters (`netctl kill` uses it), [`render`] makes
//! the text, [`json`] the JSON.
#![forbid(unsafe_code)]

pub mod cli;
pub mod filter;
pub mod info;
pub mod json;
pub mod number;
pub mod render;
pub mod services;
pub mod state;
pub mod summary;
