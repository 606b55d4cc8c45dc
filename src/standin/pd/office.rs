//! Where the leader's mind lives: one task owns the [`Cluster`], everybody else sends it questions.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::cluster::Cluster;
use super::durable::Durable;

type Question = Box<dyn FnOnce(&mut Cluster) + Send>;

#[derive(Clone)]
pub struct Office {
    questions: mpsc::UnboundedSender<Question>,
}

impl Office {
    /// Gives the cluster to a task of its own, which keeps it up to date with the replicated state.
    #[must_use]
    pub fn open(mut cluster: Cluster, mut durable: watch::Receiver<Arc<Durable>>) -> Self {
        let (questions, mut inbox) = mpsc::unbounded_channel::<Question>();
        tokio::spawn(async move {
            while let Some(question) = inbox.recv().await {
                // What was committed before the question was asked is known before it is answered.
                if durable.has_changed().unwrap_or(false) {
                    let learnt = durable.borrow_and_update().clone();
                    cluster.learn(learnt);
                }
                question(&mut cluster);
            }
        });
        Self { questions }
    }

    /// Asks the cluster something, or tells it.
    pub async fn ask<R: Send + 'static>(&self, question: impl FnOnce(&mut Cluster) -> R + Send + 'static) -> R {
        let (tell, answer) = oneshot::channel();
        let sent = self.questions.send(Box::new(move |cluster| {
            let _ = tell.send(question(cluster));
        }));
        match (sent, answer.await) {
            (Ok(()), Ok(answer)) => answer,
            // The task ends with the runtime only: the process is going down, and so is the one who asked.
            _ => std::future::pending().await,
        }
    }
}
