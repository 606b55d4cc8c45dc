//! Tables of the trials, runs and sessions in the record. They are at most 80 columns wide.

use jiff::Timestamp;

use super::layout::{self, LayoutLine, WIDTH, fit, printable};
use super::lines::{name, word};
use chaosrun_base::style::{Palette, Tone};
use chaosrun_event::figures;
use chaosrun_event::{AgentEnd, Verdict};
use chaosrun_store::row::{RecordState, RecordedTrial, Run};
use chaosrun_store::sessions::AgentSession;

/// Formats trials as a table. Ages are relative to `now`.
#[must_use]
pub fn trials(trials: &[RecordedTrial], now: Timestamp, palette: Palette) -> String {
    let columns = |line: LayoutLine, texts: [(Tone, String); 4]| {
        let [score, time, cost, age] = texts;
        line.ending(57, score.0, score.1).ending(65, time.0, time.1).ending(73, cost.0, cost.1).ending(WIDTH, age.0, age.1)
    };
    let heads = ["SCORE", "TIME", "COST", "AGE"].map(|head| (Tone::Faint, head.to_owned()));
    let mut lines = vec![columns(LayoutLine::new().put(Tone::Faint, "TRIAL       VERDICT  SCENARIO/VARIANT"), heads)];
    for trial in trials {
        let (tone, word) = match (trial.verdict, trial.state) {
            (Some(verdict), _) => word(verdict),
            (None, RecordState::Running) => (Tone::Strong, "running"),
            (None, RecordState::CutOff | RecordState::Finished) => (Tone::Invalid, "CUT OFF"),
        };
        let mut mark = match trial.role.as_str() {
            "subject" => format!(" #{}", trial.number),
            role => format!(" #{} {role}", trial.number),
        };
        if trial.attempt > 1 {
            let attempt = format!(" ({})", trial.attempt);
            mark.push_str(&attempt);
        }
        let named = name(&trial.scenario, &trial.variant, 30 - layout::width(&mark));
        let line = LayoutLine::new().put(Tone::Id, trial.trial.as_str()).to(12).put(tone, word).to(21).plain(named).put(Tone::Faint, mark);
        let or_dash = |text: Option<String>| (Tone::Plain, text.unwrap_or_else(|| "-".into()));
        lines.push(columns(
            line,
            [
                or_dash(trial.score.map(figures::score)),
                or_dash(trial.wall_us.map(figures::clock)),
                or_dash(trial.usd.map(figures::usd)),
                (Tone::Faint, age(trial.started, now)),
            ],
        ));
    }
    layout::render(&lines, palette)
}

/// Formats runs as a table. Ages are relative to `now`.
#[must_use]
pub fn runs(runs: &[Run], now: Timestamp, palette: Palette) -> String {
    let mut lines =
        vec![LayoutLine::new().put(Tone::Faint, "RUN         STATE        PASSED  ARGUMENTS").ending(72, Tone::Faint, "TIME").ending(
            WIDTH,
            Tone::Faint,
            "AGE",
        )];
    for run in runs {
        let (tone, state) = match (run.state, run.interrupted) {
            (RecordState::Finished, Some(true)) => (Tone::Invalid, "interrupted"),
            (RecordState::Finished, _) => (Tone::Plain, "done"),
            (RecordState::Running, _) => (Tone::Strong, "running"),
            (RecordState::CutOff, _) => (Tone::Invalid, "cut off"),
        };
        let count = |verdict| run.counts.get(&verdict).copied().unwrap_or(0);
        let counted: usize = run.counts.iter().filter(|(verdict, _)| **verdict != Verdict::Invalid).map(|(_, count)| count).sum();
        let passed = format!("{}/{counted}", count(Verdict::Pass));
        let arguments = run.arguments.join(" ");
        lines.push(
            LayoutLine::new()
                .put(Tone::Id, run.run.as_str())
                .to(12)
                .put(tone, state)
                .ending(31, if count(Verdict::Pass) == counted { Tone::Plain } else { Tone::Fail }, passed)
                .to(33)
                .plain(fit(&printable(&arguments), 31))
                .ending(72, Tone::Plain, run.wall_us.map_or_else(|| "-".into(), figures::clock))
                .ending(WIDTH, Tone::Faint, age(run.started, now)),
        );
    }
    layout::render(&lines, palette)
}

/// Formats sessions as a table. Ages are relative to `now`.
#[must_use]
pub fn sessions(sessions: &[AgentSession], now: Timestamp, palette: Palette) -> String {
    let numbers = |line: LayoutLine, texts: [String; 5]| {
        let [turns, commands, tokens, cost, age] = texts;
        let plain = Tone::Plain;
        let line = line.ending(46, plain, turns).ending(51, plain, commands).ending(60, plain, tokens).ending(68, plain, cost);
        line.ending(WIDTH, Tone::Faint, age)
    };
    let heads = ["TURN", "CMD", "TOKENS", "COST", "AGE"].map(str::to_owned);
    let mut lines = vec![numbers(LayoutLine::new().put(Tone::Faint, "SESSION     END        SCENARIO/VARIANT"), heads)];
    for session in sessions {
        let (tone, end) = match (session.end, session.state) {
            (Some(AgentEnd::Resolve), _) => (Tone::Plain, "resolve"),
            (Some(AgentEnd::Escalate), _) => (Tone::Plain, "escalate"),
            (Some(AgentEnd::NoAction), _) => (Tone::Plain, "no_action"),
            (Some(AgentEnd::Limit), _) => (Tone::Fail, "limit"),
            (Some(AgentEnd::Error), _) => (Tone::Invalid, "error"),
            (Some(AgentEnd::Interrupted), _) => (Tone::Invalid, "stopped"),
            (None, RecordState::Running) => (Tone::Strong, "working"),
            (None, _) => (Tone::Invalid, "cut off"),
        };
        let line = LayoutLine::new().put(Tone::Id, session.session.as_str()).to(12).put(tone, end).to(23);
        let line = line.plain(name(&session.scenario, &session.variant, 18));
        lines.push(numbers(
            line,
            [
                session.turns.to_string(),
                session.commands.to_string(),
                figures::count(session.tokens),
                figures::usd(session.usd),
                age(session.started, now),
            ],
        ));
    }
    layout::render(&lines, palette)
}

/// Formats the time from `then` to `now` with one unit, such as `8s`, `5m`, `3h` or `12d`.
fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use chaosrun_gallery as gallery;
    use chaosrun_store::read::Filter;
    use chaosrun_store::{Database, Directory, Recorder};

    #[test]
    fn lists_are_as_drawn() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::new(temp.path());
        let stream = gallery::every_status();
        let recorder = Recorder::start(Database::create(&directory).unwrap(), stream.run.clone(), |problem| panic!("{problem}")).unwrap();
        stream.events.iter().for_each(|event| recorder.record(Arc::clone(event)));
        recorder.finish().unwrap();
        let database = Database::open(&directory).unwrap();
        let now = "2026-01-02T08:00:00Z".parse().unwrap();
        let filter = Filter { limit: 20, all_roles: true, ..Filter::default() };
        let text = trials(&database.trials(&filter).unwrap(), now, Palette::PLAIN) + &runs(&database.runs(5).unwrap(), now, Palette::PLAIN);
        assert!(text.lines().all(|line| layout::width(line) <= WIDTH), "{text}");
        insta::assert_snapshot!(text);
    }
}
