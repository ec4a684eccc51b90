//! All integration tests, in one binary: linking once is what keeps the fast tier fast.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod architecture;
mod base_backup;
mod cells;
mod commands;
mod conformance;
mod engines;
mod faults;
mod found;
mod judging;
mod keep;
mod lab;
mod limits;
mod matrix;
mod options;
mod moves;
mod parallel;
mod podman;
mod program;
mod registry;
mod release;
mod rules;
mod scenarios;
mod scope;
mod signals;
mod soak;
mod stored;
mod support;
