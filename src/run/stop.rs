//! How a run is stopped: once gently (heal, tear down, record), twice by force.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::removal::Layer;

/// Two steps of stopping, each a token others wait on.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// First SIGINT or SIGTERM, or a full disk: trials end as interrupted, everything is removed.
    pub gently: CancellationToken,
    /// Second: everything is killed at once.
    pub now: CancellationToken,
}

impl Stop {
    /// Listens to SIGINT, SIGTERM and SIGHUP for as long as the runtime lives. `told` is called at each.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn on_signals(&self, told: impl Fn(usize) + Send + 'static) -> std::io::Result<()> {
        if !Layer::Signal.works() {
            return Ok(());
        }
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let stop = self.clone();
        tokio::spawn(async move {
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
