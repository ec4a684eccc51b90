//! All integration tests, in one binary: linking once is what keeps the fast tier fast.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod architecture;
mod archive;
mod as_of;
mod barman;
mod base_backup;
mod base_matrix;
mod cells;
mod chains;
mod commands;
mod conformance;
mod copies;
mod databasus;
mod disasters;
mod elsewhere;
mod engines;
mod faults;
mod found;
mod judging;
mod keep;
mod lab;
mod limits;
mod majors;
mod matrix;
mod options;
mod moves;
mod objects;
mod parallel;
mod pgbackrest;
mod podman;
mod program;
mod quarantine;
mod registry;
mod release;
mod rules;
mod scenarios;
mod scope;
mod signals;
mod soak;
mod stored;
mod stores;
mod support;
mod sweep;
mod tools;
mod walg;
