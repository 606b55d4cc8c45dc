//! Waits of a trial, each with a deadline, for conditions that the monitor and the timeline publish.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Error of a wait: the deadline has passed, or the publisher of the condition has ended, so that the condition can never be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLate;

/// Waits until a condition has held for the time `wanted` without interruption. `since` returns the time from which the condition holds.
/// Returns this time.
pub async fn held<T>(
    state: &mut watch::Receiver<T>,
    wanted: Duration,
    deadline: Instant,
    since: impl Fn(&T) -> Option<Instant>,
) -> Result<Instant, TooLate> {
    loop {
        let began = since(&state.borrow_and_update());
        let due = began.map(|began| began + wanted);
        if let Some(began) = began
            && due.is_some_and(|due| due <= Instant::now())
        {
            return Ok(began);
        }
        let wake = due.unwrap_or(deadline).min(deadline);
        tokio::select! {
            changed = state.changed() => changed.map_err(|_| TooLate)?,
            () = tokio::time::sleep_until(wake.into()) => {
                if wake == deadline && due.is_none_or(|due| due > Instant::now()) {
                    return Err(TooLate);
                }
            }
        }
    }
}

/// Waits until `found` returns a value. Returns this value, or [`TooLate`] after the deadline.
pub async fn until<T, R>(state: &mut watch::Receiver<T>, deadline: Instant, found: impl Fn(&T) -> Option<R>) -> Result<R, TooLate> {
    loop {
        if let Some(found) = found(&state.borrow_and_update()) {
            return Ok(found);
        }
        match tokio::time::timeout_at(deadline.into(), state.changed()).await {
            Ok(Ok(())) => (),
            Ok(Err(_)) | Err(_) => return Err(TooLate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn published_values_are_seen_and_a_lost_publisher_ends_the_wait() {
        let (tx, mut rx) = watch::channel(None);
        let far = Instant::now() + Duration::from_secs(60);
        assert_eq!(until(&mut rx, Instant::now(), |state: &Option<Instant>| *state).await, Err(TooLate));
        let since = Instant::now();
        tx.send_replace(Some(since));
        assert_eq!(held(&mut rx, Duration::ZERO, far, |state| *state).await, Ok(since));
        // The condition has not held long enough at the deadline.
        assert_eq!(held(&mut rx, Duration::from_secs(30), Instant::now(), |state| *state).await, Err(TooLate));
        drop(tx);
        assert_eq!(until(&mut rx, far, |_| None::<()>).await, Err(TooLate));
    }
}
