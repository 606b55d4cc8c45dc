//! Stop of a run: gently at the first signal (heal, tear down, record), by force at the second.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use chaosrun_base::removal::RemovalLayer;
use chaosrun_base::task;

/// Two levels of stopping. Each level is a token to wait on.
#[derive(Debug, Clone, Default)]
pub struct StopTokens {
    /// First signal, or a full disk. Trials end as interrupted, and everything is removed.
    pub gently: CancellationToken,
    /// Second signal. Everything is killed at once.
    pub now: CancellationToken,
}

impl StopTokens {
    /// Listens to SIGINT, SIGTERM and SIGHUP for as long as the runtime lives. Calls `told` with the number of signals so far.
    ///
    /// # Errors
    /// Fails if a handler cannot be installed.
    pub fn on_signals(&self, told: impl Fn(usize) + Send + 'static) -> std::io::Result<()> {
        if !RemovalLayer::Signal.works() {
            return Ok(());
        }
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let stop = self.clone();
        task::spawn(async move {
            for count in 1.. {
                tokio::select! {
                    _ = interrupt.recv() => (),
                    _ = terminate.recv() => (),
                    _ = hangup.recv() => (),
                }
                told(count);
                if count == 1 {
                    stop.gently.cancel();
                } else {
                    stop.now.cancel();
                }
            }
        });
        Ok(())
    }
}
