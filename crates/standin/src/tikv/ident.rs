//! Identity of a data directory. A store never changes its id and its map of regions.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ident {
    pub store_id: u64,
    pub regions: u16,
}

impl Ident {
    /// Compares this identity with the identity in the directory `dir`. A new directory gets this identity.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be used or belongs to another store.
    pub fn claim(&self, dir: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make the data directory `{}`", dir.display()))?;
        let path = dir.join("store.json");
        let found: Self = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("`{}` is damaged", path.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let temporary = dir.join("store.tmp");
                let write = || fs::write(&temporary, serde_json::to_vec(self)?).and_then(|()| fs::rename(&temporary, &path));
                return write().with_context(|| format!("cannot write to the data directory `{}`", dir.display()));
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        ensure!(found.store_id == self.store_id, "`{}` belongs to store {}, not {}", dir.display(), found.store_id, self.store_id);
        ensure!(found.regions == self.regions, "`{}` holds {} regions, not {}", dir.display(), found.regions, self.regions);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_bound_to_its_store_and_regions() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mine = Ident { store_id: 1, regions: 8 };
        mine.claim(&data).unwrap();
        mine.claim(&data).unwrap();
        assert!(Ident { store_id: 2, regions: 8 }.claim(&data).unwrap_err().to_string().contains("belongs to store 1, not 2"));
        assert!(Ident { store_id: 1, regions: 9 }.claim(&data).unwrap_err().to_string().contains("holds 8 regions, not 9"));
        fs::write(data.join("store.json"), "{").unwrap();
        assert!(mine.claim(&data).unwrap_err().to_string().contains("is damaged"));
    }
}
