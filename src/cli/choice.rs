//! Parsers of command-line arguments whose values are words of a type from another crate.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// Returns a parser that accepts one of the words in `choices`. Each word has its own help text.
pub fn choice<T: Clone + Send + Sync + 'static>(choices: Vec<(PossibleValue, T)>) -> impl TypedValueParser<Value = T> {
    let words: Vec<PossibleValue> = choices.iter().map(|(word, _)| word.clone()).collect();
    PossibleValuesParser::new(words).try_map(move |given| {
        let found = choices.iter().find(|(word, _)| word.get_name() == given);
        found.map(|(_, value)| value.clone()).ok_or("not one of the possible values")
    })
}
