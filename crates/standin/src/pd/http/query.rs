//! Query strings and paths with raw bytes: keys need not be UTF-8.

use axum::http::Uri;

/// Query parameters of a request in their order. Repeated parameters appear several times.
#[derive(Debug, Default)]
pub struct QueryParameters(Vec<(String, Vec<u8>)>);

impl QueryParameters {
    #[must_use]
    pub fn of(uri: &Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (String::from_utf8_lossy(&unescape(key)).into_owned(), unescape(value))
        });
        Self(pairs.collect())
    }

    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(found, _)| found == key)
    }

    /// Returns the first value of a key; empty if the key is missing, as in Go.
    #[must_use]
    pub fn bytes(&self, key: &str) -> &[u8] {
        self.0.iter().find(|(found, _)| found == key).map_or(&[], |(_, value)| value)
    }

    #[must_use]
    pub fn text(&self, key: &str) -> String {
        String::from_utf8_lossy(self.bytes(key)).into_owned()
    }

    /// Returns all values of a key in their order.
    pub fn all(&self, key: &str) -> impl Iterator<Item = String> {
        self.0.iter().filter(move |(found, _)| found == key).map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }
}

/// Decodes percent encoding, and converts `+` to a space. Invalid escapes stay unchanged.
#[must_use]
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'%').then(|| text.get(at + 1..at + 3)).flatten().and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(escaped.unwrap_or(if *byte == b'+' { b' ' } else { *byte }));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    out
}

/// Converts the key of a request to the format of the region registry: upper-case hex. `format=hex` means that the key is already in hex.
///
/// # Errors
/// Returns Go's error message if the key is invalid hex.
pub fn key(raw: &[u8], query: &QueryParameters) -> Result<String, String> {
    if query.text("format") != "hex" {
        let hex = |nibble: u8| char::from(b"0123456789ABCDEF"[usize::from(nibble)]);
        return Ok(raw.iter().flat_map(|byte| [hex(byte >> 4), hex(byte & 15)]).collect());
    }
    if let Some(bad) = raw.iter().find(|byte| !byte.is_ascii_hexdigit()) {
        return Err(format!("encoding/hex: invalid byte: U+{bad:04X} {:?}", char::from(*bad)));
    }
    if raw.len() % 2 == 1 {
        return Err("encoding/hex: odd length hex string".to_owned());
    }
    Ok(String::from_utf8_lossy(raw).to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bytes() {
        let uri: Uri = "/regions/key?key=t%80+%zz%&object&state=up&state=down".parse().unwrap();
        let query = QueryParameters::of(&uri);
        assert_eq!(query.bytes("key"), b"t\x80 %zz%");
        assert!(query.has("object") && !query.has("limit"));
        assert_eq!(query.all("state").collect::<Vec<_>>(), ["up", "down"]);
        assert_eq!(key(query.bytes("key"), &query).unwrap(), "7480202 57A7A25".replace(' ', ""));

        let hex = QueryParameters::of(&"/?format=hex".parse().unwrap());
        assert_eq!(key(b"0aff", &hex).unwrap(), "0AFF");
        assert_eq!(key(b"0af", &hex).unwrap_err(), "encoding/hex: odd length hex string");
        assert_eq!(key(b"0g", &hex).unwrap_err(), "encoding/hex: invalid byte: U+0067 'g'");
    }
}
