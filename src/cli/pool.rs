//! Which drills may run at once. Pure: the same machine and drills always start in the same order.
//!
//! A drill that proves an RTO runs alone unless it was asked otherwise, because its neighbours would be in its time.

use crate::scenario::Drill;

/// Of a server whose scenario names no `postgres.memory`.
const MEMORY_DEFAULT: u64 = 1 << 30;
/// What a restored database takes, with its WAL, for each byte of a dump, which is compressed and has no indexes.
const DISK_PER_BYTE: u64 = 8;
/// An empty cluster with its first WAL.
const DISK_LEAST: u64 = 128 << 20;

/// A part of a machine, or all that there is of it for drills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
}

/// What one drill asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    share: Share,
    alone: bool,
}

impl Load {
    /// `backup_bytes`: of the largest file that the drill may pick. `jobs_timed`: drills with an RTO may have company.
    pub(crate) fn of(drill: &Drill, backup_bytes: u64, jobs_timed: bool) -> Load {
        let share = Share {
            cpus: drill.postgres.cpus.or(drill.restore.jobs).unwrap_or(1).max(1),
            memory_bytes: drill.postgres.memory_bytes.unwrap_or(MEMORY_DEFAULT),
            disk_bytes: backup_bytes.saturating_mul(DISK_PER_BYTE).max(DISK_LEAST),
        };
        Load { share, alone: drill.objectives.rto.is_some() && !jobs_timed }
    }
}

/// The first of those that wait, by their order, that may join those that run. With none running there always is one: what
/// asks for more than the machine has runs by itself.
pub(crate) fn next(waiting: &[(usize, Load)], running: &[Load], machine: Share, jobs: usize) -> Option<usize> {
    if running.is_empty() {
        return waiting.first().map(|(number, _)| *number);
    }
    if running.len() >= jobs || running.iter().any(|it| it.alone) {
        return None;
    }
    let fits = |load: &Load| {
        let all = || running.iter().chain([load]).map(|it| it.share);
        all().map(|it| u64::from(it.cpus)).sum::<u64>() <= u64::from(machine.cpus)
            && all().map(|it| u128::from(it.memory_bytes)).sum::<u128>() <= u128::from(machine.memory_bytes)
            && all().map(|it| u128::from(it.disk_bytes)).sum::<u128>() <= u128::from(machine.disk_bytes)
    };
    waiting.iter().find(|(_, load)| !load.alone && fits(load)).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Share = Share { cpus: 4, memory_bytes: 8 << 30, disk_bytes: 100 << 30 };

    fn load(cpus: u32, memory_gib: u64, disk_gib: u64) -> Load {
        Load { share: Share { cpus, memory_bytes: memory_gib << 30, disk_bytes: disk_gib << 30 }, alone: false }
    }

    fn timed() -> Load {
        Load { alone: true, ..load(1, 1, 1) }
    }

    fn numbered(loads: &[Load]) -> Vec<(usize, Load)> {
        loads.iter().copied().enumerate().collect()
    }

    #[test]
    fn drills_start_while_each_part_of_the_machine_lasts() {
        let small = load(1, 1, 1);
        for (waiting, running, jobs, expected) in [
            (vec![small], vec![], 1, Some(0)),
            (vec![small], vec![small], 1, None),
            (vec![small], vec![small], 2, Some(0)),
            (vec![small], vec![load(4, 1, 1)], 9, None),
            (vec![small], vec![load(1, 8, 1)], 9, None),
            (vec![small], vec![load(1, 1, 100)], 9, None),
            // One that does not fit does not keep the others waiting.
            (vec![load(4, 1, 1), small], vec![small], 9, Some(1)),
            (vec![], vec![small], 9, None),
        ] {
            assert_eq!(next(&numbered(&waiting), &running, MACHINE, jobs), expected, "{waiting:?} beside {running:?}");
        }
    }

    #[test]
    fn what_is_larger_than_the_machine_runs_by_itself() {
        let large = load(64, 64, 640);
        assert_eq!(next(&numbered(&[large]), &[], MACHINE, 2), Some(0));
        assert_eq!(next(&numbered(&[large]), &[load(1, 1, 1)], MACHINE, 2), None);
        assert_eq!(next(&numbered(&[load(1, 1, 1)]), &[large], MACHINE, 2), None);
    }

    #[test]
    fn a_timed_drill_has_no_company() {
        let other = load(1, 1, 1);
        assert_eq!(next(&numbered(&[timed()]), &[other], MACHINE, 9), None);
        assert_eq!(next(&numbered(&[other]), &[timed()], MACHINE, 9), None);
        assert_eq!(next(&numbered(&[timed(), other]), &[], MACHINE, 9), Some(0));
        assert_eq!(next(&numbered(&[timed(), other]), &[other], MACHINE, 9), Some(1));
    }
}
