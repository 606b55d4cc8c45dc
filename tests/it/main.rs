//! One binary for all integration tests.

mod local;
mod standin_pd;
mod standin_store;
mod supervisor;
