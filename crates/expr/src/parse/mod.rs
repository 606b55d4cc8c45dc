//! Parsing of text into a tree with minijinja's parser, and all checks that need no evaluation.

mod hints;
mod lower;
mod names;

use minijinja::machinery;
use minijinja::syntax::SyntaxConfig;

use super::ast::{ExprNode, Statement};
use super::scope::Scope;
use chaosrun_diagnostic::{Diagnostic, SourcePlace};

/// Maximum length in bytes of an expression. The same limit applies to the sum of all expressions of a template.
const LONGEST: usize = 64 * 1024;

/// Parses and checks a single expression.
pub(super) fn expression(text: &str, place: Option<&SourcePlace>, scope: Scope, known: &[String]) -> Result<ExprNode, Vec<Diagnostic>> {
    let mut lower = lower::Lower::new(text, place, scope, known);
    if text.len() > LONGEST {
        return Err(vec![lower.problem(0..0, "expression_too_long", format!("{} bytes, expected at most {LONGEST}", text.len()))]);
    }
    match machinery::parse_expr(text) {
        Ok(tree) => {
            let node = lower.expression(&tree);
            lower.finish(node)
        }
        Err(error) => Err(vec![hints::syntax(&lower, &error, "expression_syntax")]),
    }
}

/// Parses and checks a template. The trailing newline of the text is preserved. A line that contains only a `{% %}` tag produces no output.
pub(super) fn template(text: &str, place: Option<&SourcePlace>, scope: Scope, known: &[String]) -> Result<Vec<Statement>, Vec<Diagnostic>> {
    let mut lower = lower::Lower::new(text, place, scope, known);
    if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
        return Ok(vec![Statement::Text(text.to_owned())]);
    }
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    let syntax = syntax.map_err(|error| vec![hints::syntax(&lower, &error, "template_syntax")])?;
    match machinery::parse(text, "<template>", syntax) {
        Ok(tree) => {
            let statements = lower.template(&tree);
            lower.finish(statements)
        }
        Err(error) => Err(vec![hints::syntax(&lower, &error, "template_syntax")]),
    }
}
