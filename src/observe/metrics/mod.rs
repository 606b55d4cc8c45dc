//! `metrics:` probes: Prometheus text scraped directly, and a small query over the scrapes of a window.

mod evaluate;
pub mod query;
mod scrapes;
mod text;

pub use evaluate::{Series, evaluate};
pub use query::{Query, QueryError};
pub use scrapes::Scrapes;
