//! Tests of event streams that chaosrun 0.1 recorded, before reason codes were types. They are read with their original meaning.

use chaosrun_event::{Blame, Event, EventKind, Reason, ReasonCode, Verdict};
use serde_json::Value;

/// Parses every line of a record, checks that the line is written back unchanged, and returns the verdict and the reason of its only trial.
fn end_of(name: &str) -> (Verdict, Reason) {
    let path = format!("{}/tests/fixtures/records/{name}.ndjson", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut ends = Vec::new();
    for line in text.lines() {
        let event: Event = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let written = serde_json::to_string(&event).expect("JSON");
        // Older records name the impact otherwise.
        let renamed = |text: &str| serde_json::from_str::<Value>(&text.replace("\"hurt_us\":", "\"impact_us\":")).expect("JSON");
        assert_eq!(renamed(line), renamed(&written));
        if let EventKind::TrialFinished(finished) = event.kind {
            ends.push((finished.verdict, finished.reason.expect("a reason")));
        }
    }
    assert_eq!(ends.len(), 1, "{path}");
    ends.remove(0)
}

#[test]
fn removed_fault_differs_from_an_invariant_of_the_same_name() {
    let (verdict, reason) = end_of("tampered");
    assert_eq!((verdict, &reason.code, reason.code.is_unexcused(verdict)), (Verdict::UnsafePass, &ReasonCode::Tampered, true));
    let (verdict, reason) = end_of("invariant_named_tampered");
    assert_eq!((verdict, reason.code.word(), reason.code.is_unexcused(verdict)), (Verdict::Fail, "tampered", false));
}

#[test]
fn recorded_interrupt_is_read() {
    let (verdict, reason) = end_of("interrupted");
    assert_eq!((verdict, reason.code, reason.blame), (Verdict::Invalid, ReasonCode::Interrupted, Some(Blame::Interrupted)));
}
