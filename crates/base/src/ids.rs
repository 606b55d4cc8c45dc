//! Id types. Their constructors and `Deserialize` reject malformed ids.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Characters of random ids. Similar characters are left out, because people read ids aloud and type them.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn opaque(prefix: &str) -> String {
    let bits = uuid::Uuid::now_v7().as_u128();
    let mut text = String::from(prefix);
    for place in 0..8 {
        let five = (bits >> (5 * place)) & 31;
        text.push(char::from(ALPHABET[usize::try_from(five).unwrap_or(0)]));
    }
    text
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Creates a random id: the prefix and eight characters of 5 bits each.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "a default that differs at every call would surprise")]
            pub fn new() -> Self {
                Self(opaque($prefix))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                let tail = text.strip_prefix($prefix).filter(|tail| !tail.is_empty());
                match tail {
                    Some(tail) if tail.bytes().all(|b| ALPHABET.contains(&b)) => Ok(Self(text)),
                    _ => Err(format!(concat!("`{}` is not an id of the form `", $prefix, "7k3mz9q2`"), text)),
                }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

id!(
    /// Id of one invocation of `chaosrun run`, such as `r-7k3mz9q2`.
    RunId,
    "r-"
);
id!(
    /// Id of one trial, such as `t-7k3mz9q2`. The id tells an agent nothing about the scenario.
    TrialId,
    "t-"
);
