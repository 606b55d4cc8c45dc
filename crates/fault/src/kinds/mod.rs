//! Registry of faults. Every fault has one file in this folder, one `mod` line and one line in the list below.

mod bandwidth;
mod clock_rate;
mod clock_skew;
mod config_change;
mod connection_reset;
mod corrupt;
mod cpu_stress;
mod crash_loop;
mod disk_error;
mod disk_pressure;
mod disk_readonly;
mod disk_slow;
mod duplicate;
mod env_change;
mod exec;
mod http;
mod latency;
mod lost_unsynced_writes;
mod memory_stress;
mod network_partition;
mod node_kill;
mod node_pause;
mod node_restart;
mod node_stop;
mod packet_loss;
mod process_args;
mod reorder;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::description::FaultDescription;
use super::resolution::Resolution;
use super::resolver::Resolver;

macro_rules! faults {
    ($($variant:ident => $fault:ident,)+) => {
        /// Unresolved parameters of a fault: the map below `inject:`. Each variant is one kind of fault.
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum FaultParameters {
            $($variant(Box<$fault::Parameters>),)+
        }

        /// Fixed data of every fault, in the order of the documentation.
        pub const ALL: &[&FaultDescription] = &[$(&$fault::DESCRIPTION,)+];

        impl FaultParameters {
            /// Returns the fixed data of the kind of fault that these parameters belong to.
            #[must_use]
            pub const fn description(&self) -> &'static FaultDescription {
                match self {
                    $(Self::$variant(_) => &$fault::DESCRIPTION,)+
                }
            }

            pub(super) fn resolve(&self, resolver: &mut Resolver) -> Option<Resolution> {
                match self {
                    $(Self::$variant(read) => $fault::resolve(read, resolver),)+
                }
            }
        }

        fn schemas(generator: &mut SchemaGenerator) -> Vec<(&'static FaultDescription, Schema)> {
            vec![$((&$fault::DESCRIPTION, generator.subschema_for::<$fault::Parameters>()),)+]
        }
    };
}

faults! {
    NodeKill => node_kill,
    NodeStop => node_stop,
    NodeRestart => node_restart,
    NodePause => node_pause,
    CrashLoop => crash_loop,
    Latency => latency,
    PacketLoss => packet_loss,
    Duplicate => duplicate,
    Corrupt => corrupt,
    Reorder => reorder,
    Bandwidth => bandwidth,
    ConnectionReset => connection_reset,
    NetworkPartition => network_partition,
    DiskPressure => disk_pressure,
    DiskSlow => disk_slow,
    DiskError => disk_error,
    DiskReadonly => disk_readonly,
    LostUnsyncedWrites => lost_unsynced_writes,
    ClockSkew => clock_skew,
    ClockRate => clock_rate,
    CpuStress => cpu_stress,
    MemoryStress => memory_stress,
    ConfigChange => config_change,
    EnvChange => env_change,
    ProcessArgs => process_args,
    Exec => exec,
    Http => http,
}

impl JsonSchema for FaultParameters {
    fn schema_name() -> Cow<'static, str> {
        "fault".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let alternative = |(fault, schema): (&FaultDescription, Schema)| {
            json!({
                "type": "object",
                "properties": { fault.name: schema },
                "required": [fault.name],
                "additionalProperties": false,
                "description": fault.summary,
            })
        };
        let alternatives: Vec<Value> = schemas(generator).into_iter().map(alternative).collect();
        json_schema!({ "oneOf": alternatives })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DOCKER, LOCAL};
    use super::*;

    #[test]
    fn every_fault_is_read_under_its_own_name() {
        for fault in ALL {
            // The map has an invalid key, but the name of the fault is known.
            let read = serde_json::from_value::<FaultParameters>(json!({ fault.name: { "no such parameter": 1 } }));
            let problem = read.expect_err("no fault has such a parameter").to_string();
            assert!(!problem.contains("unknown variant"), "{}: {problem}", fault.name);
        }
    }

    #[test]
    fn every_refusal_has_a_reason() {
        for fault in ALL {
            let refused = [LOCAL, DOCKER].into_iter().any(|backend| fault.ways(backend).is_empty());
            assert_eq!(refused, !fault.refused.is_empty(), "{}", fault.name);
        }
    }
}
