//! Reasons why a probe has no answer, and their words.

/// Reason why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeFailure {
    /// The connection was refused.
    Refused,
    /// The connection was closed or reset; in the words of an observation.
    Closed(String),
    /// The answer is longer than the limit, in bytes.
    TooLong(usize),
    /// Another reason that follows `could not be asked: `.
    Other(String),
    /// A reason that is a statement about the node.
    Told(String),
}

impl ProbeFailure {
    /// Reason of an observation that failed.
    #[must_use]
    pub fn observed(&self) -> String {
        match self {
            Self::Refused => "refused".into(),
            Self::TooLong(_) => "the answer broke off: length limit exceeded".into(),
            Self::Closed(text) | Self::Other(text) | Self::Told(text) => text.clone(),
        }
    }

    /// Statement about a node that is waited for; it follows the node's name.
    #[must_use]
    pub fn of_node(&self) -> String {
        match self {
            Self::Refused => "refused the connection".into(),
            Self::Closed(_) => "closed the connection".into(),
            Self::TooLong(limit) => format!("answered with more than {limit} bytes"),
            Self::Other(text) => format!("could not be asked: {text}"),
            Self::Told(text) => text.clone(),
        }
    }
}

impl From<std::io::Error> for ProbeFailure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Self::Refused,
            std::io::ErrorKind::ConnectionReset => Self::Closed("reset".into()),
            std::io::ErrorKind::UnexpectedEof => Self::Closed(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}
