//! All integration tests, in one binary: linking once is what keeps the fast tier fast.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod architecture;
mod base_backup;
mod cells;
mod commands;
mod conformance;
mod found;
mod judging;
mod lab;
mod matrix;
mod program;
mod scenarios;
mod signals;
mod stored;
mod support;
