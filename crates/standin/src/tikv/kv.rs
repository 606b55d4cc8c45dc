//! Replicated state of a region: keys and values.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::raft::StateMachine;

/// Command of a client on a key. In encoded form, the command is an entry of the region's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KvCommand {
    Put {
        key: String,
        value: Bytes,
    },
    Delete {
        key: String,
    },
    /// Writes `value` if the current value of the key equals `expect`. `None` means that the key is absent.
    CompareAndPut {
        key: String,
        expect: Option<Bytes>,
        value: Bytes,
    },
}

/// Result of a client's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KvResult {
    Done,
    /// The compare-and-put found another value.
    Differs {
        present: Option<Bytes>,
    },
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const COMPARE: u8 = 3;
const DONE: u8 = 0;
const DIFFERS: u8 = 1;

/// Appends a field `length u32 | bytes` to `out`. `None` is encoded as the length 0xFFFF_FFFF.
fn push(out: &mut Vec<u8>, field: Option<&[u8]>) {
    let length = field.map_or(u32::MAX, |field| u32::try_from(field.len()).unwrap_or(u32::MAX - 1));
    out.extend(length.to_le_bytes());
    out.extend(field.unwrap_or_default());
}

/// Error of decoding: the bytes are not an encoded command or result.
struct Unreadable;

fn pull(rest: &mut &[u8]) -> Result<Option<Bytes>, Unreadable> {
    let (length, tail) = rest.split_first_chunk::<4>().ok_or(Unreadable)?;
    let length = u32::from_le_bytes(*length);
    if length == u32::MAX {
        *rest = tail;
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| Unreadable)?;
    let (field, tail) = tail.split_at_checked(length).ok_or(Unreadable)?;
    *rest = tail;
    Ok(Some(Bytes::copy_from_slice(field)))
}

fn pull_some(rest: &mut &[u8]) -> Result<Bytes, Unreadable> {
    pull(rest)?.ok_or(Unreadable)
}

fn pull_key(rest: &mut &[u8]) -> Result<String, Unreadable> {
    String::from_utf8(pull_some(rest)?.into()).map_err(|_| Unreadable)
}

impl KvCommand {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Put { key, value } => {
                out.push(PUT);
                push(&mut out, Some(key.as_bytes()));
                push(&mut out, Some(value));
            }
            Self::Delete { key } => {
                out.push(DELETE);
                push(&mut out, Some(key.as_bytes()));
            }
            Self::CompareAndPut { key, expect, value } => {
                out.push(COMPARE);
                push(&mut out, Some(key.as_bytes()));
                push(&mut out, expect.as_deref());
                push(&mut out, Some(value));
            }
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (kind, mut rest) = bytes.split_first().ok_or(Unreadable)?;
        let key = pull_key(&mut rest)?;
        match *kind {
            PUT => Ok(Self::Put { key, value: pull_some(&mut rest)? }),
            DELETE => Ok(Self::Delete { key }),
            COMPARE => Ok(Self::CompareAndPut { key, expect: pull(&mut rest)?, value: pull_some(&mut rest)? }),
            _ => Err(Unreadable),
        }
    }
}

impl KvResult {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Done => vec![DONE],
            Self::Differs { present } => {
                let mut out = vec![DIFFERS];
                push(&mut out, present.as_deref());
                out
            }
        }
    }

    /// Decodes a result. Returns `None` if the bytes are not an encoded result.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, mut rest) = bytes.split_first()?;
        match *kind {
            DONE => Some(Self::Done),
            DIFFERS => Some(Self::Differs { present: pull(&mut rest).ok()? }),
            _ => None,
        }
    }
}

/// State machine of a region: its keys and values.
#[derive(Debug, Default)]
pub(crate) struct Kv {
    pairs: BTreeMap<String, Bytes>,
    /// Total size of all keys and values, in bytes.
    bytes: u64,
}

impl Kv {
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.pairs.get(key).cloned()
    }

    /// Returns the number of keys, and the total size of all keys and values in bytes.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        (self.pairs.len() as u64, self.bytes)
    }

    fn put(&mut self, key: String, value: Bytes) {
        let length = key.len();
        self.bytes += (length + value.len()) as u64;
        if let Some(old) = self.pairs.insert(key, value) {
            self.bytes -= (length + old.len()) as u64;
        }
    }

    fn run(&mut self, command: KvCommand) -> KvResult {
        match command {
            KvCommand::Put { key, value } => self.put(key, value),
            KvCommand::Delete { key } => {
                if let Some(old) = self.pairs.remove(&key) {
                    self.bytes -= (key.len() + old.len()) as u64;
                }
            }
            KvCommand::CompareAndPut { key, expect, value } => {
                let present = self.pairs.get(&key);
                if present != expect.as_ref() {
                    return KvResult::Differs { present: present.cloned() };
                }
                self.put(key, value);
            }
        }
        KvResult::Done
    }
}

impl StateMachine for Kv {
    fn apply(&mut self, _index: u64, entry: &[u8]) -> Vec<u8> {
        // All stores treat an unreadable entry in the same way: the state does not change, and the answer is unreadable.
        KvCommand::decode(entry).map(|command| self.run(command).encode()).unwrap_or_default()
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(usize::try_from(self.bytes).unwrap_or(0) + 8 * self.pairs.len());
        for (key, value) in &self.pairs {
            push(&mut out, Some(key.as_bytes()));
            push(&mut out, Some(value));
        }
        out
    }

    fn restore(&mut self, mut snapshot: &[u8]) -> Result<(), String> {
        *self = Self::default();
        while !snapshot.is_empty() {
            let key = pull_key(&mut snapshot).map_err(|_| "a key that cannot be decoded")?;
            let value = pull_some(&mut snapshot).map_err(|_| "a value that cannot be decoded")?;
            self.put(key, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kv: &mut Kv, command: &KvCommand) -> KvResult {
        KvResult::decode(&kv.apply(1, &command.encode())).unwrap()
    }

    #[test]
    fn commands_and_snapshots_round_trip() {
        let mut kv = Kv::default();
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        let cas = |expect, value| KvCommand::CompareAndPut { key: "a".to_owned(), expect, value: text(value) };
        assert_eq!(run(&mut kv, &cas(Some(text("x")), "1")), KvResult::Differs { present: None });
        assert_eq!(run(&mut kv, &cas(None, "1")), KvResult::Done);
        assert_eq!(run(&mut kv, &cas(None, "2")), KvResult::Differs { present: Some(text("1")) });
        assert_eq!(run(&mut kv, &cas(Some(text("1")), "22")), KvResult::Done);
        assert_eq!(run(&mut kv, &KvCommand::Put { key: "ключ".to_owned(), value: Bytes::new() }), KvResult::Done);
        assert_eq!(run(&mut kv, &KvCommand::Put { key: "gone".to_owned(), value: text("x") }), KvResult::Done);
        assert_eq!(run(&mut kv, &KvCommand::Delete { key: "gone".to_owned() }), KvResult::Done);
        assert_eq!(kv.size(), (2, 3 + 8));
        let mut copy = Kv::default();
        copy.restore(&kv.snapshot()).unwrap();
        assert_eq!(
            (copy.get("a"), copy.get("ключ"), copy.get("gone"), copy.size()),
            (Some(text("22")), Some(Bytes::new()), None, kv.size())
        );
        assert!(copy.restore(&[1, 0, 0, 0]).is_err());
        assert!(copy.apply(2, &[9, 9]).is_empty(), "an unreadable entry changes nothing");
    }
}
