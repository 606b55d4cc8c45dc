//! Reasons why a probe has no answer, and their texts in messages.

/// Reason why a probe has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeFailure {
    /// The connection was refused.
    Refused,
    /// The connection was closed or reset. The value describes the failure.
    Closed(String),
    /// The answer exceeds the size limit. The value is the limit in bytes.
    TooLong(usize),
    /// Other reason, as text that messages append to `could not be asked: `.
    Other(String),
    /// Complete statement, as text that messages append to the name of the node.
    Told(String),
}

impl ProbeFailure {
    /// Returns the text for the error field of an observation.
    #[must_use]
    pub fn observed(&self) -> String {
        match self {
            Self::Refused => "refused".into(),
            Self::TooLong(_) => "the answer broke off: length limit exceeded".into(),
            Self::Closed(text) | Self::Other(text) | Self::Told(text) => text.clone(),
        }
    }

    /// Returns the text for a message about a node that is not ready. The message appends this text to the name of the node.
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
