//! Progress of a run, which is shown next to the progress bar. It is computed from events only, so it does not depend on the time at which
//! it is shown.

use super::lines::word;
use chaosrun_base::style::Palette;
use chaosrun_event::figures;
use chaosrun_event::tally::Tally;
use chaosrun_event::{Event, EventKind, Verdict};

#[derive(Debug, Default)]
pub(super) struct ProgressState {
    tally: Tally,
    usd: f64,
    /// Number of attempts at trials that have ended in this run. Reused trials are excluded.
    own: u32,
    /// Time at which the first trial started, in microseconds since the start of the run. `None` until a trial starts. In the same unit,
    /// `ended_us` is the time at which the last trial ended.
    began_us: Option<u64>,
    ended_us: u64,
}

impl ProgressState {
    pub(super) fn event(&mut self, event: &Event) {
        self.tally.event(event);
        match &event.kind {
            EventKind::TrialStarted(_) => {
                self.began_us.get_or_insert(event.elapsed_us);
            }
            EventKind::TrialFinished(finished) => {
                self.usd += finished.usd;
                self.own += 1;
                self.ended_us = event.elapsed_us;
            }
            _ => {}
        }
    }

    pub(super) const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Formats the progress as text, such as `41p 2f 1u 3i  12.4/min  8m left  $0.31  2 retried`.
    pub(super) fn text(&self, palette: Palette) -> String {
        let mut parts = vec![self.counts(palette)];
        if let Some((a_minute, left)) = self.pace() {
            parts.push(format!("{a_minute:.1}/min"));
            parts.extend((left > 0).then(|| format!("{} left", roughly(left))));
        }
        parts.extend((self.usd > 0.0).then(|| figures::usd(self.usd)));
        parts.extend((self.tally.retried > 0).then(|| format!("{} retried", self.tally.retried)));
        parts.retain(|part| !part.is_empty());
        parts.join("  ")
    }

    /// Formats the numbers of passed, failed, unsafe and invalid trials. A trial that reached a limit counts as failed.
    fn counts(&self, palette: Palette) -> String {
        let failed = self.tally.count(Verdict::Fail) + self.tally.count(Verdict::Timeout);
        let counts = [
            (Verdict::Pass, self.tally.count(Verdict::Pass), 'p'),
            (Verdict::Fail, failed, 'f'),
            (Verdict::UnsafePass, self.tally.count(Verdict::UnsafePass), 'u'),
            (Verdict::Invalid, self.tally.count(Verdict::Invalid), 'i'),
        ];
        let named = counts.into_iter().filter(|(_, count, _)| *count > 0);
        named.map(|(verdict, count, letter)| palette.paint(word(verdict).0, &format!("{count}{letter}"))).collect::<Vec<_>>().join(" ")
    }

    /// Returns the number of attempts per minute, and the number of remaining seconds at this rate. Returns `None` if no rate is known yet.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
    fn pace(&self) -> Option<(f64, u64)> {
        let minutes = figures::seconds(self.ended_us.checked_sub(self.began_us?)?) / 60.0;
        if self.own == 0 || minutes <= 0.0 {
            return None;
        }
        let pace = f64::from(self.own) / minutes;
        let left = self.tally.planned.saturating_sub(self.tally.done() + self.tally.not_needed);
        Some((pace, (left as f64 / pace * 60.0).round() as u64))
    }
}

/// Formats a number of seconds as an approximate duration, such as `40s`, `8m` or `2h05m`.
fn roughly(seconds: u64) -> String {
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6_000 => format!("{}m", (seconds + 30) / 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_event::TrialStarted;
    use chaosrun_gallery as gallery;
    use chaosrun_gallery::GalleryStream;

    #[test]
    fn available_rate_counts_and_cost_are_shown() {
        let mut stream = GalleryStream::new("r-1", 100);
        let mut progress = ProgressState::default();
        stream.push(gallery::kept(1, Verdict::Pass)).trial("t-1", gallery::started("a", "b", 2));
        stream.events.iter().for_each(|event| progress.event(event));
        assert_eq!(progress.text(Palette::PLAIN), "1p");

        stream.after(30_000_000, EventKind::TrialFinished(Box::new(gallery::failed())));
        stream.trial("t-2", gallery::started("a", "b", 3)).after(30_000_000, EventKind::TrialFinished(Box::new(gallery::invalid())));
        stream.trial("t-3", TrialStarted { attempt: 2, ..gallery::started("a", "b", 3) });
        let mut progress = ProgressState::default();
        stream.events.iter().for_each(|event| progress.event(event));
        assert_eq!(progress.text(Palette::PLAIN), "1p 1f  2.0/min  49m left  $0.31  1 retried");
        assert_eq!(progress.tally().done(), 2, "the third is open again");
        assert_eq!([roughly(99), roughly(101), roughly(7_500)], ["99s", "2m", "2h05m"]);
    }
}
