//! Creation of model clients from the settings of a variant's file.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::anthropic::Anthropic;
use super::client::{AnswerSource, ModelClient, ModelClientConfig, SILENCE, SharedModels};
use super::openai::{LimitName, OpenAi};
use super::prices::{price, price_of};
use super::retry::Retries;
use super::wire;
use chaosrun_scenario::model::{ModelSpec, Summary, Wire};

/// Connection pool and rate limiters shared by all agents of this process.
pub static SHARED: LazyLock<SharedModels> = LazyLock::new(SharedModels::default);

/// Creates the wire format for a model server. `version` is the API version that the variant declares.
///
/// # Errors
/// The API version is unknown.
pub fn wire(wire: Wire, base_url: &str, version: &str) -> Result<Arc<dyn wire::ModelWire>, String> {
    Ok(match wire {
        Wire::Anthropic => Arc::new(Anthropic { version: version.parse()?, ..Anthropic::default() }),
        Wire::Openai => Arc::new(OpenAi { limit: LimitName::of(base_url) }),
    })
}

/// Creates the client of a model that a variant declares.
///
/// # Errors
/// The key is missing, the server address is invalid, or the trusted certificates are missing. The error is one sentence.
pub fn client(declared: &ModelSpec, seed: u64, source: AnswerSource) -> Result<ModelClient, String> {
    let config = ModelClientConfig {
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
    ModelClient::new(config, &SHARED)
}

/// Creates the client of a model that summarises conversations. `retries` and `patience` limit its retries and their total time.
///
/// # Errors
/// Same errors as [`client`].
pub fn summariser(declared: &Summary, retries: u32, patience: Duration, seed: u64, source: AnswerSource) -> Result<ModelClient, String> {
    let config = ModelClientConfig {
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
    ModelClient::new(config, &SHARED)
}
