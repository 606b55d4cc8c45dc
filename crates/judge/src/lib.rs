//! Judge: a model that grades diagnoses of agents. Its grades are advice, stored apart from verdicts and scores, which they do not change.
//!
//! [`gather`] makes one question per trial from its events. [`session`] asks those that have no stored answer. [`agreement`] compares the
//! answers with the grades of the rules.

pub mod agreement;
mod answer;
mod gather;
mod material;
pub mod session;

pub use agreement::Agreement;
pub use chaosrun_event::{Cause, JudgeAnswer as Answer, JudgeReply as Said, Judgement};
pub use gather::{Gathered, JudgeQuestion, JudgeSelection, gather};
pub use session::{JudgeInputs, JudgedTrial, Verdicts, judge};

/// Version of the question and of the answer format. A new version asks again.
pub(crate) const JUDGE_VERSION: u32 = 1;
