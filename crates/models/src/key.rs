//! API keys. A key is read once, sent to the model server, and never shown.

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;
use reqwest::header::HeaderValue;
use thiserror::Error;

pub use chaosrun_scenario::model::KeySource;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    #[error("the environment variable `{0}` is not set: put the key of the model's server into it, or name a file that holds it")]
    Unset(String),
    #[error("cannot read the key file `{0}`: {1}")]
    Unreadable(String, String),
    #[error("{0} holds no key: it is empty")]
    Empty(String),
    #[error("{0} holds no key: a key is one word of visible ASCII characters")]
    NoKey(String),
}

/// Secret API key. Its `Debug` output does not show the key.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl ApiKey {
    /// Reads the API key from a source. Returns `None` if the source is declared as having no key.
    ///
    /// # Errors
    /// The key is missing or malformed. The error never contains the text of the key.
    pub fn read(source: &KeySource) -> Result<Option<Self>, KeyError> {
        let (text, place) = match source {
            KeySource::None => return Ok(None),
            KeySource::Env(name) => {
                let place = format!("the environment variable `{name}`");
                let value = std::env::var_os(name).ok_or_else(|| KeyError::Unset(name.clone()))?;
                (value.into_string().map_err(|_| KeyError::NoKey(place.clone()))?, place)
            }
            KeySource::File(path) => {
                let name = path.display().to_string();
                let home = path.strip_prefix("~").ok().and_then(|rest| Some(std::env::home_dir()?.join(rest)));
                let text = std::fs::read_to_string(home.as_ref().unwrap_or(path))
                    .map_err(|error| KeyError::Unreadable(name.clone(), error.to_string()))?;
                (text, format!("the key file `{name}`"))
            }
        };
        let word = text.trim();
        if word.is_empty() {
            return Err(KeyError::Empty(place));
        }
        if !word.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyError::NoKey(place));
        }
        Ok(Some(Self(word.to_owned())))
    }

    /// Creates a key from its text.
    #[must_use]
    pub fn new(word: impl Into<String>) -> Self {
        Self(word.into())
    }

    /// Returns an HTTP header value that consists of `prefix` and the key. Returns `None` if the key contains characters that headers
    /// forbid.
    #[must_use]
    pub fn header(&self, prefix: &str) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("{prefix}{}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Returns a fingerprint that distinguishes keys without revealing them.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let hash = blake3::derive_key("chaosrun 2026 fingerprint of a key", self.0.as_bytes());
        blake3::Hash::from_bytes(hash).to_hex()[..16].to_owned()
    }
}

/// Text that replaces a removed key.
pub(crate) const SCRUBBED: &str = "[key]";

/// Removes `key` and all words that look like a key from a text, because servers repeat parts of a request in errors.
#[must_use]
pub fn scrub(text: &str, key: Option<&ApiKey>) -> String {
    static LIKE_A_KEY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bsk-[A-Za-z0-9_*.\-]{6,}").expect("a pattern"));
    LIKE_A_KEY.replace_all(&scrub_exactly(text, key), SCRUBBED).into_owned()
}

/// Removes only `key` from a text.
#[must_use]
pub(crate) fn scrub_exactly(text: &str, key: Option<&ApiKey>) -> String {
    match key {
        // Shorter texts are no secrets and would occur by chance.
        Some(ApiKey(word)) if word.len() >= 6 => text.replace(word.as_str(), SCRUBBED),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_read_from_a_file_and_never_shown() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let source = KeySource::File(file.path().to_owned());
        assert!(matches!(ApiKey::read(&source), Err(KeyError::Empty(_))));
        std::fs::write(file.path(), "sk-ant-0123456789\n").expect("write");
        let key = ApiKey::read(&source).expect("a key").expect("one");
        assert_eq!(format!("{key:?} {:?}", key.header("Bearer ")), "Key Some(Sensitive)");
        assert_eq!(key.header("Bearer ").expect("header"), "Bearer sk-ant-0123456789");
        assert!(!key.fingerprint().contains("0123"));
        std::fs::write(file.path(), "two words").expect("write");
        let error = ApiKey::read(&source).expect_err("no key");
        assert!(matches!(error, KeyError::NoKey(_)) && !error.to_string().contains("two words"), "{error}");
        let unset = ApiKey::read(&KeySource::Env("CHAOSRUN_TEST_NO_SUCH_VARIABLE".into()));
        assert_eq!(unset, Err(KeyError::Unset("CHAOSRUN_TEST_NO_SUCH_VARIABLE".into())));
    }

    #[test]
    fn keys_are_removed_from_server_errors() {
        let key = ApiKey::new("hunter2-hunter2");
        assert_eq!(scrub("no such key: hunter2-hunter2.", Some(&key)), "no such key: [key].");
        assert_eq!(scrub("Incorrect API key provided: sk-abcd****wxyz. You can", Some(&key)), "Incorrect API key provided: [key] You can");
        assert_eq!(scrub("task-force", None), "task-force");
    }
}
