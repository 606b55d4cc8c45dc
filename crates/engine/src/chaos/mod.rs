//! Faults of a trial: the driver that injects them at their times, and their evidence. The times are computed by
//! [`chaosrun_scenario::timeline`]. The faults themselves are in [`chaosrun_fault`].
//!
//! The intent of a fault is recorded before the injection. After the injection, the fault is proven to be installed and felt. After its
//! removal, the fault is proven to be gone.
//!
//! Reading order: `witness` (evidence), [`driver`], [`manual_faults`] (faults without a trial).

mod witness;

pub mod driver;
pub mod manual_faults;
