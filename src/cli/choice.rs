//! Parsers of arguments whose values are words of a type from a lower layer.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// Returns a parser of one word out of `choices`, with the help of each word.
pub fn choice<T: Clone + Send + Sync + 'static>(choices: Vec<(PossibleValue, T)>) -> impl TypedValueParser<Value = T> {
    let words: Vec<PossibleValue> = choices.iter().map(|(word, _)| word.clone()).collect();
    PossibleValuesParser::new(words).try_map(move |given| {
        let found = choices.iter().find(|(word, _)| word.get_name() == given);
        found.map(|(_, value)| value.clone()).ok_or("not one of the possible values")
    })
}
