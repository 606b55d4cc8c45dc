//! Request, independent of the wire.

/// Parts of a request that scripts can refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestParts {
    pub model: String,
    /// Text of the first message of the user.
    pub first: String,
    /// Last text of the client.
    pub last: String,
    pub system: String,
    /// Results of the last calls, in their order.
    pub results: Vec<String>,
    pub tools: Vec<String>,
    /// Number of the model's answers in the request.
    pub answers: usize,
    /// Ids of the calls in the last answer.
    pub called: Vec<String>,
    /// True if the last message is the model's, which is allowed only after a pause.
    pub continues: bool,
    /// Estimated tokens of the prompt.
    pub prompt: u64,
    /// True if the prompt is to be cached.
    pub caches: bool,
    pub stream: bool,
    /// True if the request only warms the cache.
    pub warms: bool,
}

/// Estimates the tokens of a text: a quarter of its bytes, rounded up.
#[must_use]
pub fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(4)).unwrap_or(u64::MAX)
}

/// Splits a text into pieces of varying lengths, between characters, like the output of a model.
#[must_use]
pub fn pieces(text: &str) -> Vec<&str> {
    const LENGTHS: [usize; 5] = [3, 11, 1, 17, 6];
    let mut found = Vec::new();
    let mut rest = text;
    for length in LENGTHS.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let end = rest.char_indices().nth(*length).map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at(end);
        found.push(piece);
        rest = after;
    }
    found
}
