//! Prices of the tokens that models use.

use std::sync::{Arc, LazyLock};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::model;
use chaosrun_diagnostic::SourceFile;
use chaosrun_diagnostic::yaml;
use chaosrun_event::Usage;

/// Table of prices, by the id of the model.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Prices(IndexMap<String, ListedPrice>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedPrice {
    pub input: f64,
    pub output: f64,
    /// Price of tokens that are read from the cache. `None` means that they cost as much as other prompt tokens.
    pub read: Option<f64>,
    pub write: Option<f64>,
    pub write_long: Option<f64>,
    pub long_prompt: Option<LongPrompt>,
    /// Source of these prices, such as a URL.
    pub source: String,
    /// Date on which the prices were looked up at the source.
    pub date: String,
}

/// Prices that apply if the prompt of an exchange (one request and its answer) exceeds `over` tokens. These prices then apply to all tokens
/// of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongPrompt {
    pub over: u64,
    pub input: f64,
    pub output: f64,
    pub read: Option<f64>,
    pub write: Option<f64>,
    pub write_long: Option<f64>,
}

impl ListedPrice {
    /// Returns the cost of one exchange (one request and its answer) in US dollars.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> f64 {
        let (input, output, read, write, write_long) = match &self.long_prompt {
            Some(long) if usage.prompt() > long.over => (long.input, long.output, long.read, long.write, long.write_long),
            _ => (self.input, self.output, self.read, self.write, self.write_long),
        };
        let write = write.unwrap_or(input);
        let parts = [
            (usage.input, input),
            (usage.output, output),
            (usage.cache_read, read.unwrap_or(input)),
            (usage.cache_write, write),
            (usage.cache_write_long, write_long.unwrap_or(write)),
        ];
        parts.into_iter().map(|(tokens, price)| millions(tokens) * price).sum()
    }
}

fn millions(tokens: u64) -> f64 {
    f64::from(u32::try_from(tokens).unwrap_or(u32::MAX)) / 1e6
}

impl Prices {
    /// Returns the price table that is embedded in the program.
    pub fn shipped() -> &'static Self {
        static SHIPPED: LazyLock<Prices> = LazyLock::new(|| Prices::read(include_str!("prices.yaml")).expect("shipped prices are right"));
        &SHIPPED
    }

    /// Parses a table of prices.
    ///
    /// # Errors
    /// Returns one sentence if the text is not a table of prices.
    pub fn read(text: &str) -> Result<Self, String> {
        let file = Arc::new(SourceFile { name: "prices.yaml".into(), text: text.to_owned() });
        let (value, problems) = yaml::read(&file);
        if let Some(problem) = problems.into_iter().next() {
            return Err(problem.message);
        }
        let prices: Self =
            serde_path_to_error::deserialize(value.unwrap_or_default()).map_err(|error| format!("{}: {}", error.path(), error.inner()))?;
        Ok(prices)
    }

    /// Returns the price of a model. Returns `None` if the table does not contain the model.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<&ListedPrice> {
        self.0.get(model).or_else(|| self.0.get(undated(model)?))
    }

    /// Returns the cost of one exchange with a model in US dollars. Returns `None` if the price of the model is unknown.
    #[must_use]
    pub fn cost(&self, model: &str, usage: &Usage) -> Option<f64> {
        Some(self.of(model)?.cost(usage))
    }

    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Removes the date at the end of a model name, such as `claude-haiku-4-5-20251001` or `gpt-5.5-2026-04-01`. Returns `None` if the name has
/// no date.
pub fn undated(model: &str) -> Option<&str> {
    let dashed = |shape: &[usize]| {
        let mut rest = model;
        for length in shape.iter().rev() {
            let (before, part) = rest.rsplit_once(['-', '@'])?;
            if part.len() != *length || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            rest = before;
        }
        Some(rest)
    };
    dashed(&[8]).or_else(|| dashed(&[4, 2, 2]))
}

/// Returns the price of a variant's model, from the variant file or from the embedded table. Returns `None` if the price is unknown.
#[must_use]
pub fn price(declared: &model::ModelSpec) -> Option<ListedPrice> {
    price_of(declared.price, &declared.model)
}

/// Returns the price of the model `name`. The price `own` takes precedence over the embedded table. Returns `None` if the price is unknown.
#[must_use]
pub fn price_of(own: Option<model::Price>, name: &str) -> Option<ListedPrice> {
    let own = own.map(|price| ListedPrice {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, expected: f64) {
        let found = found.expect("a price");
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    #[test]
    fn the_shipped_prices_have_a_source_and_a_date() {
        let prices = Prices::shipped();
        assert!(prices.models().count() >= 20);
        for model in prices.models() {
            let price = prices.of(model).expect("listed");
            assert!(price.date.parse::<jiff::civil::Date>().is_ok() && !price.source.is_empty(), "{model}");
            assert!(price.input > 0.0 && price.output > price.input && price.read.is_none_or(|read| read < price.input), "{model}");
        }
    }

    #[test]
    fn each_kind_of_token_has_its_price_and_long_prompts_another() {
        let prices = Prices::shipped();
        let usage = Usage { input: 1000, output: 2000, cache_read: 30_000, cache_write: 400, cache_write_long: 50, thinking: 1500 };
        near(prices.cost("claude-sonnet-4-6", &usage), (1000.0 * 3.0 + 2000.0 * 15.0 + 30_000.0 * 0.3 + 400.0 * 3.75 + 50.0 * 6.0) / 1e6);
        near(prices.cost("claude-sonnet-4-6-20260217", &usage), prices.cost("claude-sonnet-4-6", &usage).expect("a price"));
        near(prices.cost("gpt-5.5-2026-04-01", &Usage { cache_write: 1_000_000, ..Usage::default() }), 10.0);
        let long = Usage { input: 60_000, cache_read: 40_001, output: 1000, ..Usage::default() };
        near(prices.cost("claude-haiku-5-5", &long), (60_000.0 * 0.5 + 40_001.0 * 0.05 + 1000.0 * 2.5) / 1e6);
        near(
            prices.cost("claude-haiku-5-5", &Usage { cache_read: 40_000, ..long }),
            (60_000.0 * 0.1 + 40_000.0 * 0.01 + 1000.0 * 0.5) / 1e6,
        );
        assert_eq!(prices.cost("qwen3:8b", &usage), None);
        assert_eq!(prices.cost("claude-sonnet-4-6-fast", &usage), None);
    }

    #[test]
    fn problems_of_a_price_table_are_reported_with_their_places() {
        let wrong = Prices::read("mine: { input: 1, output: a lot, source: me, date: '2026-11-20' }").expect_err("no number");
        assert!(wrong.starts_with("mine.output: "), "{wrong}");
        assert!(Prices::read("mine: { input: 1 ").is_err());
    }
}
