//! Parts of a request that are independent of the wire format.

/// Parts of a request to which scripts can refer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestParts {
    pub model: String,
    /// Text of the first user message.
    pub first: String,
    /// Last text that the client sent.
    pub last: String,
    pub system: String,
    /// Results of the tool calls in the last answer, in the order of the request.
    pub results: Vec<String>,
    pub tools: Vec<String>,
    /// Number of answers of the model that the request contains.
    pub answers: usize,
    /// Ids of the tool calls in the last answer of the model.
    pub called: Vec<String>,
    /// True if the last message is from the model. Such a request is allowed only after a pause.
    pub continues: bool,
    /// Estimated number of tokens in the prompt.
    pub prompt: u64,
    /// True if the client requests that the prompt is cached.
    pub caches: bool,
    pub stream: bool,
    /// True if the request only fills the prompt cache and wants no answer.
    pub warms: bool,
}

/// Estimates the number of tokens in a text of `bytes` bytes: a quarter of the bytes, rounded up.
#[must_use]
pub fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(4)).unwrap_or(u64::MAX)
}

/// Splits a text into pieces of varying lengths at character boundaries, like the output of a model.
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
