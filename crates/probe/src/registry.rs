//! Registry of probes: one line per kind. The keys of a probe and of `ready` in cluster files are made from it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::kind::{FromFile, ProbeSpec, SharedKeys};
use super::{alive, exec, http, log, metrics, promql, redis, tcp};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_input::Checker;
use chaosrun_input::scalar::{RawDuration, Text};

macro_rules! probes {
    (
        both: { $($(#[$both_doc:meta])* $both:ident: $both_kind:ty,)* }
        observed: { $($(#[$doc:meta])* $name:ident: $kind:ty,)* }
    ) => {
        /// One thing to look at. Exactly one kind of probe; none with `on: workload`.
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[schemars(rename = "probe")]
        pub struct RawProbe {
            /// `each ROLE` (a list, an item a node), `any ROLE` (the first that answers), `workload` or `tools`.
            pub on: String,
            $($(#[$both_doc])* pub $both: Option<<$both_kind as FromFile>::Raw>,)*
            $($(#[$doc])* pub $name: Option<<$kind as FromFile>::Raw>,)*
            /// PromQL over what `metrics` finds: `histogram_quantile(0.99, sum by (le) (rate(NAME_bucket[10s])))`.
            pub expr: Option<String>,
            /// Time that `log` and `on: workload` look back: 10s unless given.
            pub window: Option<RawDuration>,
            /// 1s unless given.
            pub timeout: Option<RawDuration>,
            /// At most this often: every tick unless given.
            pub every: Option<RawDuration>,
            /// Older answers are unknown: 3s after it was due unless given.
            pub stale_after: Option<RawDuration>,
        }

        /// When a node counts as started.
        #[derive(Debug, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        #[schemars(rename = "ready")]
        pub struct RawReady {
            $($(#[$both_doc])* pub $both: Option<<$both_kind as FromFile>::Raw>,)*
            /// Over `status`, `json`, `text`: a status of 200 to 299, exit code 0, or any answer at all unless given.
            pub expect: Option<Text>,
            /// 30s unless given.
            pub within: Option<RawDuration>,
        }

        /// Kinds of probe that a node may be observed by.
        pub const OBSERVABLE: &[&str] = &[$(stringify!($both),)* $(stringify!($name),)*];
        /// Kinds of probe that a node may be waited for by.
        pub const READY: &[&str] = &[$(stringify!($both),)*];

        impl RawProbe {
            /// Kinds of probe that the file gives.
            #[must_use]
            pub fn given(&self) -> Vec<&'static str> {
                let all = [$((stringify!($both), self.$both.is_some()),)* $((stringify!($name), self.$name.is_some()),)*];
                all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
            }

            /// Reads the first kind of probe that the file gives.
            pub fn read(&self, at: &Pointer, check: &mut Checker<'_>) -> Option<ProbeSpec> {
                let shared = SharedKeys { at: at.clone(), expr: self.expr.as_deref(), window: self.window.as_ref() };
                $(if let Some(raw) = &self.$both { return read::<$both_kind>(stringify!($both), raw, &shared, check); })*
                $(if let Some(raw) = &self.$name { return read::<$kind>(stringify!($name), raw, &shared, check); })*
                None
            }
        }

        impl RawReady {
            /// Kinds of probe that the file gives.
            #[must_use]
            pub fn given(&self) -> Vec<&'static str> {
                let all = [$((stringify!($both), self.$both.is_some()),)*];
                all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
            }

            /// Reads the first kind of probe that the file gives.
            pub fn read(&self, at: &Pointer, check: &mut Checker<'_>) -> Option<ProbeSpec> {
                let shared = SharedKeys { at: at.clone(), ..SharedKeys::default() };
                $(if let Some(raw) = &self.$both { return read::<$both_kind>(stringify!($both), raw, &shared, check); })*
                None
            }
        }
    };
}

probes! {
    both: {
        http: http::Http,
        /// `host:port`
        tcp: tcp::Tcp,
        /// A command to a Redis server.
        redis: redis::Redis,
        /// A command: in the node, or beside the runner with `on: tools`. Exit code 0 = ok.
        exec: exec::Exec,
    }
    observed: {
        /// Is the node's process running?
        alive: alive::Alive,
        /// Address of Prometheus text; `expr` is the query.
        metrics: metrics::Metrics,
        /// A query to Prometheus.
        promql: promql::Promql,
        /// A regular expression on the node's log; its named groups are the columns of `.rows`.
        log: log::Log,
    }
}

fn read<K: FromFile>(name: &'static str, raw: &K::Raw, shared: &SharedKeys<'_>, check: &mut Checker<'_>) -> Option<ProbeSpec> {
    if shared.window.is_some() && name != "log" {
        let problem = Diagnostic::error("bad_probe", "`window` is only valid with `log` and `on: workload`").label("not used here");
        let problem = problem.help("a metric's window stands in `expr`: `rate(NAME[10s])`");
        check.wrong_key(&shared.at.key("window"), problem);
    }
    if shared.expr.is_some() && name != "metrics" {
        check.wrong_key(&shared.at.key("expr"), metrics::unpaired("expr", "metrics"));
    }
    Some(ProbeSpec::new(name, K::read(raw, &shared.at.key(name), shared, check)?))
}
