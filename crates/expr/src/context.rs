//! Evaluation context of an expression: the values of all names, and the functions that the expression may call.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use minijinja::value::Serde;
use serde::Serialize;

use super::Value;

type Callable = dyn Fn(&[Value]) -> Result<Value, String> + Send + Sync;

/// Function that an expression can call.
#[derive(Clone)]
pub(super) struct ContextFunction(Arc<Callable>);

impl fmt::Debug for ContextFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function")
    }
}

impl ContextFunction {
    pub(super) fn call(&self, arguments: &[Value]) -> Result<Value, String> {
        (self.0)(arguments)
    }
}

/// Names with their values. Clones share the values, so cloning and extending a context is cheap.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Map whose keys are further names. An entry of `names` takes precedence over a key of this map.
    fields: Option<Value>,
    names: Vec<(Cow<'static, str>, Value)>,
    functions: Vec<(Cow<'static, str>, ContextFunction)>,
}

impl Context {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a context in which every field of a struct or map is a name.
    #[must_use]
    pub fn from_fields(fields: &impl Serialize) -> Self {
        Self { fields: Some(Value::from(Serde(fields))), ..Self::default() }
    }

    /// Adds the name, or replaces its value.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Serialize) -> Self {
        self.set(name, Value::from(Serde(value)));
        self
    }

    /// Adds the name, or replaces its value. Unlike [`Context::with`], the value is already converted and may be marked as unknown.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: Value) {
        let name = name.into();
        match self.names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.names.push((name, value)),
        }
    }

    /// Adds a function. If the function returns an error, the result of the call is unknown, with this error as the reason.
    #[must_use]
    pub fn with_function(
        mut self,
        name: impl Into<Cow<'static, str>>,
        function: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        self.functions.retain(|(known, _)| *known != name);
        self.functions.push((name, ContextFunction(Arc::new(function))));
        self
    }

    /// Returns the value of the name. Returns `None` if the context has no such name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value> {
        let named = self.names.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        named.or_else(|| self.fields.as_ref()?.get_attr(name).ok().filter(|value| !value.is_undefined()))
    }

    pub(super) fn function(&self, name: &str) -> Option<&ContextFunction> {
        self.functions.iter().find(|(known, _)| known == name).map(|(_, function)| function)
    }
}
