//! Rendering of templates. Expressions within a template are evaluated as strictly as expressions alone.

use super::ast::{AssignmentTarget, Statement};
use super::context::Context;
use super::eval::{Evaluation, KnownNames};
use super::value::{is_list, is_map, text_of, type_name};
use super::{Unknown, UnknownReason, Value};

pub(super) fn render(text: &str, statements: &[Statement], context: &Context) -> KnownNames<String> {
    if let [Statement::Text(plain)] = statements {
        return Ok(plain.clone());
    }
    let mut evaluation = Evaluation::new(text, context);
    let mut output = String::with_capacity(text.len());
    evaluation.statements(statements, &mut output)?;
    Ok(output)
}

impl Evaluation<'_> {
    fn statements(&mut self, statements: &[Statement], output: &mut String) -> KnownNames<()> {
        statements.iter().try_for_each(|statement| self.statement(statement, output))
    }

    fn statement(&mut self, statement: &Statement, output: &mut String) -> KnownNames<()> {
        match statement {
            Statement::Text(text) => output.push_str(text),
            Statement::Emit(node) => {
                let value = self.value(node)?;
                let written = self.written(&node.range);
                if value.is_none() {
                    return Err(Unknown::at(UnknownReason::Null, &node.range, format!("`{written}` is null")));
                }
                if is_list(&value) || is_map(&value) {
                    let words = format!("`{written}` is {}, expected text or a number; use `| join(',')` or `| tojson`", type_name(&value));
                    return Err(Unknown::at(UnknownReason::Types, &node.range, words));
                }
                output.push_str(&text_of(&value));
            }
            Statement::If { condition, then, otherwise } => {
                let branch = if self.condition(condition)? { then } else { otherwise };
                self.statements(branch, output)?;
            }
            Statement::For { target, over, filter, body, otherwise } => {
                let value = self.value(over)?;
                let mut items = self.items(&value, &over.range)?;
                let outside = self.locals.len();
                if let Some(filter) = filter {
                    let mut kept = Vec::new();
                    for item in items {
                        self.bind(target, item.clone(), &over.range)?;
                        let keep = self.condition(filter);
                        self.locals.truncate(outside);
                        if keep? {
                            kept.push(item);
                        }
                    }
                    items = kept;
                }
                if items.is_empty() {
                    return self.statements(otherwise, output);
                }
                let length = items.len();
                for (index, item) in items.into_iter().enumerate() {
                    self.bind(target, item, &over.range)?;
                    self.locals.push(("loop".into(), place_in_loop(index, length)));
                    let done = self.statements(body, output);
                    self.locals.truncate(outside);
                    done?;
                }
            }
            Statement::Set { target, value } => {
                let found = self.value(value)?;
                self.bind(target, found, &value.range)?;
            }
            Statement::With { assignments, body } => {
                let outside = self.locals.len();
                for (target, value) in assignments {
                    let found = self.value(value)?;
                    self.bind(target, found, &value.range)?;
                }
                let done = self.statements(body, output);
                self.locals.truncate(outside);
                done?;
            }
        }
        Ok(())
    }

    fn bind(&mut self, target: &AssignmentTarget, value: Value, range: &std::ops::Range<usize>) -> KnownNames<()> {
        if let [name] = target.0.as_slice() {
            self.locals.push((name.clone(), value));
            return Ok(());
        }
        let parts = self.items(&value, range)?;
        if parts.len() != target.0.len() {
            let words = format!("`{}` gives {} parts for {} names", self.written(range), parts.len(), target.0.len());
            return Err(Unknown::at(UnknownReason::Types, range, words));
        }
        self.locals.extend(target.0.iter().cloned().zip(parts));
        Ok(())
    }
}

fn place_in_loop(index: usize, length: usize) -> Value {
    Value::from_pairs([
        ("index", Value::from(index + 1)),
        ("index0", Value::from(index)),
        ("first", Value::from(index == 0)),
        ("last", Value::from(index + 1 == length)),
        ("length", Value::from(length)),
    ])
}
