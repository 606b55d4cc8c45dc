//! Expression language with the syntax of minijinja. Expressions are compiled when a file is loaded, and evaluate to a value or to
//! *unknown*.
//!
//! minijinja parses the text. This crate evaluates the tree, because minijinja's own evaluation gives wrong verdicts: for example, `null <
//! 3` and `'931GiB' > 100` are true. Here a condition has three values (Kleene). Values that are absent, null, or from a failed or stale
//! probe are [`Unknown`]. `<`, `<=`, `>` and `>=` are unknown unless both sides are numbers. Unknown is never true. Filters without special
//! handling of unknown values are minijinja's own.
//!
//! | syntax | meaning |
//! |---|---|
//! | `a.b`, `a['b']`, `a[0]` | unknown (*absent*) if it does not exist |
//! | `==`, `!=` | for two values of one type; for different types, or for null, unknown |
//! | `<`, `<=`, `>`, `>=` | for two numbers; for all other values unknown |
//! | `and`, `or`, `not`, `if` | for true and false; `false and unknown` is false, `true or unknown` is true |
//! | `x is none`, `x is defined`, `x \| default(0)` | test for null and absent values; a failed probe stays unknown |
//! | `list \| all`, `\| all('ok')`, `\| any('state', 'eq', 'Up')` | three-valued, like `select`, `selectattr` and their opposites |
//! | `list \| majority(of=3)` | the value of more than half of `of` members, unknown without a majority |
//! | `x \| seconds`, `x \| bytes` | for `1h0m10.5s`, `1m 30s`; for `931.5GiB` |
//! | `dur('1s')`, `size('1MiB')` | quantities as numbers: seconds, bytes |
//!
//! The names available at each place of a file are listed in [`Scope`].

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
pub use value::{Unknown, UnknownReason, is_list, is_map, of_serde, unavailable, unknown_of};

use chaosrun_diagnostic::{Diagnostic, SourcePlace};

/// Truth of a condition: true, false or unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionTruth {
    True,
    False,
    /// The condition is neither true nor false, for the reason in the text.
    Unknown(String),
}

/// Compiled expression with its place in the file. Clones share the compiled tree.
#[derive(Debug, Clone)]
pub struct Expr {
    pub text: String,
    pub place: Option<SourcePlace>,
    tree: Arc<ast::ExprNode>,
}

/// Compiled template with its place in the file. Clones share the compiled tree.
#[derive(Debug, Clone)]
pub struct Template {
    pub text: String,
    pub place: Option<SourcePlace>,
    tree: Arc<[ast::Statement]>,
}

impl Expr {
    /// Compiles an expression. The expression may use the names of `scope`, and the names `known` that the file declares itself
    /// (observations and `let`).
    ///
    /// # Errors
    /// Returns all problems of the text with their places: syntax errors, unknown names, functions, filters and tests, and comparisons that
    /// can never be true.
    pub fn compile(text: &str, place: Option<SourcePlace>, scope: Scope, known: &[String]) -> Result<Self, Vec<Diagnostic>> {
        let tree = parse::expression(text, place.as_ref(), scope, known)?;
        Ok(Self { text: text.into(), place, tree: Arc::new(tree) })
    }

    /// Evaluates the expression. Null is a valid result. Missing values, unavailable values and type errors make the result unknown.
    pub fn eval(&self, context: &Context) -> Result<Value, Unknown> {
        eval::Evaluation::new(&self.text, context).value(&self.tree).map_err(|unknown| *unknown)
    }

    /// Evaluates the expression as a condition. The result is unknown if the value is neither true nor false.
    pub fn condition(&self, context: &Context) -> Result<bool, Unknown> {
        eval::Evaluation::new(&self.text, context).condition(&self.tree).map_err(|unknown| *unknown)
    }

    /// Evaluates the expression as a condition with the truth values true, false and unknown.
    #[must_use]
    pub fn truth(&self, context: &Context) -> ConditionTruth {
        match self.condition(context) {
            Ok(true) => ConditionTruth::True,
            Ok(false) => ConditionTruth::False,
            Err(unknown) => ConditionTruth::Unknown(unknown.reason),
        }
    }

    /// Evaluates the expression and converts the value to JSON. If any part of the value is unknown, the whole result is unknown.
    pub fn json(&self, context: &Context) -> Result<serde_json::Value, Unknown> {
        value::to_json(&self.eval(context)?)
    }

    /// Returns the observed value and the expected value of a violated condition, as texts. For `store.state_name == 'Up'`, these may be
    /// `Disconnected` and `== 'Up'`.
    #[must_use]
    pub fn explain(&self, context: &Context) -> (String, String) {
        explain::explain(&self.text, &self.tree, context)
    }

    /// Creates a problem that reports the unknown result. The problem points at the part of the expression that is unknown.
    #[must_use]
    pub fn diagnostic(&self, unknown: &Unknown) -> Diagnostic {
        unknown.diagnostic(self.place.as_ref())
    }
}

impl Template {
    /// Compiles a template as [`Expr::compile`] compiles an expression. `{% if %}`, `{% for %}`, `{% set %}` and `{% with %}` are
    /// available. Macros and includes are not available.
    pub fn compile(text: &str, place: Option<SourcePlace>, scope: Scope, known: &[String]) -> Result<Self, Vec<Diagnostic>> {
        let tree = parse::template(text, place.as_ref(), scope, known)?;
        Ok(Self { text: text.into(), place, tree: tree.into() })
    }

    /// Renders the template as text. An unknown or null value is an error, and never becomes empty text.
    pub fn render(&self, context: &Context) -> Result<String, Unknown> {
        template::render(&self.text, &self.tree, context).map_err(|unknown| *unknown)
    }

    /// Creates a problem that reports the unknown value. The problem points at the part of the template that is unknown.
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
