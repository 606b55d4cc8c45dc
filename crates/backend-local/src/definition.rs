//! Definition of the start of a node: the values of the cluster file, with later changes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use indexmap::IndexMap;

use chaosrun_backend::ready;
use chaosrun_cluster::fault_control::Redefinition;

/// Names and values of environment variables.
pub(super) type Environment = Vec<(OsString, OsString)>;

/// Plan for all starts of a node. The plan is rendered once. Only changes of the definition make one start different from another.
#[derive(Debug)]
pub(super) struct NodeStartPlan {
    pub name: String,
    pub role: String,
    pub program: OsString,
    pub definition: LocalDefinition,
    pub dir: PathBuf,
    pub data: PathBuf,
    /// Path below `dir` and content of each file of the node.
    pub files: Vec<(PathBuf, String)>,
    pub log: PathBuf,
    /// Hard link to the log file, at a path that the node may see in `/proc/self/fd`. The link exists only if both paths are on one file
    /// system.
    pub log_link: PathBuf,
    pub ready: ready::ReadinessPlan,
    /// True if the first word of the command of the node was `chaosrun`, so that the node runs a copy of this program.
    pub is_copy: bool,
    /// Path of the clock page; `None` if the cluster file does not allow changes of the clock.
    pub clock: Option<PathBuf>,
    /// Folder with the real data behind the disk layer; `None` if the node has no disk layer.
    pub layer: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) struct LocalDefinition {
    /// Program name of the node, and the arguments that every start uses.
    command: Vec<String>,
    args: Vec<String>,
    /// Environment variables that every node gets.
    base: Environment,
    /// Environment variables of this node in the cluster file.
    env: IndexMap<String, String>,
    /// Environment variables of the clock library, which override all other variables.
    clock: Environment,
    /// Current change of the definition, the only part of a plan that can differ between two starts.
    changed: Mutex<Redefinition>,
}

impl LocalDefinition {
    pub fn new(command: Vec<String>, args: Vec<String>, base: Environment, env: IndexMap<String, String>, clock: Environment) -> Self {
        Self { command, args, base, env, clock, changed: Mutex::default() }
    }

    /// Stores a change of the definition, which applies from the next start on.
    pub fn change(&self, to: Redefinition) {
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    /// Returns the arguments after the fixed command, and the environment variables of the node itself, for the next start.
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

    /// Returns the complete command line and the complete environment for the next start.
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
