//! Registry of the kinds of probes, with one line per kind. The keys of probes and of `ready` in cluster files are generated from this
//! list.

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
        /// A probe. Exactly one kind of probe is required, and none with `on: workload`.
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[schemars(rename = "probe")]
        pub struct RawProbe {
            /// Source: `each ROLE` (a list with one item per node), `any ROLE` (the first answer that is ok), `workload`, or `tools` (the
            /// machine of the runner).
            pub on: String,
            $($(#[$both_doc])* pub $both: Option<<$both_kind as FromFile>::Raw>,)*
            $($(#[$doc])* pub $name: Option<<$kind as FromFile>::Raw>,)*
            /// PromQL query over the metrics that `metrics` reads: `histogram_quantile(0.99, sum by (le) (rate(NAME_bucket[10s])))`.
            pub expr: Option<String>,
            /// For `log` and `on: workload`: length of the evaluated time window, which ends now [default: 10s].
            pub window: Option<RawDuration>,
            /// Time limit of one answer [default: 1s].
            pub timeout: Option<RawDuration>,
            /// Minimum interval between two polls [default: each tick].
            pub every: Option<RawDuration>,
            /// Age from which an answer counts as unknown [default: three times the interval of the polls, plus `timeout`].
            pub stale_after: Option<RawDuration>,
        }

        /// Condition under which a node is ready. Exactly one kind of probe is required.
        #[derive(Debug, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        #[schemars(rename = "ready")]
        pub struct RawReady {
            $($(#[$both_doc])* pub $both: Option<<$both_kind as FromFile>::Raw>,)*
            /// Condition over `status`, `json` and `text` [default: a status from 200 to 299, exit code 0, or for other probes any answer].
            pub expect: Option<Text>,
            /// Maximum time until the node is ready [default: 30s].
            pub within: Option<RawDuration>,
        }

        /// Kinds of probe that observations may use.
        pub const OBSERVABLE: &[&str] = &[$(stringify!($both),)* $(stringify!($name),)*];
        /// Kinds of probe that `ready` may use.
        pub const READY: &[&str] = &[$(stringify!($both),)*];

        impl RawProbe {
            /// Returns the kinds of probe that the file specifies.
            #[must_use]
            pub fn given(&self) -> Vec<&'static str> {
                let all = [$((stringify!($both), self.$both.is_some()),)* $((stringify!($name), self.$name.is_some()),)*];
                all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
            }

            /// Reads the first kind of probe that the file specifies.
            pub fn read(&self, at: &Pointer, check: &mut Checker<'_>) -> Option<ProbeSpec> {
                let shared = SharedKeys { at: at.clone(), expr: self.expr.as_deref(), window: self.window.as_ref() };
                $(if let Some(raw) = &self.$both { return read::<$both_kind>(stringify!($both), raw, &shared, check); })*
                $(if let Some(raw) = &self.$name { return read::<$kind>(stringify!($name), raw, &shared, check); })*
                None
            }
        }

        impl RawReady {
            /// Returns the kinds of probe that the file specifies.
            #[must_use]
            pub fn given(&self) -> Vec<&'static str> {
                let all = [$((stringify!($both), self.$both.is_some()),)*];
                all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
            }

            /// Reads the first kind of probe that the file specifies.
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
        /// URL, or a map with the parts of the request.
        http: http::Http,
        /// Address to connect to: `HOST:PORT`, a template.
        tcp: tcp::Tcp,
        /// Command for a Redis server.
        redis: redis::Redis,
        /// Command that runs in the node, or with `on: tools` on the machine of the runner. Exit code 0 means success.
        exec: exec::Exec,
    }
    observed: {
        /// `true`: tests whether the process of the node runs.
        alive: alive::Alive,
        /// URL of metrics in the Prometheus text format. `expr` is the query.
        metrics: metrics::Metrics,
        /// Query to a Prometheus server.
        promql: promql::Promql,
        /// Regular expression for lines of the log of the node. Its named groups are the columns of `rows`.
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
