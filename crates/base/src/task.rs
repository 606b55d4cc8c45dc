//! Background tasks whose panics are reported.
//!
//! Tokio keeps a panic of a task in its handle, where it is lost if the handle is not awaited. Every task is therefore started here. A
//! task belongs to the [`Panics`] of the task that starts it: those of a trial, of a run, or of a process.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Once};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerWaitFuture;

tokio::task_local! {
    static CURRENT: Panics;
}

thread_local! {
    /// Source location of the last panic on this thread.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Collection of the panics of all tasks in a scope. A scope may lie within other scopes.
#[derive(Debug, Clone)]
pub struct Panics(Arc<Scope>);

#[derive(Debug)]
struct Scope {
    first: watch::Sender<Option<Panicked>>,
    around: Option<Panics>,
}

/// Panic of a task, as a text with the source location and the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked(String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Panicked {}

impl Panics {
    /// Creates a scope within the current scope, if there is one.
    #[must_use]
    pub fn within_current() -> Self {
        note_places();
        Self(Arc::new(Scope { first: watch::Sender::new(None), around: Self::current() }))
    }

    /// Returns the scope of the running task. Returns `None` if the task's panics are not collected.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs a future in this scope. All tasks that the future starts belong to the scope.
    pub async fn scope<F: Future>(&self, future: F) -> F::Output {
        CURRENT.scope(self.clone(), future).await
    }

    /// Returns the first panic of the scope, otherwise the first panic of an enclosing scope. Returns `None` without a panic.
    #[must_use]
    pub fn seen(&self) -> Option<Panicked> {
        self.0.first.borrow().clone().or_else(|| self.0.around.as_ref()?.seen())
    }

    /// Waits for the first panic of the scope or of an enclosing scope.
    pub async fn first(&self) -> Panicked {
        let own = async {
            let mut first = self.0.first.subscribe();
            // The sender lives as long as `self`.
            match first.wait_for(Option::is_some).await.map(|first| first.clone()) {
                Ok(Some(panicked)) => panicked,
                Ok(None) | Err(_) => std::future::pending().await,
            }
        };
        match &self.0.around {
            None => own.await,
            Some(around) => tokio::select! {
                panicked = own => panicked,
                panicked = Box::pin(around.first()) => panicked,
            },
        }
    }

    fn report(&self, payload: &(dyn Any + Send)) {
        let message = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = message.unwrap_or("no message");
        let panicked = Panicked(match PLACE.take() {
            Some(place) => format!("panicked at {place}: {message}"),
            None => format!("panicked: {message}"),
        });
        self.0.first.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(panicked);
            is_first
        });
    }
}

/// Installs a panic hook that stores the source location of each panic before the usual output.
fn note_places() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PLACE.set(info.location().map(ToString::to_string));
            print(info);
        }));
    });
}

/// Makes every panic of this process end the process, after its message was printed. For processes that others watch: a thread or a task
/// that is missing in a living process would go unnoticed.
pub fn abort_on_panic() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        print(info);
        std::process::abort();
    }));
}

/// Starts a task in the current scope.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(watched(future))
}

/// Runs blocking work on a separate thread, as part of the current scope.
pub fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let panics = Panics::current();
    tokio::task::spawn_blocking(move || panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| pass_on(panics, payload)))
}

/// Wraps a future so that its panics are reported like those of [`spawn`]. Used for other runtimes and sets of tasks.
pub fn watched<F>(future: F) -> impl Future<Output = F::Output> + Send
where
    F: Future<Output: Send> + Send + 'static,
{
    reported(Panics::current(), Box::pin(future))
}

/// Awaits a future and reports its panics. The future is boxed so that the compiler generates the code of a task once per output type and not
/// once per future, which makes the program 2 % smaller.
async fn reported<T>(panics: Option<Panics>, future: Pin<Box<dyn Future<Output = T> + Send>>) -> T {
    let future = AssertUnwindSafe(future).catch_unwind();
    let ended = match &panics {
        Some(panics) => panics.scope(future).await,
        None => future.await,
    };
    ended.unwrap_or_else(|payload| pass_on(panics, payload))
}

/// Reports a panic to the scope, then resumes the panic so that the handle of the task receives it too.
fn pass_on(panics: Option<Panics>, payload: Box<dyn Any + Send>) -> ! {
    if let Some(panics) = panics {
        panics.report(&*payload);
    }
    panic::resume_unwind(payload)
}

/// Runs the main future of a process that runs no trials.
///
/// # Errors
/// A task of the process panicked. The main future is then dropped.
pub async fn guard<F: Future>(future: F) -> Result<F::Output, Panicked> {
    let panics = Panics::within_current();
    tokio::select! {
        biased;
        panicked = panics.first() => Err(panicked),
        output = panics.scope(future) => Ok(output),
    }
}

/// Set of tasks whose common end can be awaited.
#[derive(Debug, Clone, Default)]
pub struct Tasks(TaskTracker);

impl Tasks {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task in the current scope and adds it to the set.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.0.spawn(watched(future))
    }

    /// Closes the set, so that [`Tasks::wait`] returns as soon as no task runs. Returns false if the set was already closed.
    pub fn close(&self) -> bool {
        self.0.close()
    }

    pub fn wait(&self) -> TaskTrackerWaitFuture<'_> {
        self.0.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(message: &str) {
        panic!("{message}");
    }

    #[tokio::test]
    async fn a_panic_of_any_depth_is_reported_with_its_place() {
        let panics = Panics::within_current();
        panics.scope(async { drop(spawn(async { drop(Tasks::new().spawn(async { fail("deep") })) })) }).await;
        let text = panics.first().await.to_string();
        assert!(text.starts_with("panicked at ") && text.contains("task.rs:") && text.ends_with(": deep"), "{text}");
        assert_eq!(panics.seen().map(|first| first.to_string()), Some(text));
    }

    #[tokio::test]
    async fn panic_reaches_inner_scopes_only() {
        let outer = Panics::within_current();
        let (one, other) = outer.scope(async { (Panics::within_current(), Panics::within_current()) }).await;
        let ended = one.scope(async { spawn_blocking(|| fail("one")).await }).await;
        assert!(ended.is_err_and(|error| error.is_panic()), "the handle says so as well");
        assert!(one.seen().is_some() && other.seen().is_none() && outer.seen().is_none());
        assert!(outer.scope(async { spawn(async { fail("all") }).await }).await.is_err());
        assert!(other.first().await.to_string().ends_with(": all") && one.seen().unwrap().to_string().ends_with(": one"));
    }

    #[tokio::test]
    async fn a_process_ends_with_the_panic_of_a_task() {
        let for_ever = guard(async {
            spawn(async { fail("gone") });
            std::future::pending::<()>().await;
        });
        assert!(for_ever.await.is_err_and(|panicked| panicked.to_string().ends_with(": gone")));
        assert_eq!(guard(async { spawn(async { 1 }).await.ok() }).await, Ok(Some(1)));
    }
}
