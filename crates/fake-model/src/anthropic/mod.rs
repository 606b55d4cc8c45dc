//! Messages API: accepted requests, and responses. Refusals have the real server's wording where it is known.

pub mod binding;
mod blocks;
mod field;
mod models;
pub mod request;
pub mod write;
