//! Identities of the PD members: names, addresses and ids.

use std::collections::BTreeMap;

use anyhow::{Context, bail};

/// Default cluster token of the real PD, from which ids are derived.
const TOKEN: &str = "pd-cluster";

/// Address of the form `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    host_port: String,
}

impl Url {
    #[must_use]
    pub fn host_port(&self) -> &str {
        &self.host_port
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}", self.host_port)
    }
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host_port = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        match host_port.and_then(|rest| rest.rsplit_once(':')) {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self { host_port: host_port.unwrap_or_default().to_owned() })
            }
            _ => Err(format!("found `{text}`, expected `http://host:port`")),
        }
    }
}

/// PD member as given in the flag `--initial-cluster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PdMember {
    pub id: u64,
    pub name: String,
    pub peer_url: Url,
}

/// All PD members in the order of their ids, as etcd lists them.
#[derive(Debug, Clone)]
pub struct Members {
    pub cluster_id: u64,
    pub all: Vec<PdMember>,
    me: usize,
}

impl Members {
    /// Parses a member list such as `pd1=http://host:port,pd2=...`. Ids are derived from the names and the whole list, so all members
    /// compute the same ids at every start.
    ///
    /// # Errors
    /// Returns an error if the list is malformed, names a member twice, or lacks `name`.
    pub fn parse(initial_cluster: &str, name: &str) -> anyhow::Result<Self> {
        let mut urls: BTreeMap<&str, Url> = BTreeMap::new();
        for entry in initial_cluster.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (name, url) =
                entry.split_once('=').with_context(|| format!("`{entry}` in --initial-cluster is not `name=http://host:port`"))?;
            let url = url.parse().map_err(anyhow::Error::msg).with_context(|| format!("address of `{name}` in --initial-cluster"))?;
            if urls.insert(name, url).is_some() {
                bail!("--initial-cluster names `{name}` twice");
            }
        }
        let canonical = urls.iter().map(|(name, url)| format!("{name}={url}")).collect::<Vec<_>>().join(",");
        let mut all: Vec<PdMember> = urls
            .into_iter()
            .map(|(name, peer_url)| PdMember { id: id(&["member", TOKEN, &canonical, name]), name: name.to_owned(), peer_url })
            .collect();
        all.sort_by_key(|member| member.id);
        let Some(me) = all.iter().position(|member| member.name == name) else {
            let known = all.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(", ");
            bail!("--name `{name}` is not in --initial-cluster (found: {known})");
        };
        Ok(Self { cluster_id: id(&["cluster", TOKEN, &canonical]), all, me })
    }

    #[must_use]
    pub fn me(&self) -> &PdMember {
        &self.all[self.me]
    }

    #[must_use]
    pub fn by_id(&self, id: u64) -> Option<&PdMember> {
        self.all.iter().find(|member| member.id == id)
    }

    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&PdMember> {
        self.all.iter().find(|member| member.name == name)
    }
}

/// Derives an id above 2^53, as etcd does. A client that reads such an id as a float therefore fails as with the real etcd.
fn id(parts: &[&str]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    let bytes = hasher.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&bytes.as_bytes()[..8]);
    u64::from_be_bytes(first) | 1 << 62
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_large_and_equal_on_all_members() {
        let one = Members::parse("pd1=http://h:1,pd2=http://h:2,pd3=http://h:3", "pd1").unwrap();
        let two = Members::parse("pd3=http://h:3,pd2=http://h:2/,pd1=http://h:1", "pd2").unwrap();
        assert_eq!(one.all, two.all);
        assert_eq!(one.cluster_id, two.cluster_id);
        assert_eq!((one.me().name.as_str(), two.me().name.as_str()), ("pd1", "pd2"));
        assert!(one.all.iter().all(|member| member.id > 1 << 53));
        assert!(one.all.is_sorted_by_key(|member| member.id));
    }

    #[test]
    fn invalid_lists_are_refused() {
        for (list, message) in [
            ("pd1=http://h:1", "--name `pd2` is not in --initial-cluster (found: pd1)"),
            ("pd1=http://h:1,pd1=http://h:2", "--initial-cluster names `pd1` twice"),
            ("pd1", "`pd1` in --initial-cluster is not `name=http://host:port`"),
        ] {
            assert_eq!(Members::parse(list, "pd2").unwrap_err().to_string(), message);
        }
        let error = Members::parse("pd2=h:1", "pd2").unwrap_err();
        assert_eq!(format!("{error:#}"), "address of `pd2` in --initial-cluster: found `h:1`, expected `http://host:port`");
    }
}
