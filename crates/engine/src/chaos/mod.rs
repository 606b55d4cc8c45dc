//! Faults of a trial: their times (timeline, pure), and the driver that injects them. The faults themselves are in [`chaosrun_fault`].
//!
//! A fault is recorded before it is injected, proven to be installed and felt afterwards, and proven gone after its removal.
//!
//! Reading order: [`timeline`], `witness` (evidence), [`driver`], [`manual_faults`] (faults without a trial).

mod witness;

pub mod driver;
pub mod manual_faults;
