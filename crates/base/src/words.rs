//! Durations in the wording of the docker command-line tools.

use std::time::Duration;

/// Formats a duration like go-units' `HumanDuration`: `Less than a second`, `5 seconds`, `About a minute`, ...
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Hours are rounded, all other units are truncated.
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 0 | 1) => "About an hour".into(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_dockers_wording() {
        let said: Vec<String> = [0, 1, 59, 60, 119, 120, 3599, 3600, 5399, 5400, 86_400 * 3, 86_400 * 21, 86_400 * 800]
            .into_iter()
            .map(|seconds| human(Duration::from_secs(seconds)))
            .collect();
        assert_eq!(
            said,
            [
                "Less than a second",
                "1 second",
                "59 seconds",
                "About a minute",
                "About a minute",
                "2 minutes",
                "59 minutes",
                "About an hour",
                "About an hour",
                "2 hours",
                "3 days",
                "3 weeks",
                "2 years"
            ]
        );
    }
}
