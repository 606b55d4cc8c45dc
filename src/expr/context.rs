//! What an expression is evaluated against.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use minijinja::value::Serde;
use serde::Serialize;

use super::Value;

type Callable = dyn Fn(&[Value]) -> Result<Value, String> + Send + Sync;

/// A function of the context.
#[derive(Clone)]
pub(super) struct Function(Arc<Callable>);

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function")
    }
}

impl Function {
    pub(super) fn call(&self, arguments: &[Value]) -> Result<Value, String> {
        (self.0)(arguments)
    }
}

/// Names with their values. Cheap to clone and to extend: values are shared.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// A map: what is not among `names` is looked for here.
    fields: Option<Value>,
    names: Vec<(Cow<'static, str>, Value)>,
    functions: Vec<(Cow<'static, str>, Function)>,
}

impl Context {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every field of a struct or map becomes a name.
    #[must_use]
    pub fn from_fields(fields: &impl Serialize) -> Self {
        Self { fields: Some(Value::from(Serde(fields))), ..Self::default() }
    }

    /// Adds a name, or replaces it.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Serialize) -> Self {
        self.set(name, Value::from(Serde(value)));
        self
    }

    /// As [`Context::with`], for values that are there already and for those that can be unknown.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: Value) {
        let name = name.into();
        match self.names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.names.push((name, value)),
        }
    }

    /// Adds a function. What it refuses is unknown, with the reason it gives.
    #[must_use]
    pub fn with_function(
        mut self,
        name: impl Into<Cow<'static, str>>,
        function: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        self.functions.retain(|(known, _)| *known != name);
        self.functions.push((name, Function(Arc::new(function))));
        self
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value> {
        let named = self.names.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        named.or_else(|| self.fields.as_ref()?.get_attr(name).ok().filter(|value| !value.is_undefined()))
    }

    pub(super) fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|(known, _)| known == name).map(|(_, function)| function)
    }
}
