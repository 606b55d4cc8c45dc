//! Proposal queue of the scheduler state: one task owns the [`PdCluster`], and other tasks send closures to it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::cluster::PdCluster;
use super::durable::Durable;

type ClusterQuestion = Box<dyn FnOnce(&mut PdCluster) + Send>;

#[derive(Clone)]
pub struct ProposalQueue {
    questions: mpsc::UnboundedSender<ClusterQuestion>,
}

impl ProposalQueue {
    /// Moves `cluster` to a new task, and returns the queue for closures. The task also applies new replicated state to the cluster.
    #[must_use]
    pub fn open(mut cluster: PdCluster, mut durable: watch::Receiver<Arc<Durable>>) -> Self {
        let (questions, mut inbox) = mpsc::unbounded_channel::<ClusterQuestion>();
        tokio::spawn(async move {
            while let Some(question) = inbox.recv().await {
                // All state that was committed before a request was sent is applied before the request is handled.
                if durable.has_changed().unwrap_or(false) {
                    let learnt = durable.borrow_and_update().clone();
                    cluster.learn(learnt);
                }
                question(&mut cluster);
            }
        });
        Self { questions }
    }

    /// Runs a closure on the [`PdCluster`] and returns the result of the closure.
    pub async fn ask<R: Send + 'static>(&self, question: impl FnOnce(&mut PdCluster) -> R + Send + 'static) -> R {
        let (tell, answer) = oneshot::channel();
        let sent = self.questions.send(Box::new(move |cluster| {
            let _ = tell.send(question(cluster));
        }));
        match (sent, answer.await) {
            (Ok(()), Ok(answer)) => answer,
            // The task ends only with the runtime, when the whole process is ending.
            _ => std::future::pending().await,
        }
    }
}
