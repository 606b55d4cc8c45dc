//! Values that people write in more than one way.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

/// An expression, a template or a plain word. Whole numbers and truth values are taken as they are written;
/// `1.10` is not, for it would silently become `1.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

/// `500ms`, `2s`, `1m 30s`.
#[derive(Debug, Clone)]
pub struct RawDuration(pub String);

/// `512MiB`, `1GB`, or a number of bytes.
#[derive(Debug, Clone)]
pub struct RawSize(pub String);

/// `200k`, `1M`, or a whole number.
#[derive(Debug, Clone)]
pub struct RawCount(pub String);

/// How many: `2`, `50%` or `all`.
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
text_like!(RawPick, "a number, a percentage such as `50%`, or `all`", numbers: true, schema: {
    "description": "How many: 2, 50% or all",
    "type": ["string", "integer"],
    "pattern": r"^([0-9]+|[0-9]+(\.[0-9]+)?%|all)$"
});

/// A single word, or the whole map.
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

/// One item, or a list of them.
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
