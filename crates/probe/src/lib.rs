//! Probes: the ways to look at a node, one file per kind of probe. Observations and readiness use the same definitions.
//!
//! A file holds the parameters of its probe (serde, schema, validation) and its execution; `registry` has one line for it.
//! A [`ProbeKind`] is what a cluster file declares, [`Prepared`] is the same with the addresses of one node in place, a
//! [`ProbeSite`] gives it what lies outside: the node's state, its commands, the HTTP client. A probe that fails is an answer
//! too: [`ProbeFailure`] says why, in the words of an observation or of a node that is waited for.

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
