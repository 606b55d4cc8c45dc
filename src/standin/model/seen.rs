//! A request, as both wires mean it.

/// What the script looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub model: String,
    /// The text of the first message of the user.
    pub first: String,
    /// What came last from the client.
    pub last: String,
    pub system: String,
    /// Results of the last calls, in their order.
    pub results: Vec<String>,
    pub tools: Vec<String>,
    /// How often a model has answered in it.
    pub answers: usize,
    /// Ids of the calls in the last answer.
    pub called: Vec<String>,
    /// The last message is the model's own, where that is allowed only after a pause.
    pub continues: bool,
    /// Tokens of the prompt, estimated.
    pub prompt: u64,
    /// Whether the prompt is to be cached.
    pub caches: bool,
    pub stream: bool,
    /// Only to warm the cache.
    pub warms: bool,
}

/// The estimate of a text's tokens: a quarter of its bytes, rounded up.
#[must_use]
pub fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(4)).unwrap_or(u64::MAX)
}

/// Cuts a text into pieces as a model speaks it: of changing lengths, between characters.
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
