//! The models of a variant's file.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::anthropic::Anthropic;
use super::client::{Client, Config, SILENCE, Shared, Source};
use super::openai::{LimitName, OpenAi};
use super::prices::{self, Prices};
use super::retry::Retries;
use super::wire;
use crate::scenario::model::{ModelSpec, Price, Summary, Wire};

/// What all agents of this process share.
pub(in crate::agent) static SHARED: LazyLock<Shared> = LazyLock::new(Shared::default);

/// The wire of a model, as its server wants it.
///
/// # Errors
/// When the version is unknown.
pub fn wire(wire: Wire, base_url: &str, version: &str) -> Result<Arc<dyn wire::Wire>, String> {
    Ok(match wire {
        Wire::Anthropic => Arc::new(Anthropic { version: version.parse()?, ..Anthropic::default() }),
        Wire::Openai => Arc::new(OpenAi { limit: LimitName::of(base_url) }),
    })
}

/// # Errors
/// In one sentence: no key, no address, no certificates.
pub fn client(declared: &ModelSpec, seed: u64, source: Source) -> Result<Client, String> {
    let config = Config {
        wire: wire(declared.wire, &declared.base_url, &declared.version)?,
        base_url: declared.base_url.clone(),
        key: declared.key.clone(),
        stream: true,
        silence: SILENCE.min(declared.patience),
        retries: Retries { most: declared.retries, within: declared.patience },
        seed,
        price: price(declared),
        source,
    };
    Client::new(config, &SHARED)
}

/// Whoever puts conversations in short. The model itself may have no more patience than it has.
///
/// # Errors
/// As [`client`].
pub fn summariser(declared: &Summary, retries: u32, patience: Duration, seed: u64, source: Source) -> Result<Client, String> {
    let config = Config {
        wire: wire(declared.wire, &declared.base_url, &declared.version)?,
        base_url: declared.base_url.clone(),
        key: declared.key.clone(),
        stream: true,
        silence: SILENCE.min(patience),
        retries: Retries { most: retries, within: patience },
        seed,
        price: price_of(declared.price, &declared.model),
        source,
    };
    Client::new(config, &SHARED)
}

/// What the model costs: as the file says, or the table; none if nobody knows.
#[must_use]
pub fn price(declared: &ModelSpec) -> Option<prices::Price> {
    price_of(declared.price, &declared.model)
}

/// As [`price`], of any model.
#[must_use]
pub fn price_of(own: Option<Price>, name: &str) -> Option<prices::Price> {
    let own = own.map(|price| prices::Price {
        input: price.input,
        output: price.output,
        read: Some(price.cache_read),
        write: Some(price.cache_write),
        write_long: None,
        long_prompt: None,
        source: "the variant".into(),
        date: String::new(),
    });
    own.or_else(|| Prices::shipped().of(name).cloned())
}
