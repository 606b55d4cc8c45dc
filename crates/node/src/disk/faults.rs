//! Effect of the active disk fault on operations. Pure except for the counters.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chaosrun_cluster::fault_control::{DiskCounters, DiskErrno, DiskFault, DiskOperation};

/// Active disk fault with counters of operations.
#[derive(Debug, Default)]
pub(super) struct ActiveDiskFault {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    fault: Option<DiskFault>,
    counters: DiskCounters,
    /// Accumulated share of failures. Grows by the error rate with each operation. At 1 an operation fails, and 1 is subtracted.
    due: f64,
}

/// Effect of the active fault on one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OperationEffect {
    pub delay: Duration,
    pub errno: Option<i32>,
}

impl ActiveDiskFault {
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

    /// Determines the effect on an operation and counts the operation. Failures are not random: at a rate of 0.25 every fourth operation
    /// fails.
    pub fn meet(&self, operation: DiskOperation) -> OperationEffect {
        self.with(|State { fault, counters, due }| {
            match operation {
                DiskOperation::Read => counters.reads += 1,
                DiskOperation::Write => counters.writes += 1,
                DiskOperation::Sync => counters.syncs += 1,
                DiskOperation::Open => {}
            }
            let Some(fault) = fault else { return OperationEffect { delay: Duration::ZERO, errno: None } };
            let delay = match operation {
                DiskOperation::Read => fault.read_delay,
                DiskOperation::Write => fault.write_delay,
                DiskOperation::Sync => fault.sync_delay,
                DiskOperation::Open => Duration::ZERO,
            };
            let mut errno = None;
            if fault.read_only && operation == DiskOperation::Write {
                errno = Some(libc::EROFS);
            } else if fault.operations.contains(&operation) {
                *due += fault.error;
                if *due >= 1.0 {
                    *due -= 1.0;
                    errno = Some(number(fault.errno));
                }
            }
            counters.delayed += u64::from(!delay.is_zero());
            counters.failed += u64::from(errno.is_some());
            OperationEffect { delay, errno }
        })
    }

    /// Returns the error for a change of the folder while the fault makes the disk read-only. [`ActiveDiskFault::meet`] refuses writes to
    /// open files.
    pub fn change(&self) -> io::Result<()> {
        self.with(|State { fault, counters, .. }| {
            if !fault.as_ref().is_some_and(|fault| fault.read_only) {
                return Ok(());
            }
            counters.failed += 1;
            Err(io::Error::from_raw_os_error(libc::EROFS))
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
    fn error_rate_and_delays_apply_per_operation() {
        let faults = ActiveDiskFault::default();
        let ms = Duration::from_millis;
        assert_eq!(faults.meet(DiskOperation::Write), OperationEffect { delay: ms(0), errno: None });
        faults.set(Some(DiskFault {
            read_delay: ms(1),
            write_delay: ms(2),
            sync_delay: ms(3),
            error: 0.25,
            errno: DiskErrno::Enospc,
            operations: vec![DiskOperation::Write],
            read_only: false,
        }));
        let writes: Vec<OperationEffect> = (0..8).map(|_| faults.meet(DiskOperation::Write)).collect();
        assert_eq!(writes.iter().filter(|fate| fate.errno == Some(libc::ENOSPC)).count(), 2);
        assert!(writes.iter().all(|fate| fate.delay == ms(2)));
        assert_eq!(faults.meet(DiskOperation::Sync), OperationEffect { delay: ms(3), errno: None });
        assert_eq!(faults.meet(DiskOperation::Open), OperationEffect { delay: ms(0), errno: None });
        faults.set(None);
        assert_eq!(faults.meet(DiskOperation::Read), OperationEffect { delay: ms(0), errno: None });
        let expected = DiskCounters { reads: 1, writes: 9, syncs: 1, delayed: 9, failed: 2, lost: 0 };
        assert_eq!(faults.counters(), expected);
    }

    #[test]
    fn a_read_only_disk_refuses_every_change_and_can_be_read() {
        let faults = ActiveDiskFault::default();
        faults.change().unwrap();
        faults.set(Some(DiskFault { read_only: true, ..DiskFault::default() }));
        assert_eq!(faults.meet(DiskOperation::Write).errno, Some(libc::EROFS));
        assert_eq!(faults.change().unwrap_err().raw_os_error(), Some(libc::EROFS));
        for fine in [DiskOperation::Read, DiskOperation::Open, DiskOperation::Sync] {
            assert_eq!(faults.meet(fine).errno, None, "{fine:?}");
        }
        assert_eq!(faults.counters().failed, 2);
        faults.set(None);
        faults.change().unwrap();
    }
}
