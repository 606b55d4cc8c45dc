//! `config_change`: a file of the node is another one. A restart reads it and never writes it, so it stays until somebody puts it back.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use regex::Regex;

use super::{restart, restarted};
use crate::chaos::catalogue::{Kind, Repair, Way};
use crate::chaos::driver::each;
use crate::chaos::fault::{Finding, Inject, Site};
use crate::cluster::ClusterError;
use crate::event::Actor;
use crate::scenario::model::Change;

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "config_change",
    local: &[Way::plain("a file in the node's directory")],
    docker: &[Way::plain("a file in the node's container")],
    refused: "",
    repair: Repair::PutBack,
    class: "bad_config",
    holds: Some("files"),
};

/// How often it is looked whether the file is as it was.
const LOOKED: Duration = Duration::from_millis(200);

/// What was in a file, and what is in it then.
type Contents = (Vec<u8>, Vec<u8>);

pub(in crate::chaos) struct ConfigChange {
    file: String,
    change: Change,
    restart: bool,
    /// By node: what was in it, and what is in it then.
    contents: Mutex<BTreeMap<String, Contents>>,
    starts: std::sync::OnceLock<u32>,
}

impl ConfigChange {
    pub fn new(file: String, change: Change, restart: bool) -> Self {
        Self { file, change, restart, contents: Mutex::default(), starts: std::sync::OnceLock::new() }
    }

    fn contents(&self, node: &str) -> Option<Contents> {
        self.contents.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(node).cloned()
    }

    fn changed(&self, site: &Site, node: &str, old: &[u8]) -> Result<Vec<u8>, String> {
        let text = |template| site.render(template, node).map_err(|error| error.to_string());
        Ok(match &self.change {
            Change::Content(template) => text(template)?.into_bytes(),
            Change::Append(template) => [old, text(template)?.as_bytes()].concat(),
            Change::Replace { pattern, with } => {
                let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
                let old = String::from_utf8_lossy(old);
                if !pattern.is_match(&old) {
                    return Err(format!("nothing in `{}` of {node} matches `{pattern}`", self.file));
                }
                pattern.replace_all(&old, text(with)?.as_str()).into_owned().into_bytes()
            }
        })
    }

    /// Whether the file of a node is what we have made of it.
    async fn has_new(&self, site: &Site, node: &str) -> Result<bool, String> {
        let now = site.cluster.read_file(node, &self.file).await.map_err(|error| error.to_string())?;
        Ok(self.contents(node).is_some_and(|(_, new)| new == now))
    }

    /// How many targets have the new content.
    async fn changed_of(&self, site: &Site) -> Result<usize, String> {
        let mut count = 0;
        for node in &site.targets {
            count += usize::from(self.has_new(site, node).await?);
        }
        Ok(count)
    }
}

#[async_trait]
impl Inject for ConfigChange {
    async fn before(&self, site: &Site) -> Result<String, String> {
        let _ = self.starts.set(site.starts());
        for node in &site.targets {
            let old = site.cluster.read_file(node, &self.file).await.map_err(|error| error.to_string())?;
            let new = self.changed(site, node, &old)?;
            if new == old {
                return Err(format!("`{}` of {node} is so already", self.file));
            }
            self.contents.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(node.clone(), (old, new));
        }
        Ok(String::new())
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| {
            let (_, new) = self.contents(&node).unwrap_or_default();
            site.cluster.write_file(&node, &self.file, &new).await
        })
        .await?;
        if self.restart { restart(site, Actor::Fault).await } else { Ok(()) }
    }

    async fn installed(&self, site: &Site) -> Finding {
        match self.changed_of(site).await {
            Ok(count) => {
                Finding::new(count == site.targets.len(), format!("`{}` of {} has the new content", self.file, site.targets.join(", ")))
            }
            Err(error) => Finding::no(error),
        }
    }

    async fn felt(&self, site: &Site) -> Finding {
        if self.restart { restarted(site, self.starts.get().copied()) } else { Finding::yes("it is read at the next start") }
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| {
            let (old, _) = self.contents(&node).unwrap_or_default();
            site.cluster.write_file(&node, &self.file, &old).await
        })
        .await?;
        if self.restart { restart(site, Actor::Time).await } else { Ok(()) }
    }

    async fn gone(&self, site: &Site) -> Option<Finding> {
        loop {
            tokio::time::sleep(LOOKED).await;
            // Whoever repairs it need not write it as it was.
            if self.changed_of(site).await.ok()? == 0 {
                return Some(Finding::yes(format!("`{}` of {} was changed again", self.file, site.targets.join(", "))));
            }
        }
    }

    fn cure(&self, site: &Site, node: &str) -> Option<String> {
        let (old, _) = self.contents(node)?;
        let path = site.cluster.topology().node(node)?.dir.join(&self.file);
        let text = BASE64_STANDARD.encode(old);
        // A node that has ended of it can only be written into from outside.
        let (dir, file) = (path.parent()?.display(), path.file_name()?.to_string_lossy());
        let local = format!("cp=$(mktemp -d) && echo {text} | base64 -d > $cp/{file} && docker cp $cp/{file} {node}:{dir}/");
        Some(format!("{local} && docker restart {node}"))
    }
}
