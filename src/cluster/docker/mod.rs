//! The backend `docker`: a network a trial, a holder and a workload container a node.

pub mod address;
pub mod error;

pub mod engine;
pub mod holder;
pub mod image;
pub mod reap;
