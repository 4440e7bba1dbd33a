//! Tests of the whole connection: a segment at a time, and two connections over a bad link.

mod link;
mod pair;
mod rules;
mod segments;
