//! Pipeline of one reader thread, several worker threads and one collector, with a bounded number of items in progress.

use std::num::NonZero;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Number of items that threads exchange at once.
const PIECES: usize = 32;

/// Runs the pipeline. Each item from `feed` is processed by `work` on one thread per core. Each result is passed to `take`, in any order.
///
/// # Errors
/// The function `feed` or `take` returns an error. An error of `take` ends the pipeline.
pub(super) fn run<W: Send, D: Send, E: Send>(
    feed: impl FnOnce(&mut dyn FnMut(W) -> Result<(), E>) -> Result<(), E>,
    work: impl Fn(W) -> D + Sync,
    mut take: impl FnMut(D) -> Result<(), E> + Send,
) -> Result<(), E> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let (to_work, pieces) = sync_channel::<Vec<W>>(cores * 2);
    let (to_take, done) = sync_channel::<Vec<D>>(cores * 2);
    // The last worker drops the receiver, so that the feeder does not wait for workers that have ended.
    let pieces = Arc::new(Mutex::new(pieces));
    thread::scope(|scope| {
        for _ in 0..cores {
            let (pieces, to_take, work) = (Arc::clone(&pieces), to_take.clone(), &work);
            scope.spawn(move || {
                loop {
                    // The lock is held during one `recv` only.
                    let next = pieces.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(batch) = next else { return };
                    if to_take.send(batch.into_iter().map(work).collect()).is_err() {
                        return;
                    }
                }
            });
        }
        drop((pieces, to_take));
        let taker = scope.spawn(move || done.into_iter().flatten().try_for_each(&mut take));
        let mut batch = Vec::with_capacity(PIECES);
        let fed = feed(&mut |piece| {
            batch.push(piece);
            if batch.len() == PIECES {
                // Sending fails if all workers have ended after an error of `take`. That error is returned below.
                let _ = to_work.send(std::mem::replace(&mut batch, Vec::with_capacity(PIECES)));
            }
            Ok(())
        });
        let _ = to_work.send(batch);
        drop(to_work);
        let taken = taker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        fed.and(taken)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_delivered_once_and_an_error_ends_the_pipeline() {
        let feed = |each: &mut dyn FnMut(u64) -> Result<(), String>| (1..=1_000).try_for_each(each);
        let mut sum = 0;
        let taken = run(
            feed,
            |number| number * 2,
            |double| -> Result<(), String> {
                sum += double;
                Ok(())
            },
        );
        assert_eq!((taken, sum), (Ok(()), 1_001_000));
        let failing = run(feed, |number| number, |number| if number > 10 { Err("full".to_owned()) } else { Ok(()) });
        assert_eq!(failing, Err("full".to_owned()));
        let broken = |each: &mut dyn FnMut(u64) -> Result<(), String>| each(1).and(Err("unreadable".to_owned()));
        assert_eq!(run(broken, |number| number, |_| Ok(())), Err("unreadable".to_owned()));
    }
}
