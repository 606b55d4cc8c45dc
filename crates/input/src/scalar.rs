//! Types of values that have several notations in a file.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

/// Text of an expression, a template or a plain word. Whole numbers and booleans are accepted as text. `1.10` is rejected, because YAML
/// would silently change it to `1.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

/// Duration in the notation of the file, such as `500ms`, `2s` or `1m 30s`.
#[derive(Debug, Clone)]
pub struct RawDuration(pub String);

/// Size in the notation of the file: a text such as `512MiB` or `1GB`, or a number of bytes.
#[derive(Debug, Clone)]
pub struct RawSize(pub String);

/// Count in the notation of the file: a text such as `200k` or `1M`, or a whole number.
#[derive(Debug, Clone)]
pub struct RawCount(pub String);

/// Number of nodes to choose, in the notation of the file: `2`, `50%` or `all`.
#[derive(Debug, Clone)]
pub struct RawPick(pub String);

macro_rules! text_like {
    ($name:ident, $expected:literal, numbers: $numbers:literal, schema: $schema:tt) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Words;
                impl Visitor<'_> for Words {
                    type Value = String;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
                        Ok(text.to_owned())
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
                        if $numbers { Ok(number.to_string()) } else { Err(E::invalid_type(de::Unexpected::Unsigned(number), &self)) }
                    }
                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
                        if $numbers { Ok(number.to_string()) } else { Err(E::invalid_type(de::Unexpected::Signed(number), &self)) }
                    }
                    fn visit_bool<E: de::Error>(self, value: bool) -> Result<String, E> {
                        if stringify!($name) == "Text" {
                            Ok(value.to_string())
                        } else {
                            Err(E::invalid_type(de::Unexpected::Bool(value), &self))
                        }
                    }
                }
                deserializer.deserialize_any(Words).map(Self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).trim_start_matches("Raw").into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text_like!(Text, "text", numbers: true, schema: { "type": ["string", "integer", "boolean"] });
text_like!(RawDuration, "a duration such as `500ms`", numbers: false, schema: {
    "description": "A duration: 500ms, 2s, 1m 30s",
    "type": "string",
    "pattern": r"^[0-9]+(\.[0-9]+)? ?[a-zµ]+( ?[0-9]+(\.[0-9]+)? ?[a-zµ]+)*$"
});
text_like!(RawSize, "a size such as `512MiB`", numbers: true, schema: {
    "description": "A size: 512MiB, 1GB, or a number of bytes",
    "type": ["string", "integer"],
    "pattern": r"^[0-9]+ ?([KMGT]i?B|B)?$"
});
text_like!(RawCount, "a number such as `200k`", numbers: true, schema: {
    "description": "A count: 200k, 1M, or a whole number",
    "type": ["string", "integer"],
    "pattern": r"^[0-9]+[kM]?$"
});
text_like!(RawPick, "a number, a percentage such as `50%`, `majority`, `minority` or `all`", numbers: true, schema: {
    "description": "Number of nodes: 2, 50%, majority, minority or all",
    "type": ["string", "integer"],
    "pattern": r"^([0-9]+|[0-9]+(\.[0-9]+)?%|majority|minority|all)$"
});

/// Amount in the notation of the file. The unit may be omitted where only one unit is possible. Examples: `10`, `2.5`, `10%`, `50ms`,
/// `10mbit`.
#[derive(Debug, Clone)]
pub struct RawAmount(pub String);

struct Amounts;

impl Visitor<'_> for Amounts {
    type Value = RawAmount;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or text")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<RawAmount, E> {
        Ok(RawAmount(text.to_owned()))
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<RawAmount, E> {
        Ok(RawAmount(number.to_string()))
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<RawAmount, E> {
        Ok(RawAmount(number.to_string()))
    }
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<RawAmount, E> {
        Ok(RawAmount(number.to_string()))
    }
}

impl<'de> Deserialize<'de> for RawAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Amounts)
    }
}

impl JsonSchema for RawAmount {
    fn schema_name() -> Cow<'static, str> {
        "amount".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A number with or without a unit: 10, 2.5, 10%, 50ms, 10mbit", "type": ["string", "number"] })
    }
}

/// Parameter of a fault: one constant value for the whole duration of the fault, or a ramp of successive values.
#[derive(Debug, Clone)]
pub enum RawRamped {
    Constant(String),
    Ramp(RawRamp),
}

/// Change from one value to another in steps.
#[derive(Debug, Clone, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ramp")]
pub struct RawRamp {
    /// First value.
    pub from: RawAmount,
    /// Last value.
    pub to: RawAmount,
    /// Number of values, including the first and the last [default: 10].
    pub steps: Option<u32>,
    /// Time from the first value to the last value.
    pub over: RawDuration,
}

impl<'de> Deserialize<'de> for RawRamped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AmountOrMap;
        impl<'de> Visitor<'de> for AmountOrMap {
            type Value = RawRamped;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount, or a map with `from`, `to` and `over`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawRamped, E> {
                Amounts.visit_str(text).map(|amount| RawRamped::Constant(amount.0))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<RawRamped, E> {
                Amounts.visit_u64(number).map(|amount| RawRamped::Constant(amount.0))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<RawRamped, E> {
                Amounts.visit_i64(number).map(|amount| RawRamped::Constant(amount.0))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<RawRamped, E> {
                Amounts.visit_f64(number).map(|amount| RawRamped::Constant(amount.0))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawRamped, A::Error> {
                RawRamp::deserialize(MapAccessDeserializer::new(map)).map(RawRamped::Ramp)
            }
        }
        deserializer.deserialize_any(AmountOrMap)
    }
}

impl JsonSchema for RawRamped {
    fn schema_name() -> Cow<'static, str> {
        "ramped".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (amount, ramp) = (generator.subschema_for::<RawAmount>(), generator.subschema_for::<RawRamp>());
        json_schema!({ "anyOf": [amount, ramp] })
    }
}

/// Value that is written either as a single word or as a complete map.
#[derive(Debug, Clone)]
pub enum Short<T> {
    Word(String),
    Full(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Short<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMap<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for WordOrMap<T> {
            type Value = Short<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a map")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Short<T>, E> {
                Ok(Short::Word(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Short<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Short::Full)
            }
        }
        deserializer.deserialize_any(WordOrMap(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Short<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrWord", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let full = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "type": "string" }, full] })
    }
}

/// List that may be written as a single item without brackets.
#[derive(Debug, Clone)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemOrList<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ItemOrList<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a list")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany<T>, E> {
                let word: StrDeserializer<'_, E> = text.into_deserializer();
                T::deserialize(word).map(|item| OneOrMany(vec![item]))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrMany<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|item| OneOrMany(vec![item]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(OneOrMany(items))
            }
        }
        deserializer.deserialize_any(ItemOrList(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrList", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [item, { "type": "array", "items": item }] })
    }
}
