//! All integration tests, in one binary: linking once is what keeps the fast tier fast.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod architecture;
mod base_backup;
mod base_matrix;
mod cells;
mod chains;
mod commands;
mod conformance;
mod engines;
mod faults;
mod found;
mod judging;
mod lab;
mod majors;
mod matrix;
mod parallel;
mod program;
mod quarantine;
mod release;
mod scenarios;
mod scope;
mod signals;
mod soak;
mod stored;
mod support;
