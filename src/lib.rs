//! Proves that PostgreSQL backups can be recovered.
//!
//! A [`scenario::Drill`] is surveyed and planned, the plan is followed in a throwaway PostgreSQL, and what was seen is
//! kept as [`evidence::Evidence`]. [`verdict::judge`] turns evidence into a verdict; [`report`] renders it.
//!
//! The modules are listed in the order in which to read them: each uses only those above it, and a test holds that.
//! ARCHITECTURE.md has the map and the invariants.

pub mod phase;
pub mod fault;
pub mod format;
pub mod target;
pub mod recipe;
pub mod blame;
pub mod check;
pub mod source;
pub mod scenario;
pub mod plan;
pub mod evidence;
pub mod verdict;
pub mod report;
pub mod store;
pub mod runtime;
pub mod drill;
pub mod cli;
