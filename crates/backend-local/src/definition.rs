//! Definition of a node's start: its cluster file, with later changes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use indexmap::IndexMap;

use chaosrun_backend::ready;
use chaosrun_cluster::fault_control::Redefinition;

/// Names and values of environment variables.
pub(super) type Environment = Vec<(OsString, OsString)>;

/// Plan for the starts of a node. It is rendered once, and is the same at every start except for changes of the definition.
#[derive(Debug)]
pub(super) struct NodeStartPlan {
    pub name: String,
    pub role: String,
    pub program: OsString,
    pub definition: LocalDefinition,
    pub dir: PathBuf,
    pub data: PathBuf,
    /// Paths below `dir`, and their contents.
    pub files: Vec<(PathBuf, String)>,
    pub log: PathBuf,
    /// Hard link of the log, which the node may see in `/proc/self/fd`. It exists only if both paths are on one disk.
    pub log_link: PathBuf,
    pub ready: ready::ReadinessPlan,
    /// True if the first word of the command was `chaosrun`.
    pub is_copy: bool,
    /// Path of the clock page, if the clock may be changed.
    pub clock: Option<PathBuf>,
    /// Folder behind the disk layer, if the node has one.
    pub layer: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) struct LocalDefinition {
    /// Program name, and the arguments that always follow it.
    command: Vec<String>,
    args: Vec<String>,
    /// Variables of every node.
    base: Environment,
    /// Variables from the cluster file.
    env: IndexMap<String, String>,
    /// Variables of the clock library, which override all others.
    clock: Environment,
    /// Change of the definition, the only part that differs between starts.
    changed: Mutex<Redefinition>,
}

impl LocalDefinition {
    pub fn new(command: Vec<String>, args: Vec<String>, base: Environment, env: IndexMap<String, String>, clock: Environment) -> Self {
        Self { command, args, base, env, clock, changed: Mutex::default() }
    }

    /// Sets the change for the next start.
    pub fn change(&self, to: Redefinition) {
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    /// Returns the arguments after the command, and the node's own environment, for the next start.
    pub fn present(&self) -> (Vec<String>, IndexMap<String, String>) {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut env = self.env.clone();
        for (name, value) in changed.env {
            match value {
                Some(value) => drop(env.insert(name, value)),
                None => drop(env.shift_remove(&name)),
            }
        }
        (changed.args.unwrap_or_else(|| self.args.clone()), env)
    }

    /// Returns the complete command line and environment.
    pub fn start(&self) -> (Vec<OsString>, Environment) {
        let (args, env) = self.present();
        let argv = self.command.iter().cloned().chain(args).map(OsString::from).collect();
        let mut env = merged(&self.base, &env);
        env.retain(|(name, _)| !self.clock.iter().any(|(other, _)| other == name));
        env.extend_from_slice(&self.clock);
        (argv, env)
    }
}

/// Merges environments; values of `extra` override those of `base`.
pub(super) fn merged(base: &[(OsString, OsString)], extra: &IndexMap<String, String>) -> Vec<(OsString, OsString)> {
    let kept = base.iter().filter(|(name, _)| !extra.contains_key(&*name.to_string_lossy())).cloned();
    kept.chain(extra.iter().map(|(name, value)| (name.into(), value.into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_replaces_named_values_until_it_is_reverted() {
        let env = IndexMap::from([("A", "1"), ("B", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())));
        let base = vec![("HOME".into(), "/n1".into())];
        let clock = vec![("PRE".into(), "c".into())];
        let definition = LocalDefinition::new(vec!["etcd".into()], vec!["--fast".into()], base, env, clock);
        let start = |definition: &LocalDefinition| {
            let (argv, env) = definition.start();
            let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            let env: Vec<_> = env.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect();
            format!("{} {}", env.join(" "), words.join(" "))
        };
        let before = "HOME=/n1 A=1 B=2 PRE=c etcd --fast";
        assert_eq!(start(&definition), before);
        let env =
            IndexMap::from([("A".to_owned(), None), ("HOME".to_owned(), Some("/".to_owned())), ("PRE".to_owned(), Some("x".to_owned()))]);
        definition.change(Redefinition { env, args: Some(vec!["--slow".into(), "x".into()]) });
        assert_eq!(start(&definition), "B=2 HOME=/ PRE=c etcd --slow x");
        definition.change(Redefinition::default());
        assert_eq!(start(&definition), before);
    }
}
