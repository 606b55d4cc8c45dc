//! Assignment of keys to regions.
//!
//! An encoded key consists of the first byte of the key's BLAKE3 hash and the key as the client wrote it. Regions divide the encoded keys
//! evenly by the first byte, so keys of any naming scheme spread over all regions.

use std::collections::BTreeMap;

use crate::wire::Peer;

/// Configuration version of every region, as in a real cluster after the first peers were placed. Never changes.
pub(crate) const CONF_VER: u64 = 5;

/// Static map from keys to regions, equal on all stores.
#[derive(Debug, Clone)]
pub struct Layout {
    regions: u64,
    stores: Vec<u64>,
}

/// Region of the [`Layout`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    pub id: u64,
    /// First encoded key of the region; empty means no lower bound.
    pub start: Vec<u8>,
    pub end: Vec<u8>,
    pub peers: Vec<Peer>,
    /// Store that leads the region in a new cluster.
    pub first_leader: u64,
}

impl Region {
    /// Returns the store id of each peer, by peer id.
    #[must_use]
    pub fn hosts(&self) -> BTreeMap<u64, u64> {
        self.peers.iter().map(|peer| (peer.id, peer.store_id)).collect()
    }
}

impl Layout {
    /// Creates the map with 1 to 256 regions.
    #[must_use]
    pub fn new(regions: u16, stores: impl IntoIterator<Item = u64>) -> Self {
        Self { regions: u64::from(regions.clamp(1, 256)), stores: stores.into_iter().collect() }
    }

    /// Returns the version of every region, as if all regions had been created by splits of one region.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.regions
    }

    /// Returns the id of the region at position `place`. As in PD, consecutive ids belong to a region and then to its peers.
    fn id(&self, place: u64) -> u64 {
        (place + 1) * (self.stores.len() as u64 + 1)
    }

    /// Returns the first hash byte of the region at position `place`.
    fn bound(&self, place: u64) -> u64 {
        place * 256 / self.regions
    }

    /// Returns the id of the region that contains a client's key.
    #[must_use]
    pub fn region_of(&self, key: &str) -> u64 {
        let byte = u64::from(blake3::hash(key.as_bytes()).as_bytes()[0]);
        let place = (0..self.regions).rev().find(|place| self.bound(*place) <= byte).unwrap_or(0);
        self.id(place)
    }

    /// Returns all regions in the order of their keys.
    #[must_use]
    pub fn regions(&self) -> Vec<Region> {
        let edge = |place: u64| match u8::try_from(self.bound(place)) {
            Ok(byte) if byte > 0 => vec![byte],
            _ => Vec::new(),
        };
        let region = |place: u64| {
            let id = self.id(place);
            let peers = self.stores.iter().zip(id + 1..).map(|(store_id, id)| Peer { id, store_id: *store_id }).collect();
            let turn = usize::try_from(place).unwrap_or(0) % self.stores.len().max(1);
            let first_leader = self.stores.get(turn).copied().unwrap_or(0);
            Region { id, start: edge(place), end: edge(place + 1), peers, first_leader }
        };
        (0..self.regions).map(region).collect()
    }
}

/// Formats a key in upper-case hex, as PD prints keys.
#[must_use]
pub fn hex(key: &[u8]) -> String {
    use std::fmt::Write as _;
    key.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn regions_have_no_gaps_and_keys_spread_over_all() {
        for count in [1, 3, 8, 256] {
            let layout = Layout::new(count, [1, 2, 3]);
            let regions = layout.regions();
            assert_eq!(regions.len(), usize::from(count));
            assert!(regions[0].start.is_empty() && regions.last().unwrap().end.is_empty());
            assert!(regions.windows(2).all(|pair| pair[0].end == pair[1].start && !pair[0].end.is_empty()));
            let ids: BTreeSet<u64> = regions.iter().map(|region| region.id).collect();
            let reached: BTreeSet<u64> = (0..3000).map(|n| layout.region_of(&format!("k{n}"))).collect();
            assert_eq!(reached, ids);
            for key in ["k0", "user42", ""] {
                let region = regions.iter().find(|region| region.id == layout.region_of(key)).unwrap();
                let encoded = [&[blake3::hash(key.as_bytes()).as_bytes()[0]], key.as_bytes()].concat();
                assert!(region.start <= encoded && (region.end.is_empty() || encoded < region.end));
            }
        }
        let eleventh = &Layout::new(16, [1, 2, 3]).regions()[10];
        assert_eq!((eleventh.id, eleventh.peers[1].clone()), (44, Peer { id: 46, store_id: 2 }));
        assert_eq!((hex(&eleventh.start), hex(&eleventh.end), eleventh.first_leader), ("A0".to_owned(), "B0".to_owned(), 2));
    }
}
