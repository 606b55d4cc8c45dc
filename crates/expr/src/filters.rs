//! Filters that this crate implements. Some of them handle unknown items, and the others are strict versions of minijinja's filters.

use std::ops::Range;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::ast::ComparisonOperator;
use super::compare::{compare, equal, number};
use super::eval::{Evaluation, GivenArguments, KnownNames, known, whole_if_it_is};
use super::value::{is_list, is_map, show, text_of, to_json, type_name, unknown_item};
use super::{Unknown, UnknownReason, Value, units, unknown_of};

impl Evaluation<'_> {
    pub(super) fn filter(
        &mut self,
        name: &str,
        value: KnownNames<Value>,
        given: &GivenArguments,
        range: &Range<usize>,
    ) -> KnownNames<Value> {
        if matches!(name, "default" | "d") {
            // A default replaces a value that the response omits, never a response that did not arrive.
            return match value {
                Ok(value) if !value.is_none() => Ok(value),
                Err(unknown) if !matches!(unknown.why, UnknownReason::Absent | UnknownReason::Null) => Err(unknown),
                _ => Ok(given.positional.first().cloned().unwrap_or_else(|| Value::from(""))),
            };
        }
        let value = value?;
        if value.is_none() {
            return Err(Unknown::at(UnknownReason::Null, range, format!("`{}` filters null", self.written(range))));
        }
        match name {
            "length" | "count" => match value.len() {
                Some(length) => Ok(Value::from(length)),
                None if is_list(&value) => Ok(Value::from(value.try_iter().into_iter().flatten().count())),
                None => Err(self.wrong(range, &value, "a list, an object or text")),
            },
            "first" | "last" => {
                let items = self.items(&value, range)?;
                let found = if name == "first" { items.first() } else { items.last() };
                match found {
                    Some(found) => known(found.clone(), range),
                    None => Err(Unknown::at(UnknownReason::Null, range, format!("`{}`: the list is empty", self.written(range)))),
                }
            }
            "all" | "any" => self.all_or_any(name == "any", &value, given, range),
            "select" | "reject" | "selectattr" | "rejectattr" => self.select(name, &value, given, range),
            "map" => self.map(&value, given, range),
            "min" | "max" | "sum" => self.fold(name, &value, given, range),
            "majority" => self.majority(&value, given, range),
            "seconds" | "bytes" => self.quantity(name, &value, range),
            "int" | "float" => self.to_number(name, &value, range),
            "join" => self.join(&value, given, range),
            "string" => Ok(Value::from(text_of(&value))),
            "tojson" => {
                let json = to_json(&value).map_err(|unknown| Box::new(Unknown { range: range.clone(), ..unknown }))?;
                Ok(Value::from(json.to_string()))
            }
            "urlencode" => match value.as_str() {
                Some(text) => Ok(Value::from(percent_encode(text))),
                None if number(&value).is_some() => Ok(Value::from(percent_encode(&value.to_string()))),
                None => Err(self.wrong(range, &value, "text")),
            },
            "b64encode" | "b64decode" => match value.as_str() {
                Some(text) if name == "b64encode" => Ok(Value::from(BASE64_STANDARD.encode(text))),
                Some(text) => {
                    let bytes = BASE64_STANDARD.decode(text).ok().map(String::from_utf8);
                    let decoded = bytes.and_then(Result::ok).ok_or_else(|| self.wrong(range, &value, "the base64 form of a text"));
                    decoded.map(Value::from)
                }
                None if name == "b64encode" && number(&value).is_some() => Ok(Value::from(BASE64_STANDARD.encode(value.to_string()))),
                None => Err(self.wrong(range, &value, "text")),
            },
            _ => {
                if let Some(unknown) = unknown_item(&value) {
                    return Err(Unknown::at(unknown.why, range, unknown.reason));
                }
                self.plain_filter(name, value, given, range)
            }
        }
    }

    #[expect(clippy::unnecessary_box_returns, reason = "it is the error of `Known`")]
    fn wrong(&self, range: &Range<usize>, value: &Value, expected: &str) -> Box<Unknown> {
        let words = format!("`{}` is applied to {}, expected {expected}", self.written(range), type_name(value));
        Unknown::at(UnknownReason::Types, range, words)
    }

    /// Returns the items of a list, or the keys of a map. Counts one step of the evaluation per item.
    pub(super) fn items(&mut self, value: &Value, range: &Range<usize>) -> KnownNames<Vec<Value>> {
        if !is_list(value) && !is_map(value) {
            return Err(self.wrong(range, value, "a list"));
        }
        let mut items = Vec::with_capacity(value.len().unwrap_or_default());
        for item in value.try_iter().into_iter().flatten() {
            self.step(range)?;
            items.push(item);
        }
        Ok(items)
    }

    /// Tests one item of a list for a filter such as `all`, `all('ok')` or `all('state', 'eq', 'Up')`.
    fn verdict(&mut self, item: &Value, given: &GivenArguments, range: &Range<usize>) -> KnownNames<bool> {
        let value = match given.positional.first() {
            None => known(item.clone(), range),
            Some(path) => Self::path(item, &attribute(path), range),
        };
        match given.positional.get(1).and_then(Value::as_str) {
            Some(test) => {
                let test = test.to_owned();
                self.test(&test, value, given.positional.get(2..).unwrap_or_default(), range)
            }
            None => self.truth(&value?, range),
        }
    }

    fn truth(&self, value: &Value, range: &Range<usize>) -> KnownNames<bool> {
        if value.is_none() {
            return Err(Unknown::at(
                UnknownReason::Null,
                range,
                format!("`{}` finds null, a condition needs true or false", self.written(range)),
            ));
        }
        bool::try_from(value.clone()).ok().filter(|_| value.kind() == minijinja::value::ValueKind::Bool).ok_or_else(|| {
            let words = format!("`{}` finds {}, a condition needs true or false", self.written(range), type_name(value));
            Unknown::at(UnknownReason::Types, range, words)
        })
    }

    fn all_or_any(&mut self, decisive: bool, value: &Value, given: &GivenArguments, range: &Range<usize>) -> KnownNames<Value> {
        let mut unknown = None;
        for item in self.items(value, range)? {
            match self.verdict(&item, given, range) {
                Ok(truth) if truth == decisive => return Ok(Value::from(decisive)),
                Ok(_) => {}
                Err(problem) => unknown = unknown.or(Some(problem)),
            }
        }
        unknown.map_or_else(|| Ok(Value::from(!decisive)), Err)
    }

    /// Evaluates `select`, `reject` and similar filters on a list. If the test result of one item is unknown, the whole selection is
    /// unknown.
    fn select(&mut self, name: &str, value: &Value, given: &GivenArguments, range: &Range<usize>) -> KnownNames<Value> {
        let keep = name.starts_with("select");
        let by_attribute = name.ends_with("attr");
        let mut kept = Vec::new();
        for item in self.items(value, range)? {
            let verdict = if by_attribute {
                self.verdict(&item, given, range)
            } else {
                let item = known(item.clone(), range);
                match given.positional.first().and_then(Value::as_str) {
                    Some(test) => {
                        let test = test.to_owned();
                        self.test(&test, item, given.positional.get(1..).unwrap_or_default(), range)
                    }
                    None => item.and_then(|item| self.truth(&item, range)),
                }
            };
            if verdict? == keep {
                kept.push(item);
            }
        }
        Ok(kept.into())
    }

    /// Evaluates `map`, such as `map(attribute='json.leader.name', default='none')` or `map('upper')`. Unknown items of the list stay
    /// unknown.
    fn map(&mut self, value: &Value, given: &GivenArguments, range: &Range<usize>) -> KnownNames<Value> {
        let mut mapped = Vec::new();
        for item in self.items(value, range)? {
            let result = if let Some(path) = given.named("attribute") {
                match (Self::path(&item, &attribute(path), range), given.named("default")) {
                    (Err(unknown), Some(default)) if matches!(unknown.why, UnknownReason::Absent | UnknownReason::Null) => {
                        Ok(default.clone())
                    }
                    (result, _) => result,
                }
            } else if let Some(filter) = given.positional.first().and_then(Value::as_str) {
                let filter = filter.to_owned();
                let rest =
                    GivenArguments { positional: given.positional.get(1..).unwrap_or_default().to_vec(), named: given.named.clone() };
                self.filter(&filter, known(item, range), &rest, range)
            } else {
                return Err(Unknown::at(UnknownReason::Failed, range, "`map` needs `attribute='...'` or a filter"));
            };
            mapped.push(result.unwrap_or_else(|unknown| Value::from(*unknown)));
        }
        Ok(mapped.into())
    }

    fn fold(&mut self, name: &str, value: &Value, given: &GivenArguments, range: &Range<usize>) -> KnownNames<Value> {
        let mut best: Option<Value> = None;
        for item in self.items(value, range)? {
            let item = match given.named("attribute") {
                Some(path) => Self::path(&item, &attribute(path), range)?,
                None => known(item, range)?,
            };
            if number(&item).is_none() {
                let words = format!("`{}` finds {}, expected numbers", self.written(range), type_name(&item));
                return Err(Unknown::at(if item.is_none() { UnknownReason::Null } else { UnknownReason::Types }, range, words));
            }
            best = Some(match best {
                None => item,
                Some(so_far) if name == "sum" => {
                    super::arithmetic::arithmetic(super::ast::ArithmeticOperation::Add, &so_far, &item, range, self.written(range))?
                }
                Some(so_far) => {
                    let op = if name == "min" { ComparisonOperator::Lt } else { ComparisonOperator::Gt };
                    if compare(op, &item, &so_far).unwrap_or(false) { item } else { so_far }
                }
            });
        }
        match best {
            Some(best) => Ok(best),
            None if name == "sum" => Ok(Value::from(0)),
            None => Err(Unknown::at(UnknownReason::Null, range, format!("`{}`: the list is empty", self.written(range)))),
        }
    }

    /// Evaluates `majority`: returns the value of more than half of `of` members. By default, `of` is the length of the list. Unknown and
    /// null items count against every value, because a single node's answer is not reliable.
    fn majority(&mut self, value: &Value, given: &GivenArguments, range: &Range<usize>) -> KnownNames<Value> {
        let items = self.items(value, range)?;
        let of = match given.named("of").or_else(|| given.positional.first()) {
            Some(of) => {
                of.as_usize().ok_or_else(|| Unknown::at(UnknownReason::Types, range, "`majority` needs a whole number for `of`"))?
            }
            None => items.len(),
        };
        let mut camps: Vec<(Value, usize)> = Vec::new();
        for item in items.iter().filter(|item| unknown_of(item).is_none() && !item.is_none()) {
            match camps.iter_mut().find(|(camp, _)| equal(camp, item).unwrap_or(false)) {
                Some((_, count)) => *count += 1,
                None => camps.push((item.clone(), 1)),
            }
        }
        camps.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        match camps.first() {
            Some((camp, count)) if count * 2 > of => Ok(camp.clone()),
            Some((camp, count)) => {
                let words = format!("no majority: {count} of {of} say {}", show(camp));
                Err(Unknown::at(UnknownReason::Undecided, range, words))
            }
            None => Err(Unknown::at(UnknownReason::Undecided, range, format!("no majority: no answer from any of {of}"))),
        }
    }

    fn join(&mut self, value: &Value, given: &GivenArguments, range: &Range<usize>) -> KnownNames<Value> {
        let separator = given.positional.first().and_then(|separator| separator.as_str().map(str::to_owned)).unwrap_or_default();
        let mut joined = String::new();
        for (place, item) in self.items(value, range)?.into_iter().enumerate() {
            let item = match given.named("attribute") {
                Some(path) => Self::path(&item, &attribute(path), range)?,
                None => known(item, range)?,
            };
            if item.is_none() {
                return Err(Unknown::at(UnknownReason::Null, range, format!("`{}` joins null", self.written(range))));
            }
            if place > 0 {
                joined.push_str(&separator);
            }
            joined.push_str(&text_of(&item));
        }
        Ok(Value::from(joined))
    }

    fn quantity(&self, name: &str, value: &Value, range: &Range<usize>) -> KnownNames<Value> {
        if number(value).is_some() {
            return Ok(value.clone());
        }
        let Some(text) = value.as_str() else { return Err(self.wrong(range, value, "text or a number")) };
        let (found, what) = if name == "seconds" { (units::seconds(text), "a duration") } else { (units::bytes(text), "a size") };
        found
            .map(whole_if_it_is)
            .ok_or_else(|| Unknown::at(UnknownReason::Types, range, format!("`{}`: `{text}` is not {what}", self.written(range))))
    }

    fn to_number(&self, name: &str, value: &Value, range: &Range<usize>) -> KnownNames<Value> {
        let found = match value.as_str() {
            Some(text) => match text.trim().parse::<i64>() {
                Ok(whole) if name == "int" => return Ok(Value::from(whole)),
                _ => text.trim().parse::<f64>().ok().filter(|number| number.is_finite()),
            },
            None => number(value),
        };
        match found {
            Some(_) if name == "int" && value.is_integer() => Ok(value.clone()),
            Some(number) if name == "int" => Ok(whole_if_it_is(number.trunc())),
            Some(number) => Ok(Value::from(number)),
            None => Err(Unknown::at(UnknownReason::Types, range, format!("`{}`: `{}` is not a number", self.written(range), show(value)))),
        }
    }
}

fn attribute(path: &Value) -> String {
    path.as_str().map_or_else(|| path.to_string(), str::to_owned)
}

/// Percent-encodes all characters of the text except the unreserved characters of RFC 3986.
fn percent_encode(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
