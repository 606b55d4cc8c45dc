//! Probes: checks of nodes, with one file per kind of probe. Observations and readiness use the same definitions.
//!
//! A file contains the parameters of its kind of probe (serde, schema, validation) and its execution. `registry` has one line per kind. A
//! cluster file declares a [`ProbeKind`]. [`Prepared`] is the same probe with rendered templates for one node. A [`ProbeSite`] provides the
//! environment of the probe: the state of the node, its commands, the HTTP client. A failed probe also yields an answer. [`ProbeFailure`]
//! contains the reason, in the form of an error of an observation or of a message about readiness.

mod answer;
mod client;
mod failure;
mod kind;
pub mod limits;
mod registry;

mod alive;
mod exec;
mod http;
mod log;
pub mod metrics;
mod promql;
mod redis;
mod tcp;
mod workload;

pub use alive::Alive;
pub use answer::{AnswerBody, ProbeAnswer, ProbeReply, nothing_known};
pub use client::{ConnectionPolicy, HttpClient, HttpResponse, NoAnswer};
pub use exec::Exec;
pub use failure::ProbeFailure;
pub use kind::{
    ExecutedCommand, Figures, FromFile, ObservationProbe, Prepared, ProbeKind, ProbeSite, ProbeSpec, ProbeTarget, ReadinessProbe,
    SharedKeys,
};
pub use log::{LogMatch, LogRules};
pub use redis::RedisCommand;
pub use registry::{OBSERVABLE, READY, RawProbe, RawReady};
pub use tcp::Tcp;
pub use workload::WorkloadProbe;
