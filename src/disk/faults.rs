//! What happens to an operation: pure but for its counters.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::cluster::harm::{DiskCounters, DiskErrno, DiskFault, DiskOperation};

/// The fault in force, and what was counted.
#[derive(Debug, Default)]
pub(super) struct Faults {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    fault: Option<DiskFault>,
    counters: DiskCounters,
    /// The part of a failure that is due: with every operation it grows by the share, at one whole an operation fails.
    due: f64,
}

/// What an operation meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    pub delay: Duration,
    pub errno: Option<i32>,
}

impl Faults {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn set(&self, fault: Option<DiskFault>) {
        self.with(|state| {
            state.fault = fault;
            state.due = 0.0;
        });
    }

    pub fn counters(&self) -> DiskCounters {
        self.with(|state| state.counters)
    }

    pub fn lost(&self, bytes: u64) {
        self.with(|state| state.counters.lost += bytes);
    }

    /// Which of the operations fail is not left to chance: a share of a quarter is every fourth.
    pub fn meet(&self, operation: DiskOperation) -> Fate {
        self.with(|State { fault, counters, due }| {
            match operation {
                DiskOperation::Read => counters.reads += 1,
                DiskOperation::Write => counters.writes += 1,
                DiskOperation::Sync => counters.syncs += 1,
                DiskOperation::Open => {}
            }
            let Some(fault) = fault else { return Fate { delay: Duration::ZERO, errno: None } };
            let delay = match operation {
                DiskOperation::Read => fault.read_delay,
                DiskOperation::Write => fault.write_delay,
                DiskOperation::Sync => fault.sync_delay,
                DiskOperation::Open => Duration::ZERO,
            };
            let mut errno = None;
            if fault.operations.contains(&operation) {
                *due += fault.error;
                if *due >= 1.0 {
                    *due -= 1.0;
                    errno = Some(number(fault.errno));
                }
            }
            counters.delayed += u64::from(!delay.is_zero());
            counters.failed += u64::from(errno.is_some());
            Fate { delay, errno }
        })
    }
}

fn number(errno: DiskErrno) -> i32 {
    match errno {
        DiskErrno::Eio => libc::EIO,
        DiskErrno::Enospc => libc::ENOSPC,
        DiskErrno::Erofs => libc::EROFS,
        DiskErrno::Edquot => libc::EDQUOT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_fails_and_each_kind_has_its_delay() {
        let faults = Faults::default();
        let ms = Duration::from_millis;
        assert_eq!(faults.meet(DiskOperation::Write), Fate { delay: ms(0), errno: None });
        faults.set(Some(DiskFault {
            read_delay: ms(1),
            write_delay: ms(2),
            sync_delay: ms(3),
            error: 0.25,
            errno: DiskErrno::Enospc,
            operations: vec![DiskOperation::Write],
        }));
        let writes: Vec<Fate> = (0..8).map(|_| faults.meet(DiskOperation::Write)).collect();
        assert_eq!(writes.iter().filter(|fate| fate.errno == Some(libc::ENOSPC)).count(), 2);
        assert!(writes.iter().all(|fate| fate.delay == ms(2)));
        assert_eq!(faults.meet(DiskOperation::Sync), Fate { delay: ms(3), errno: None });
        assert_eq!(faults.meet(DiskOperation::Open), Fate { delay: ms(0), errno: None });
        faults.set(None);
        assert_eq!(faults.meet(DiskOperation::Read), Fate { delay: ms(0), errno: None });
        let expected = DiskCounters { reads: 1, writes: 9, syncs: 1, delayed: 9, failed: 2, lost: 0 };
        assert_eq!(faults.counters(), expected);
    }
}
