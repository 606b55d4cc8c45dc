//! The expression language: minijinja's syntax, compiled at load, evaluated to a value or to *unknown*.
//!
//! minijinja parses; the tree is then evaluated here, because its own evaluation is wrong for judging a system: it says
//! that `null < 3` and `'931GiB' > 100` are true. Here three values hold (Kleene): what is absent, null, of a failed or
//! stale probe, or an ordered comparison of anything but two numbers is [`Unknown`], and unknown is never true.
//! Filters that do not care are minijinja's own.
//!
//! | written | means |
//! |---|---|
//! | `a.b`, `a['b']`, `a[0]` | unknown (*absent*) when it is not there |
//! | `==`, `!=` | of two values of one type; of unlike types, or of null, unknown |
//! | `<`, `<=`, `>`, `>=` | of two numbers; of anything else unknown |
//! | `and`, `or`, `not`, `if` | of true and false; `false and unknown` is false, `true or unknown` is true |
//! | `x is none`, `x is defined`, `x \| default(0)` | ask about null and absent values; a failed probe stays unknown |
//! | `list \| all`, `\| all('ok')`, `\| any('state', 'eq', 'Up')` | three-valued, as are `select`, `selectattr` and their opposites |
//! | `list \| majority(of=3)` | what more than half of `of` agree on, unknown without a majority |
//! | `x \| seconds`, `x \| bytes` | of `1h0m10.5s`, `1m 30s`; of `931.5GiB` |
//! | `dur('1s')`, `size('1MiB')` | quantities as numbers: seconds, bytes |
//!
//! What each place in a file may name is [`Scope`]'s table.

mod arithmetic;
mod ast;
mod compare;
mod context;
mod eval;
mod explain;
mod filters;
#[cfg(test)]
mod laws;
mod parse;
mod predicates;
mod scope;
mod template;
pub mod topology;
pub mod units;
mod value;

use std::sync::Arc;

use serde::{Serialize, Serializer};

pub use context::Context;
pub use minijinja::Value;
pub use scope::{Name, Scope};
pub use value::{Unknown, Why, is_list, is_map, of_serde, unavailable, unknown_of};

use crate::diagnostic::{Diagnostic, Place};

/// The outcome of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    /// With the reason.
    Unknown(String),
}

/// A compiled expression that knows where it was written. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Expr {
    pub text: String,
    pub place: Option<Place>,
    tree: Arc<ast::Node>,
}

/// A compiled template that knows where it was written. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Template {
    pub text: String,
    pub place: Option<Place>,
    tree: Arc<[ast::Statement]>,
}

impl Expr {
    /// `known` are the names the file itself declares (observations, lets) on top of the scope's own.
    ///
    /// # Errors
    /// Every problem at once: syntax, unknown names, functions, filters and tests, comparisons that can never be true;
    /// each with its place within the text.
    pub fn compile(text: &str, place: Option<Place>, scope: Scope, known: &[String]) -> Result<Self, Vec<Diagnostic>> {
        let tree = parse::expression(text, place.as_ref(), scope, known)?;
        Ok(Self { text: text.into(), place, tree: Arc::new(tree) })
    }

    /// The value. Null is a value; whatever is absent, unavailable or of the wrong type is unknown.
    pub fn eval(&self, context: &Context) -> Result<Value, Unknown> {
        eval::Evaluation::new(&self.text, context).value(&self.tree).map_err(|unknown| *unknown)
    }

    /// As a condition, which must be true or false.
    pub fn condition(&self, context: &Context) -> Result<bool, Unknown> {
        eval::Evaluation::new(&self.text, context).condition(&self.tree).map_err(|unknown| *unknown)
    }

    /// As a condition.
    #[must_use]
    pub fn truth(&self, context: &Context) -> Truth {
        match self.condition(context) {
            Ok(true) => Truth::True,
            Ok(false) => Truth::False,
            Err(unknown) => Truth::Unknown(unknown.reason),
        }
    }

    /// The value as JSON. Parts of it that are unknown are unknown as a whole.
    pub fn json(&self, context: &Context) -> Result<serde_json::Value, Unknown> {
        value::to_json(&self.eval(context)?)
    }

    /// What a person wants to know of a broken condition: what was observed, and what was expected.
    /// `store.state_name == 'Up'` gives `Disconnected` and `== 'Up'`.
    #[must_use]
    pub fn explain(&self, context: &Context) -> (String, String) {
        explain::explain(&self.text, &self.tree, context)
    }

    /// The problem with its caret below the part that is unknown.
    #[must_use]
    pub fn diagnostic(&self, unknown: &Unknown) -> Diagnostic {
        unknown.diagnostic(self.place.as_ref())
    }
}

impl Template {
    /// As [`Expr::compile`]. `{% if %}`, `{% for %}`, `{% set %}` and `{% with %}` are there, macros and includes are not.
    pub fn compile(text: &str, place: Option<Place>, scope: Scope, known: &[String]) -> Result<Self, Vec<Diagnostic>> {
        let tree = parse::template(text, place.as_ref(), scope, known)?;
        Ok(Self { text: text.into(), place, tree: tree.into() })
    }

    /// The text. Whatever is unknown or null is an error, never empty.
    pub fn render(&self, context: &Context) -> Result<String, Unknown> {
        template::render(&self.text, &self.tree, context).map_err(|unknown| *unknown)
    }

    /// The problem with its caret below the part that is unknown.
    #[must_use]
    pub fn diagnostic(&self, unknown: &Unknown) -> Diagnostic {
        unknown.diagnostic(self.place.as_ref())
    }
}

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
