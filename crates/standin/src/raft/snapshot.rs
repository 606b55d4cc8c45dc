//! Snapshots of group states on disk: files `snap-<group>-<index>`, completed by a rename. Only the newest file of a group is used.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::wal::write_whole;

const MAGIC: &[u8; 8] = b"CRSNAP1\n";

/// State of a group's state machine after the log entry `index`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) data: Vec<u8>,
}

fn path(dir: &Path, group: u64, index: u64) -> PathBuf {
    dir.join(format!("snap-{group}-{index}"))
}

/// Writes a snapshot of a group to disk and syncs the file.
pub(super) fn save(dir: &Path, group: u64, saved: &Saved) -> io::Result<()> {
    let mut body = Vec::with_capacity(saved.data.len() + 24);
    body.extend(group.to_le_bytes());
    body.extend(saved.index.to_le_bytes());
    body.extend(saved.term.to_le_bytes());
    body.extend(&saved.data);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(blake3::hash(&body).as_bytes());
    bytes.extend(body);
    write_whole(&path(dir, group, saved.index), &bytes).map(drop)
}

/// Removes the snapshots of a group that are older than log entry `index`.
pub(super) fn remove_older(dir: &Path, group: u64, index: u64) -> io::Result<()> {
    for (found, at, path) in list(dir)? {
        if found == group && at < index {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Loads the newest snapshot of every group.
///
/// # Errors
/// Returns an error if a snapshot is damaged. Snapshots are renamed into place only when complete, so the disk has lost data.
pub(super) fn load_all(dir: &Path) -> io::Result<BTreeMap<u64, Saved>> {
    let mut newest: BTreeMap<u64, (u64, PathBuf)> = BTreeMap::new();
    for (group, index, path) in list(dir)? {
        let older = match newest.get(&group) {
            Some((known, _)) if *known > index => Some(path),
            _ => newest.insert(group, (index, path)).map(|(_, older)| older),
        };
        if let Some(older) = older {
            fs::remove_file(older)?;
        }
    }
    newest
        .into_iter()
        .map(|(group, (index, path))| {
            let saved = parse(&fs::read(&path)?, group, index)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is damaged", path.display())))?;
            Ok((group, saved))
        })
        .collect()
}

fn list(dir: &Path) -> io::Result<Vec<(u64, u64, PathBuf)>> {
    let mut found = Vec::new();
    for file in fs::read_dir(dir)? {
        let path = file?.path();
        let parsed = path.file_name().and_then(|name| name.to_str()).and_then(|name| {
            let (group, index) = name.strip_prefix("snap-")?.split_once('-')?;
            Some((group.parse().ok()?, index.parse().ok()?))
        });
        if let Some((group, index)) = parsed {
            found.push((group, index, path));
        }
    }
    Ok(found)
}

fn parse(bytes: &[u8], group: u64, index: u64) -> Option<Saved> {
    let (sum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
    if blake3::hash(body).as_bytes() != sum {
        return None;
    }
    let (found, rest) = body.split_first_chunk::<8>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (term, data) = rest.split_first_chunk::<8>()?;
    let right = u64::from_le_bytes(*found) == group && u64::from_le_bytes(*at) == index;
    right.then(|| Saved { index, term: u64::from_le_bytes(*term), data: data.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_snapshot_counts_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let saved = |index| Saved { index, term: 7, data: vec![1, 2, 3] };
        for (group, index) in [(4, 9), (4, 10), (8, 100)] {
            save(dir.path(), group, &saved(index)).unwrap();
        }
        assert_eq!(load_all(dir.path()).unwrap(), BTreeMap::from([(4, saved(10)), (8, saved(100))]));
        assert!(!path(dir.path(), 4, 9).exists());
        let mut bytes = fs::read(path(dir.path(), 8, 100)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path(dir.path(), 8, 100), bytes).unwrap();
        assert!(load_all(dir.path()).unwrap_err().to_string().contains("is damaged"));
    }
}
