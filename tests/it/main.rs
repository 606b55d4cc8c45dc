//! One binary for all integration tests.
#![expect(clippy::print_stdout, reason = "a test that is skipped says why; a process under test tells its parent")]

mod agent;
mod architecture;
mod bad_input;
mod docker;
mod doctor;
mod etcd;
mod faults_of_ours;
mod holder;
mod images;
mod keep;
mod local;
mod program;
mod promql;
mod ratelimiter;
mod recorded;
mod require;
mod samples;
mod standin_pd;
mod standin_store;
mod supervisor;
mod trials;
mod watched;
