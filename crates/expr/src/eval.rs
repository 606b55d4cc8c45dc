//! Evaluation of a syntax tree. Each node evaluates to a value, or to *unknown* with a reason and a place.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use minijinja::value::ValueKind;
use minijinja::{Environment, State};

use super::arithmetic::arithmetic;
use super::ast::{CallArguments, ComparisonOperator, ExprNode, NodeKind};
use super::compare::compare;
use super::context::Context;
use super::scope::closest;
use super::value::{is_list, is_map, show, type_name};
use super::{Unknown, UnknownReason, Value, units, unknown_of};

pub(super) type KnownNames<T> = Result<T, Box<Unknown>>;

/// Maximum number of nodes and items that one evaluation may process. The limit ensures that an expression cannot block the monitor.
const FUEL: u32 = 200_000;
/// Maximum length of the list that `range()` returns.
const LONGEST_RANGE: i64 = 10_000;

/// State of the evaluation of one expression or template.
pub(super) struct Evaluation<'a> {
    pub(super) text: &'a str,
    context: &'a Context,
    /// Names that the template binds itself, for example by a loop, with their values. The innermost name is last.
    pub(super) locals: Vec<(Arc<str>, Value)>,
    steps: u32,
    /// State that minijinja's filters need. It is created when the first of these filters is used.
    state: Option<State<'static, 'static>>,
}

/// Returns the minijinja environment that provides minijinja's own filters. The environment is created once per process.
fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(Environment::new)
}

impl<'a> Evaluation<'a> {
    pub(super) const fn new(text: &'a str, context: &'a Context) -> Self {
        Self { text, context, locals: Vec::new(), steps: 0, state: None }
    }

    pub(super) fn written(&self, range: &Range<usize>) -> &'a str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// Returns the text of one side of a comparison, in parentheses if they are necessary.
    pub(super) fn operand(&self, node: &ExprNode) -> String {
        let written = self.written(&node.range);
        match node.kind {
            NodeKind::And(..) | NodeKind::Or(..) | NodeKind::Not(_) | NodeKind::Compare { .. } | NodeKind::If { .. }
                if !written.starts_with('(') =>
            {
                format!("({written})")
            }
            _ => written.to_owned(),
        }
    }

    /// Counts one step of the evaluation. Returns an unknown result if the evaluation exceeds [`FUEL`] steps.
    pub(super) fn step(&mut self, range: &Range<usize>) -> KnownNames<()> {
        self.steps += 1;
        if self.steps > FUEL {
            return Err(Unknown::at(
                UnknownReason::Failed,
                range,
                format!("stopped after {FUEL} steps: the expression processes too many items"),
            ));
        }
        Ok(())
    }

    /// Evaluates a node as a condition. The result is unknown if the value is neither true nor false.
    pub(super) fn condition(&mut self, node: &ExprNode) -> KnownNames<bool> {
        let value = self.value(node)?;
        match value.kind() {
            ValueKind::Bool => Ok(value.is_true()),
            ValueKind::None | ValueKind::Undefined => {
                Err(Unknown::at(UnknownReason::Null, &node.range, format!("`{}` is null", self.written(&node.range))))
            }
            _ => {
                let written = self.written(&node.range);
                let words = format!("`{written}` is {}, a condition needs true or false", type_name(&value));
                Err(Unknown::at(UnknownReason::Types, &node.range, words))
            }
        }
    }

    /// Evaluates a node. Null is a valid result. An operation on null gives an unknown result.
    pub(super) fn value(&mut self, node: &ExprNode) -> KnownNames<Value> {
        self.step(&node.range)?;
        match &node.kind {
            NodeKind::Const(value) => Ok(value.clone()),
            NodeKind::Name(name) => self.name(name, &node.range),
            NodeKind::Attr { of, name } => {
                let value = self.value(of)?;
                self.attr(&value, name, &of.range, &node.range)
            }
            NodeKind::Item { of, at } => {
                let value = self.value(of)?;
                let key = self.value(at)?;
                self.item(&value, &key, &of.range, &node.range)
            }
            NodeKind::Slice { of, start, stop } => {
                let value = self.value(of)?;
                let start = start.as_ref().map(|start| self.index(start)).transpose()?;
                let stop = stop.as_ref().map(|stop| self.index(stop)).transpose()?;
                self.slice(&value, start, stop, &node.range)
            }
            NodeKind::Not(inner) => self.condition(inner).map(|truth| Value::from(!truth)),
            NodeKind::And(left, right) => self.both(left, right, false),
            NodeKind::Or(left, right) => self.both(left, right, true),
            NodeKind::Neg(inner) => {
                let value = self.value(inner)?;
                arithmetic(super::ast::ArithmeticOperation::Sub, &Value::from(0), &value, &node.range, self.written(&node.range))
            }
            NodeKind::Compare { first, rest } => self.compare(first, rest),
            NodeKind::Arithmetic { operation, left, right } => {
                let left = self.value(left)?;
                let right = self.value(right)?;
                arithmetic(*operation, &left, &right, &node.range, self.written(&node.range))
            }
            NodeKind::If { condition, then, otherwise } => match (self.condition(condition)?, otherwise) {
                (true, _) => self.value(then),
                (false, Some(otherwise)) => self.value(otherwise),
                (false, None) => Ok(Value::from(())),
            },
            NodeKind::Filter { of, name, arguments } => {
                let value = self.value(of);
                let arguments = self.arguments(arguments)?;
                self.filter(name, value, &arguments, &node.range)
            }
            NodeKind::Test { of, name, arguments } => {
                let value = self.value(of);
                let arguments = self.arguments(arguments)?;
                self.test(name, value, &arguments.positional, &node.range).map(Value::from)
            }
            NodeKind::Call { name, arguments } => {
                let arguments = self.arguments(arguments)?;
                self.call(name, &arguments, &node.range)
            }
            NodeKind::List(items) => Ok(items.iter().map(|item| self.marked(item)).collect::<Vec<_>>().into()),
            NodeKind::Map(pairs) => {
                let mut entries = Vec::with_capacity(pairs.len());
                for (key, value) in pairs {
                    let key = self.value(key)?;
                    entries.push((key, self.marked(value)));
                }
                Ok(entries.into_iter().collect::<Value>())
            }
        }
    }

    /// Evaluates a node. An unknown result becomes a value that is marked as unknown, so that a list can contain it without being unknown
    /// itself.
    fn marked(&mut self, node: &ExprNode) -> Value {
        self.value(node).unwrap_or_else(|unknown| Value::from(*unknown))
    }

    /// Evaluates `and` (`decisive` is false) or `or` (`decisive` is true). If one side equals `decisive`, this is the result, even if the
    /// other side is unknown.
    fn both(&mut self, left: &ExprNode, right: &ExprNode, decisive: bool) -> KnownNames<Value> {
        let left = self.condition(left);
        if left.as_ref().is_ok_and(|truth| *truth == decisive) {
            return left.map(Value::from);
        }
        let right = self.condition(right);
        match (left, right) {
            (_, Ok(truth)) if truth == decisive => Ok(Value::from(decisive)),
            (Err(unknown), _) | (Ok(_), Err(unknown)) => Err(unknown),
            (Ok(_), Ok(_)) => Ok(Value::from(!decisive)),
        }
    }

    fn compare(&mut self, first: &ExprNode, rest: &[(ComparisonOperator, ExprNode)]) -> KnownNames<Value> {
        let mut left_node = first;
        let mut left = self.value(first);
        let mut unknown = None;
        for (op, right_node) in rest {
            let right = self.value(right_node);
            match (&left, &right) {
                (Ok(a), Ok(b)) => match compare(*op, a, b) {
                    Ok(true) => {}
                    Ok(false) => return Ok(Value::from(false)),
                    Err(mismatch) => {
                        let (wrote_a, wrote_b) = (self.operand(left_node), self.operand(right_node));
                        let range = left_node.range.start..right_node.range.end;
                        let why = match mismatch {
                            super::compare::IncomparableValues::LeftNull | super::compare::IncomparableValues::RightNull => {
                                UnknownReason::Null
                            }
                            super::compare::IncomparableValues::Unknown(ref inner) => inner.why,
                            _ => UnknownReason::Types,
                        };
                        let reason = mismatch.reason(*op, (&wrote_a, a), (&wrote_b, b));
                        unknown.get_or_insert_with(|| Unknown::at(why, &range, reason));
                    }
                },
                (Err(error), _) | (_, Err(error)) => {
                    unknown.get_or_insert_with(|| error.clone());
                }
            }
            left_node = right_node;
            left = right;
        }
        unknown.map_or_else(|| Ok(Value::from(true)), Err)
    }

    // ------------------------------------------------------------ names and fields

    fn name(&self, name: &str, range: &Range<usize>) -> KnownNames<Value> {
        let local = self.locals.iter().rev().find(|(local, _)| &**local == name).map(|(_, value)| value.clone());
        match local.or_else(|| self.context.get(name)) {
            Some(value) => known(value, range),
            None => Err(Unknown::at(UnknownReason::Absent, range, format!("`{name}` has no value here"))),
        }
    }

    /// Returns the field `name` of `value`. `of` is the range of the expression before the dot, and `range` is the range of the whole
    /// access.
    pub(super) fn attr(&self, value: &Value, name: &str, of: &Range<usize>, range: &Range<usize>) -> KnownNames<Value> {
        if (is_map(value) || value.kind() == ValueKind::Plain)
            && let Ok(found) = value.get_attr(name)
            && !found.is_undefined()
        {
            return known(found, range);
        }
        Err(Box::new(Unknown { range: range.clone(), ..missing(value, name, self.written(of)) }))
    }

    fn item(&self, value: &Value, key: &Value, of: &Range<usize>, range: &Range<usize>) -> KnownNames<Value> {
        if let Some(name) = key.as_str() {
            return self.attr(value, name, of, range);
        }
        let written = self.written(of);
        if let (true, Some(index)) = (is_list(value), key.as_i64()) {
            let length = value.len().unwrap_or_default();
            let place = usize::try_from(index).ok().or_else(|| length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?));
            let found = place.and_then(|place| value.get_item_by_index(place).ok()).filter(|found| !found.is_undefined());
            return match found {
                Some(found) => known(found, range),
                None => Err(Unknown::at(UnknownReason::Absent, range, format!("`{written}` has {length} items, no item {index}"))),
            };
        }
        // JSON keys are text: `stats.store_leader_count[store.id]`.
        if is_map(value) && key.is_integer() {
            return self.attr(value, &key.to_string(), of, range);
        }
        if value.is_none() || key.is_none() {
            return Err(Unknown::at(
                UnknownReason::Null,
                range,
                format!("`{}` is null", if value.is_none() { written } else { "the index" }),
            ));
        }
        let words = format!("`{written}` is {}, it has no item `{}`", type_name(value), show(key));
        Err(Unknown::at(UnknownReason::Types, range, words))
    }

    /// Returns a nested field by its dotted path, such as `store.state_name` in `selectattr('store.state_name', ...)`.
    pub(super) fn path(item: &Value, path: &str, range: &Range<usize>) -> KnownNames<Value> {
        let mut value = known(item.clone(), range)?;
        let mut owner = "the item";
        for name in path.split('.') {
            let next = match name.parse::<usize>() {
                Ok(index) if is_list(&value) => value.get_item_by_index(index).ok(),
                _ => value.get_attr(name).ok(),
            };
            match next.filter(|next| !next.is_undefined()) {
                Some(next) => value = known(next, range)?,
                None => return Err(Box::new(Unknown { range: range.clone(), ..missing(&value, name, owner) })),
            }
            owner = name;
        }
        Ok(value)
    }

    fn index(&mut self, node: &ExprNode) -> KnownNames<i64> {
        let value = self.value(node)?;
        value.as_i64().ok_or_else(|| {
            Unknown::at(
                UnknownReason::Types,
                &node.range,
                format!("`{}` is {}, expected a whole number", self.written(&node.range), type_name(&value)),
            )
        })
    }

    fn slice(&self, value: &Value, start: Option<i64>, stop: Option<i64>, range: &Range<usize>) -> KnownNames<Value> {
        let length = value.len().and_then(|length| i64::try_from(length).ok()).unwrap_or_default();
        let clamp = |index: i64| usize::try_from(if index < 0 { index + length } else { index }.clamp(0, length)).unwrap_or_default();
        let (start, stop) = (clamp(start.unwrap_or(0)), clamp(stop.unwrap_or(length)));
        let count = stop.saturating_sub(start);
        if let Some(text) = value.as_str() {
            return Ok(Value::from(text.chars().skip(start).take(count).collect::<String>()));
        }
        if !is_list(value) {
            let words = format!("`{}` slices {}, expected a list or text", self.written(range), type_name(value));
            return Err(Unknown::at(UnknownReason::Types, range, words));
        }
        Ok(value.try_iter().into_iter().flatten().skip(start).take(count).collect::<Vec<_>>().into())
    }

    // ------------------------------------------------------------ calls

    fn arguments(&mut self, arguments: &CallArguments) -> KnownNames<GivenArguments> {
        let positional = arguments.positional.iter().map(|node| self.value(node)).collect::<KnownNames<_>>()?;
        let named = arguments.named.iter().map(|(name, node)| Ok((name.clone(), self.value(node)?))).collect::<KnownNames<_>>()?;
        Ok(GivenArguments { positional, named })
    }

    fn call(&self, name: &str, given: &GivenArguments, range: &Range<usize>) -> KnownNames<Value> {
        let failed = |words: String| Unknown::at(UnknownReason::Failed, range, words);
        let quantity = |parse: fn(&str) -> Option<f64>, what: &str| {
            let text = given.positional.first().and_then(Value::as_str);
            let found = text.and_then(parse);
            found.map(whole_if_it_is).ok_or_else(|| failed(format!("`{}` is not a {what}", self.written(range))))
        };
        match name {
            "dur" => quantity(units::seconds, "duration"),
            "size" => quantity(units::bytes, "size"),
            "range" => {
                let bounds: Option<Vec<i64>> = given.positional.iter().map(Value::as_i64).collect();
                let (start, stop) = match bounds.as_deref() {
                    Some([stop]) => (0, *stop),
                    Some([start, stop]) => (*start, *stop),
                    _ => return Err(failed("`range` takes one or two whole numbers".into())),
                };
                if stop.saturating_sub(start) > LONGEST_RANGE {
                    return Err(failed(format!("`range` gives at most {LONGEST_RANGE} numbers")));
                }
                Ok((start..stop).map(Value::from).collect::<Vec<_>>().into())
            }
            _ => match self.context.function(name) {
                Some(function) => function.call(&given.positional).map_err(failed).and_then(|value| known(value, range)),
                None => Err(failed(format!("unknown function `{name}`"))),
            },
        }
    }

    /// Applies one of the filters that minijinja implements.
    pub(super) fn plain_filter(&mut self, name: &str, value: Value, given: &GivenArguments, range: &Range<usize>) -> KnownNames<Value> {
        let mut arguments = vec![value];
        arguments.extend(given.positional.iter().cloned());
        if !given.named.is_empty() {
            let named = given.named.iter().map(|(name, value)| (name.to_string(), value.clone()));
            arguments.push(Value::from(named.collect::<minijinja::value::Kwargs>()));
        }
        let state = self.state.get_or_insert_with(|| environment().empty_state());
        state.apply_filter(name, &arguments).map_err(|error| {
            let detail = error.detail().map_or_else(|| error.to_string(), str::to_owned);
            Unknown::at(UnknownReason::Failed, range, format!("`{}`: {detail}", self.text.get(range.clone()).unwrap_or_default()))
        })
    }
}

/// Arguments of a filter, test or function, after their evaluation.
#[derive(Debug, Default)]
pub(super) struct GivenArguments {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Arc<str>, Value)>,
}

impl GivenArguments {
    pub(super) fn named(&self, name: &str) -> Option<&Value> {
        self.named.iter().find(|(known, _)| &**known == name).map(|(_, value)| value)
    }
}

/// Returns the value if it is known. If the value is marked as unknown, returns an error with the reason of the unknown value and the place
/// `range`.
pub(super) fn known(value: Value, range: &Range<usize>) -> KnownNames<Value> {
    match unknown_of(&value) {
        Some(unknown) => Err(Unknown::at(unknown.why, range, unknown.reason.clone())),
        None => Ok(value),
    }
}

/// Converts a whole number to an integer value, and any other number to a float value. Results are compared and printed, and `dur('2s')`
/// must be 2, not 2.0.
pub(super) fn whole_if_it_is(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    if number.fract() == 0.0 && number.abs() < 9e15 { Value::from(number as i64) } else { Value::from(number) }
}

fn missing(value: &Value, name: &str, owner: &str) -> Unknown {
    if value.is_none() || value.is_undefined() {
        return Unknown::new(UnknownReason::Null, format!("`{owner}` is null, so it has no `{name}`"));
    }
    if !is_map(value) && value.kind() != ValueKind::Plain {
        return Unknown::new(UnknownReason::Absent, format!("`{owner}` is {}, it has no field `{name}`", type_name(value)));
    }
    let keys: Vec<String> = value.try_iter().into_iter().flatten().filter_map(|key| key.as_str().map(str::to_owned)).collect();
    let mut reason = format!("`{owner}` has no field `{name}`");
    if let Some(near) = closest(name, keys.iter().map(String::as_str)) {
        reason = format!("{reason}, did you mean `{near}`?");
    } else if !keys.is_empty() && keys.len() <= 8 {
        reason = format!("{reason}, only {}", keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "));
    }
    Unknown::new(UnknownReason::Absent, reason)
}
