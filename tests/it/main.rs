//! One binary for all integration tests.

mod standin_pd;
mod supervisor;
