//! Tests of the counts of a run's trials.

use std::collections::BTreeMap;

use chaosrun_event::tally::Tally;
use chaosrun_event::{EventKind, Resource, Stopped, TrialStarted, Verdict};
use chaosrun_gallery as gallery;
use chaosrun_gallery::GalleryStream;

fn tally(stream: &GalleryStream) -> Tally {
    let mut tally = Tally::default();
    stream.events.iter().for_each(|event| tally.event(event));
    tally
}

#[test]
fn a_trial_counts_once_by_its_last_attempt() {
    let again = |attempt| TrialStarted { attempt, ..gallery::started("a", "b", 2) };
    let mut stream = GalleryStream::new("r-1", 3);
    stream
        .whole("t-1", gallery::started("a", "b", 1), gallery::finished(Verdict::Pass))
        .whole("t-2", again(1), gallery::invalid())
        .whole("t-3", again(2), gallery::invalid())
        .whole("t-4", again(3), gallery::failed());
    let found = tally(&stream);
    assert_eq!((found.count(Verdict::Pass), found.count(Verdict::Fail), found.count(Verdict::Invalid)), (1, 1, 0));
    assert_eq!((found.begun, found.retried, found.done(), found.missing()), (2, 2, 2, 1));
    stream.trial("t-5", again(4));
    assert_eq!((tally(&stream).begun, tally(&stream).done()), (2, 1), "it is open again");
}

#[test]
fn unstarted_retry_is_missing_and_unneeded_trial_is_not() {
    let mut stream = GalleryStream::new("r-1", 5);
    stream.whole("t-1", gallery::started("a", "b", 1), gallery::invalid());
    let budget = || Stopped::Budget { of: Resource::Usd, limit: 1.0, spent: 1.0, next: 1.0 };
    stream.push(EventKind::RunStopped { why: budget(), missing: 5 });
    let found = tally(&stream);
    assert_eq!((found.never_begun(), found.not_retried(), found.missing(), found.is_short()), (4, 1, 5, true));
    stream.push(gallery::answered("b", 2)).push(EventKind::RunStopped { why: Stopped::Decided { comparisons: 1 }, missing: 2 });
    let found = tally(&stream);
    assert_eq!((found.not_needed, found.missing(), found.is_short()), (4, 0, false));
}

#[test]
fn previously_recorded_trials_count_as_trials_of_this_run() {
    let mut stream = GalleryStream::new("r-1", 3);
    stream.push(gallery::kept(1, Verdict::Pass)).push(gallery::kept(2, Verdict::Invalid)).whole(
        "t-2",
        TrialStarted { attempt: 2, ..gallery::started("a", "b", 2) },
        gallery::finished(Verdict::Pass),
    );
    let found = tally(&stream);
    assert_eq!((found.subject.clone(), found.kept, found.begun), (BTreeMap::from([(Verdict::Pass, 2)]), 1, 1));
    assert_eq!((found.retried, found.missing()), (1, 1));
}
