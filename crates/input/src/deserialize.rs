//! Deserializer of JSON values. It tracks the path of the current value, and its errors name types in plain words.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Map, Number, Value};

use super::error::{Error, TypeMismatch};
use chaosrun_diagnostic::{PathStep, Pointer};

/// Deserializes a value into the type `T`. A list is never accepted in place of a map, although serde would accept it.
///
/// # Errors
/// Returns the first mismatch between the value and the type, with the pointer of the mismatch.
pub fn deserialize<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(At { value, path: &Path::Root })
}

/// Path from the root to the current value, as a linked list on the stack. A pointer is built from this path only for an error.
enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn pointer(&self) -> Pointer {
        let mut steps = Vec::new();
        let mut here = self;
        loop {
            here = match here {
                Path::Root => break,
                Path::Key(above, key) => {
                    steps.push(PathStep::Key((*key).to_owned()));
                    above
                }
                Path::Index(above, index) => {
                    steps.push(PathStep::Index(*index));
                    above
                }
            };
        }
        steps.reverse();
        Pointer(steps)
    }
}

/// JSON value that is being deserialized, and the path to this value.
#[derive(Clone, Copy)]
struct At<'p, 'de> {
    value: &'de Value,
    path: &'p Path<'p>,
}

impl<'de> At<'_, 'de> {
    /// Adds the pointer and the found value to an error that has no pointer yet. `expected`, if given, replaces the expected type in the
    /// error.
    fn located<T>(self, result: Result<T, Error>, expected: Option<&str>) -> Result<T, Error> {
        result.map_err(|error| self.locate(error, expected))
    }

    #[cold]
    fn locate(self, mut error: Error, expected: Option<&str>) -> Error {
        if error.at.is_none() {
            error.at = Some(self.path.pointer());
            if let TypeMismatch::WrongType { expected: words, found } = &mut error.mismatch {
                if let (Some(expected), None) = (expected, &found) {
                    expected.clone_into(words);
                }
                found.get_or_insert_with(|| words_of(self.value));
            }
        }
        error
    }

    /// Returns the error that the value does not have the type `expected`.
    fn wrong<T>(self, expected: &str) -> Result<T, Error> {
        Err(self.locate(Error::wrong_type(expected, None), None))
    }

    /// Passes a number to the visitor. `expected`, if given, replaces the name of the Rust type in an error.
    fn number<V: Visitor<'de>>(self, number: &Number, expected: Option<&str>, visitor: V) -> Result<V::Value, Error> {
        let visited = match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => visitor.visit_u64(number),
            (None, Some(number)) => visitor.visit_i64(number),
            (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
        };
        self.located(visited, expected)
    }
}

/// Describes the type and the content of a value in words, for error messages.
fn words_of(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => format!("number `{number}`"),
        Value::String(text) => {
            let quoted = format!("{text:?}");
            format!("text `{}`", &quoted[1..quoted.len() - 1])
        }
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}

macro_rules! numbers {
    ($($method:ident => $expected:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let Value::Number(number) = self.value else { return self.wrong($expected) };
            self.number(number, Some($expected), visitor)
        })*
    };
}

macro_rules! texts {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let Value::String(text) = self.value else { return self.wrong("text") };
            self.located(visitor.visit_borrowed_str(text), None)
        })*
    };
}

// Each method visits one type only: a derived visitor also has code for types that this format never passes to it.
impl<'de> Deserializer<'de> for At<'_, 'de> {
    type Error = Error;

    numbers! {
        deserialize_i8 => "a whole number";
        deserialize_i16 => "a whole number";
        deserialize_i32 => "a whole number";
        deserialize_i64 => "a whole number";
        deserialize_u8 => "a whole number";
        deserialize_u16 => "a whole number";
        deserialize_u32 => "a whole number";
        deserialize_u64 => "a whole number";
        deserialize_f32 => "a number";
        deserialize_f64 => "a number";
    }

    texts! { deserialize_char deserialize_str deserialize_string deserialize_identifier }

    forward_to_deserialize_any! { i128 u128 bytes byte_buf ignored_any }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => self.deserialize_unit(visitor),
            Value::Bool(_) => self.deserialize_bool(visitor),
            Value::Number(number) => self.number(number, None, visitor),
            Value::String(_) => self.deserialize_str(visitor),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Bool(value) = self.value else { return self.wrong("`true` or `false`") };
        self.located(visitor.visit_bool(*value), None)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Null = self.value else { return self.wrong("nothing") };
        self.located(visitor.visit_unit(), None)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Array(items) = self.value else { return self.wrong("a list") };
        self.located(visitor.visit_seq(Items { items: items.iter().enumerate(), path: self.path }), None)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Object(map) = self.value else { return self.wrong("a map") };
        self.located(visitor.visit_map(Entries { rest: map.iter(), next: None, path: self.path }), None)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.located(visitor.visit_newtype_struct(self), None)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        let only_entry = |map: &'de Map<String, Value>| map.iter().next().filter(|_| map.len() == 1);
        let chosen = match self.value {
            Value::String(name) => visitor.visit_enum(Chosen { name, content: None, path: self.path }),
            Value::Object(map) => match only_entry(map) {
                Some((name, content)) => visitor.visit_enum(Chosen { name, content: Some(content), path: self.path }),
                None => Err(Error::wrong_type("a map with a single key", None)),
            },
            _ => Err(Error::wrong_type("text or map", None)),
        };
        self.located(chosen, None)
    }
}

struct Items<'p, 'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
    path: &'p Path<'p>,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        let at = At { value, path: &Path::Index(self.path, index) };
        at.located(seed.deserialize(at), None).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'p, 'de> {
    rest: serde_json::map::Iter<'de>,
    next: Option<(&'de str, &'de Value)>,
    path: &'p Path<'p>,
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.next = self.rest.next().map(|(key, value)| (key.as_str(), value));
        self.next.map(|(key, _)| seed.deserialize(word(key))).transpose()
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (key, value) = self.next.take().unwrap_or(("", &Value::Null));
        let at = At { value, path: &Path::Key(self.path, key) };
        at.located(seed.deserialize(at), None)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

fn word(text: &str) -> StrDeserializer<'_, Error> {
    text.into_deserializer()
}

/// Enum variant that is being deserialized. The value is a word, or a map whose only key is the name of the variant.
struct Chosen<'p, 'de> {
    name: &'de str,
    content: Option<&'de Value>,
    path: &'p Path<'p>,
}

impl<'de> Chosen<'_, 'de> {
    fn content<T>(self, read: impl FnOnce(At<'_, 'de>) -> Result<T, Error>) -> Result<T, Error> {
        match self.content {
            Some(value) => read(At { value, path: &Path::Key(self.path, self.name) }),
            None => {
                let mut error = Error::wrong_type("a map", Some("a single word".to_owned()));
                error.at = Some(Path::Key(self.path, self.name).pointer());
                Err(error)
            }
        }
    }
}

impl<'de> EnumAccess<'de> for Chosen<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Error> {
        Ok((seed.deserialize(word(self.name))?, self))
    }
}

impl<'de> VariantAccess<'de> for Chosen<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        if self.content.is_none() { Ok(()) } else { self.content(|at| <()>::deserialize(at)) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.content(|at| at.located(seed.deserialize(at), None))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.content(|at| at.deserialize_seq(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.content(|at| at.deserialize_map(visitor))
    }
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        name: String,
        count: Option<u32>,
        #[serde(default)]
        inner: IndexMap<String, Vec<Inner>>,
        shape: Option<Shape>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        ratio: f64,
        on: bool,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Shape {
        Dot,
        Box(Inner),
    }

    /// Returns the pointer and the message of the first mismatch between the value and `Outer`.
    fn wrong(value: &Value) -> (String, String) {
        let error = deserialize::<Outer>(value).expect_err("refused");
        (error.at.clone().expect("a place").to_string(), Error { at: None, ..error }.to_string())
    }

    #[test]
    fn valid_values_are_deserialized() {
        let value = json!({ "name": "x", "count": 3, "inner": { "a": [{ "ratio": 1, "on": true }] }, "shape": { "box": { "ratio": 0.5, "on": false } } });
        let typed: Outer = deserialize(&value).expect("typed");
        assert_eq!((typed.count, typed.inner["a"][0].ratio), (Some(3), 1.0));
        assert_eq!(typed.shape, Some(Shape::Box(Inner { ratio: 0.5, on: false })));
        assert_eq!(deserialize::<Outer>(&json!({ "name": "x", "count": null, "shape": "dot" })).expect("typed").shape, Some(Shape::Dot));
    }

    #[test]
    fn mismatches_have_a_place_and_data() {
        let inner = |inner: Value| wrong(&json!({ "name": "x", "inner": { "a": [{ "ratio": 1, "on": true }, inner] } }));
        let told = |at: &str, what: &str| (at.to_owned(), what.to_owned());
        assert_eq!(inner(json!({ "ratio": 1 })), told("inner.a[1]", "`on` is missing"));
        assert_eq!(inner(json!({ "ratio": 1, "on": 0 })), told("inner.a[1].on", "expected `true` or `false`, found number `0`"));
        assert_eq!(inner(json!({ "ratio": "1", "on": true })), told("inner.a[1].ratio", "expected a number, found text `1`"));
        assert_eq!(inner(json!([1, true])), told("inner.a[1]", "expected a map, found a list"));
        assert_eq!(wrong(&json!({ "name": "x", "inner": [] })), told("inner", "expected a map, found a list"));
        assert_eq!(wrong(&json!({ "name": "x", "count": -1 })), told("count", "expected a whole number, found number `-1`"));
        assert_eq!(wrong(&json!({ "name": "x", "count": 1.5 })), told("count", "expected a whole number, found number `1.5`"));
        assert_eq!(wrong(&json!({ "name": null })), told("name", "expected text, found nothing"));
        assert_eq!(wrong(&json!([])), told("", "expected a map, found a list"));
    }

    #[test]
    fn unknown_names_come_with_the_known_ones() {
        let error = deserialize::<Outer>(&json!({ "nam": "x" })).expect_err("refused");
        assert_eq!(error.mismatch, TypeMismatch::UnknownField { name: "nam".into(), known: &["name", "count", "inner", "shape"] });
        let error = deserialize::<Outer>(&json!({ "name": "x", "shape": "bx" })).expect_err("refused");
        assert_eq!(error.mismatch, TypeMismatch::UnknownVariant { name: "bx".into(), known: &["dot", "box"] });
        assert_eq!(error.at, Some(Pointer::default().key("shape")));
    }

    #[test]
    fn variants_have_one_key_and_their_content() {
        let shape = |shape: Value| wrong(&json!({ "name": "x", "shape": shape }));
        let told = |at: &str, what: &str| (at.to_owned(), what.to_owned());
        assert_eq!(shape(json!("box")), told("shape.box", "expected a map, found a single word"));
        assert_eq!(shape(json!({ "dot": null, "box": null })), told("shape", "expected a map with a single key, found a map"));
        assert_eq!(shape(json!({ "dot": 3 })), told("shape.dot", "expected nothing, found number `3`"));
        assert_eq!(shape(json!({ "box": [0.5, true] })), told("shape.box", "expected a map, found a list"));
        assert_eq!(shape(json!(3)), told("shape", "expected text or map, found number `3`"));
    }
}
