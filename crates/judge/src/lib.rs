//! Judge: a model that grades diagnoses of agents. Its grades are advice. They are stored separately, and change no verdict and no score.
//!
//! [`gather`] makes one question per trial from its events. [`session`] asks the questions that have no stored answer. [`agreement`]
//! compares the answers with the grades of the rules.

pub mod agreement;
mod answer;
mod gather;
mod material;
pub mod session;

pub use agreement::Agreement;
pub use chaosrun_event::{Cause, JudgeAnswer as Answer, JudgeReply as Said, Judgement};
pub use gather::{Gathered, JudgeQuestion, JudgeSelection, gather};
pub use session::{JudgeInputs, JudgedTrial, Verdicts, judge};

/// Version of the judge's question and of the answer format. Stored answers of another version are not reused.
pub(crate) const JUDGE_VERSION: u32 = 1;
