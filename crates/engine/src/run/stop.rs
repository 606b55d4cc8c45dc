//! Stop of a run. The first signal stops gently (heal, tear down, record), and the second signal stops by force.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use chaosrun_base::removal::RemovalLayer;
use chaosrun_base::task;

/// Tokens of the two levels of a stop. Tasks wait for their cancellation.
#[derive(Debug, Clone, Default)]
pub struct StopTokens {
    /// Token of the gentle stop, cancelled at the first signal or if the disk is full. Trials end as interrupted, and all clusters are
    /// removed.
    pub gently: CancellationToken,
    /// Token of the forced stop, cancelled at the second signal. All processes are killed immediately.
    pub now: CancellationToken,
}

impl StopTokens {
    /// Handles SIGINT, SIGTERM and SIGHUP for as long as the runtime lives. Calls `told` with the number of signals so far.
    ///
    /// # Errors
    /// Returns an error if a signal handler cannot be installed.
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
