//! Conversion of minijinja's syntax tree to the syntax tree of this crate. The conversion collects all problems.

use std::ops::Range;
use std::sync::Arc;

use minijinja::machinery::ast::{self as jinja, CallArg, Stmt};

use super::super::ast::{ArithmeticOperation, AssignmentTarget, CallArguments, ComparisonOperator, ExprNode, NodeKind, Statement};
use super::super::compare::compare;
use super::super::scope::{FUNCTIONS, Scope, closest};
use super::super::units;
use super::names::{FILTERS, OPERATOR_TESTS, PLAIN_FILTERS, TESTS};
use chaosrun_diagnostic::{Diagnostic, SourcePlace};

/// Maximum depth of nested expressions. The limit is necessary because evaluation is recursive.
const DEEPEST: usize = 100;

pub(super) struct Lower<'a> {
    text: &'a str,
    place: Option<&'a SourcePlace>,
    scope: Scope,
    known: &'a [String],
    /// Names that the template binds itself, for example by a loop. The innermost name is last.
    locals: Vec<Arc<str>>,
    depth: usize,
    problems: Vec<Diagnostic>,
}

impl<'a> Lower<'a> {
    pub(super) fn new(text: &'a str, place: Option<&'a SourcePlace>, scope: Scope, known: &'a [String]) -> Self {
        Self { text, place, scope, known, locals: Vec::new(), depth: 0, problems: Vec::new() }
    }

    pub(super) const fn text(&self) -> &'a str {
        self.text
    }

    pub(super) fn finish<T>(self, result: T) -> Result<T, Vec<Diagnostic>> {
        if self.problems.is_empty() { Ok(result) } else { Err(self.problems) }
    }

    pub(super) fn problem(&self, range: Range<usize>, code: &'static str, message: String) -> Diagnostic {
        let diagnostic = Diagnostic::error(code, message);
        match self.place {
            Some(place) => diagnostic.at(place.within(range)),
            None => diagnostic,
        }
    }

    fn refuse(
        &mut self,
        range: &Range<usize>,
        code: &'static str,
        message: impl Into<String>,
        label: Option<String>,
        help: Option<String>,
    ) {
        let mut problem = self.problem(range.clone(), code, message.into());
        problem.label = label;
        problem.help = help;
        // One mistake in a deep nesting would be reported at every level.
        if self.problems.last().is_none_or(|last| last.message != problem.message || last.place != problem.place) {
            self.problems.push(problem);
        }
    }

    // ------------------------------------------------------------ templates

    pub(super) fn template(&mut self, tree: &Stmt<'_>) -> Vec<Statement> {
        match tree {
            Stmt::Template(template) => self.statements(&template.children),
            other => self.statement(other).into_iter().collect(),
        }
    }

    fn statements(&mut self, children: &[Stmt<'_>]) -> Vec<Statement> {
        children.iter().filter_map(|child| self.statement(child)).collect()
    }

    /// Converts the statements of a body. Names that the body binds are not available after the body.
    fn block(&mut self, children: &[Stmt<'_>]) -> Vec<Statement> {
        let outside = self.locals.len();
        let body = self.statements(children);
        self.locals.truncate(outside);
        body
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Option<Statement> {
        if self.depth > DEEPEST {
            let end = self.text.len();
            self.refuse(&(end..end), "nested_too_deeply", "nested too deeply", None, None);
            return None;
        }
        self.depth += 1;
        let lowered = self.statement_within(statement);
        self.depth -= 1;
        lowered
    }

    fn statement_within(&mut self, statement: &Stmt<'_>) -> Option<Statement> {
        let (word, span) = match statement {
            Stmt::EmitRaw(raw) => return Some(Statement::Text(raw.raw.to_owned())),
            Stmt::EmitExpr(emit) => return Some(Statement::Emit(self.expression(&emit.expr))),
            Stmt::IfCond(cond) => {
                let condition = self.expression(&cond.expr);
                // Names that one branch sets are valid after the `if`; at run time they are absent if the branch was not taken.
                let then = self.statements(&cond.true_body);
                let otherwise = self.statements(&cond.false_body);
                return Some(Statement::If { condition, then, otherwise });
            }
            Stmt::ForLoop(each) if !each.recursive => {
                let over = self.expression(&each.iter);
                let outside = self.locals.len();
                let target = self.target(&each.target);
                self.locals.push("loop".into());
                let filter = each.filter_expr.as_ref().map(|filter| self.expression(filter));
                let body = self.statements(&each.body);
                self.locals.truncate(outside);
                let otherwise = self.block(&each.else_body);
                return Some(Statement::For { target, over, filter, body, otherwise });
            }
            Stmt::Set(set) => {
                let value = self.expression(&set.expr);
                return Some(Statement::Set { target: self.target(&set.target), value });
            }
            Stmt::WithBlock(with) => {
                let outside = self.locals.len();
                let mut assignments = Vec::new();
                for (target, value) in &with.assignments {
                    let value = self.expression(value);
                    assignments.push((self.target(target), value));
                }
                let body = self.statements(&with.body);
                self.locals.truncate(outside);
                return Some(Statement::With { assignments, body });
            }
            Stmt::Template(template) => {
                let body = self.block(&template.children);
                return Some(Statement::With { assignments: Vec::new(), body });
            }
            Stmt::ForLoop(each) => ("a recursive `for`", each.span()),
            Stmt::SetBlock(set) => ("`set` with a body", set.span()),
            Stmt::AutoEscape(escape) => ("`autoescape`", escape.span()),
            Stmt::FilterBlock(filter) => ("`filter` with a body", filter.span()),
            Stmt::Block(block) => ("`block`", block.span()),
            Stmt::Import(import) => ("`import`", import.span()),
            Stmt::FromImport(import) => ("`import`", import.span()),
            Stmt::Extends(extends) => ("`extends`", extends.span()),
            Stmt::Include(include) => ("`include`", include.span()),
            Stmt::Macro(declared) => ("`macro`", declared.span()),
            Stmt::CallBlock(call) => ("`call`", call.span()),
            Stmt::Do(call) => ("`do`", call.span()),
        };
        let help = Some("statements here: `if`, `for`, `set`, `with`, `raw`".to_owned());
        self.refuse(&self.range(span), "template_statement", format!("{word} is not part of templates here"), None, help);
        None
    }

    fn target(&mut self, target: &jinja::Expr<'_>) -> AssignmentTarget {
        let names: Vec<Arc<str>> = match target {
            jinja::Expr::Var(name) => vec![name.id.into()],
            jinja::Expr::List(list) => list.items.iter().filter_map(name_of).collect(),
            jinja::Expr::Tuple(tuple) => tuple.items.iter().filter_map(name_of).collect(),
            _ => Vec::new(),
        };
        if names.is_empty() {
            self.refuse(&self.range(target.span()), "template_syntax", "this cannot be assigned to, expected a name", None, None);
        }
        self.locals.extend(names.iter().cloned());
        AssignmentTarget(names)
    }

    // ------------------------------------------------------------ expressions

    pub(super) fn expression(&mut self, expr: &jinja::Expr<'_>) -> ExprNode {
        if self.depth > DEEPEST {
            let range = self.range(expr.span());
            self.refuse(&range, "nested_too_deeply", "nested too deeply", None, None);
            return ExprNode { range, kind: NodeKind::Const(().into()) };
        }
        self.depth += 1;
        let node = self.expression_within(expr);
        self.depth -= 1;
        node
    }

    fn boxed(&mut self, expr: &jinja::Expr<'_>) -> Box<ExprNode> {
        Box::new(self.expression(expr))
    }

    fn expression_within(&mut self, expr: &jinja::Expr<'_>) -> ExprNode {
        let own = self.range(expr.span());
        match expr {
            jinja::Expr::Const(constant) => ExprNode { range: own, kind: NodeKind::Const(constant.value.clone()) },
            jinja::Expr::Var(name) => {
                self.check_name(name.id, &own);
                ExprNode { range: own, kind: NodeKind::Name(name.id.into()) }
            }
            jinja::Expr::GetAttr(attr) => {
                let of = self.boxed(&attr.expr);
                let range = of.range.start..own.end;
                ExprNode { range, kind: NodeKind::Attr { of, name: attr.name.into() } }
            }
            jinja::Expr::GetItem(item) => {
                let of = self.boxed(&item.expr);
                let at = self.boxed(&item.subscript_expr);
                let range = of.range.start..own.end.max(at.range.end);
                ExprNode { range, kind: NodeKind::Item { of, at } }
            }
            jinja::Expr::Slice(slice) => {
                let of = self.boxed(&slice.expr);
                let start = slice.start.as_ref().map(|start| self.boxed(start));
                let stop = slice.stop.as_ref().map(|stop| self.boxed(stop));
                let range = of.range.start..own.end;
                if slice.step.is_some() {
                    self.refuse(&range, "expression_syntax", "a slice has no step here", None, None);
                }
                ExprNode { range, kind: NodeKind::Slice { of, start, stop } }
            }
            jinja::Expr::UnaryOp(unary) => self.unary(unary, own),
            jinja::Expr::BinOp(binary) => self.binary(binary),
            jinja::Expr::Compare(chain) => {
                let first = self.boxed(&chain.expr);
                let rest: Vec<_> = chain.ops.iter().map(|op| (comparison(op.op), self.expression(&op.expr))).collect();
                self.comparison(first, rest)
            }
            jinja::Expr::IfExpr(choice) => {
                let then = self.boxed(&choice.true_expr);
                let condition = self.boxed(&choice.test_expr);
                let otherwise = choice.false_expr.as_ref().map(|otherwise| self.boxed(otherwise));
                let end = otherwise.as_ref().map_or(condition.range.end, |otherwise| otherwise.range.end);
                let range = self.balanced(then.range.start..end);
                ExprNode { range, kind: NodeKind::If { condition, then, otherwise } }
            }
            jinja::Expr::Filter(filter) => {
                let Some(of) = &filter.expr else {
                    self.refuse(&own, "template_syntax", "a filter needs something to the left of `|`", None, None);
                    return ExprNode { range: own, kind: NodeKind::Const(().into()) };
                };
                let of = self.boxed(of);
                self.check_filter(filter.name, &own);
                let arguments = self.arguments(&filter.args, &own);
                let range = self.balanced(of.range.start..own.end);
                ExprNode { range, kind: NodeKind::Filter { of, name: filter.name.into(), arguments } }
            }
            jinja::Expr::Test(test) => {
                let of = self.boxed(&test.expr);
                self.check_test(test.name, &own);
                let arguments = self.arguments(&test.args, &own);
                let range = self.balanced(of.range.start..own.end);
                ExprNode { range, kind: NodeKind::Test { of, name: test.name.into(), arguments } }
            }
            jinja::Expr::Call(call) => self.call(call, own),
            jinja::Expr::List(list) => self.list(&list.items, own),
            jinja::Expr::Tuple(tuple) => self.list(&tuple.items, own),
            jinja::Expr::Map(map) => {
                let pairs = map.keys.iter().zip(&map.values).map(|(key, value)| (self.expression(key), self.expression(value))).collect();
                ExprNode { range: own, kind: NodeKind::Map(pairs) }
            }
        }
    }

    fn list(&mut self, items: &[jinja::Expr<'_>], range: Range<usize>) -> ExprNode {
        ExprNode { range, kind: NodeKind::List(items.iter().map(|item| self.expression(item)).collect()) }
    }

    fn unary(&mut self, unary: &jinja::UnaryOp<'_>, own: Range<usize>) -> ExprNode {
        let inner = self.expression(&unary.expr);
        match unary.op {
            jinja::UnaryOpKind::Neg => {
                let range = own.start.min(inner.range.start)..inner.range.end;
                ExprNode { range, kind: NodeKind::Neg(Box::new(inner)) }
            }
            // The parser returns `a not in b` as `not (a in b)`.
            jinja::UnaryOpKind::Not => match inner.kind {
                NodeKind::Compare { first, rest } if matches!(rest.as_slice(), [(ComparisonOperator::In, _)]) => {
                    let rest = rest.into_iter().map(|(_, node)| (ComparisonOperator::NotIn, node)).collect();
                    ExprNode { range: inner.range, kind: NodeKind::Compare { first, rest } }
                }
                _ => {
                    // The parser's span begins at the preceding token. `not` is the word before the operand, if it is one.
                    let before = self.text.get(..inner.range.start).unwrap_or_default().trim_end_matches([' ', '(']);
                    let start = if before.ends_with("not") { before.len() - 3 } else { inner.range.start };
                    let range = self.balanced(start..inner.range.end);
                    ExprNode { range, kind: NodeKind::Not(Box::new(inner)) }
                }
            },
        }
    }

    fn binary(&mut self, binary: &jinja::BinOp<'_>) -> ExprNode {
        use jinja::BinOpKind as Op;
        let left = self.boxed(&binary.left);
        let right = self.boxed(&binary.right);
        let range = self.balanced(left.range.start..right.range.end);
        let compared = match binary.op {
            Op::Eq => ComparisonOperator::Eq,
            Op::Ne => ComparisonOperator::Ne,
            Op::Lt => ComparisonOperator::Lt,
            Op::Lte => ComparisonOperator::Le,
            Op::Gt => ComparisonOperator::Gt,
            Op::Gte => ComparisonOperator::Ge,
            Op::In => ComparisonOperator::In,
            Op::ScAnd => return ExprNode { range, kind: NodeKind::And(left, right) },
            Op::ScOr => return ExprNode { range, kind: NodeKind::Or(left, right) },
            Op::Add => return arithmetic(range, ArithmeticOperation::Add, left, right),
            Op::Sub => return arithmetic(range, ArithmeticOperation::Sub, left, right),
            Op::Mul => return arithmetic(range, ArithmeticOperation::Mul, left, right),
            Op::Div => return arithmetic(range, ArithmeticOperation::Div, left, right),
            Op::FloorDiv => return arithmetic(range, ArithmeticOperation::FloorDiv, left, right),
            Op::Rem => return arithmetic(range, ArithmeticOperation::Rem, left, right),
            Op::Pow => return arithmetic(range, ArithmeticOperation::Pow, left, right),
            Op::Concat => return arithmetic(range, ArithmeticOperation::Concat, left, right),
        };
        self.comparison(left, vec![(compared, *right)])
    }

    /// Converts a comparison. Reports an error if the result of the comparison would always be unknown.
    fn comparison(&mut self, first: Box<ExprNode>, rest: Vec<(ComparisonOperator, ExprNode)>) -> ExprNode {
        let end = rest.last().map_or(first.range.end, |(_, last)| last.range.end);
        let range = self.balanced(first.range.start..end);
        let mut left = first.as_ref();
        let mut problems = Vec::new();
        for (op, right) in &rest {
            let null = |node: &ExprNode| matches!(&node.kind, NodeKind::Const(value) if value.is_none());
            if matches!(op, ComparisonOperator::Eq | ComparisonOperator::Ne) && (null(left) || null(right)) {
                let about = if null(left) { right } else { left };
                let word = if *op == ComparisonOperator::Eq { "is none" } else { "is not none" };
                let help = format!("write `{} {word}`", self.slice(&about.range));
                problems.push(("a comparison with null is always unknown".to_owned(), Some(help)));
            } else if let (NodeKind::Const(a), NodeKind::Const(b)) = (&left.kind, &right.kind)
                && let Err(mismatch) = compare(*op, a, b)
            {
                let (left, right) = (self.slice(&left.range), self.slice(&right.range));
                problems.push((mismatch.reason(*op, (left, a), (right, b)), mismatch.help(a, b)));
            }
            left = right;
        }
        for (reason, help) in problems {
            self.refuse(&range, "never_true", reason, None, help);
        }
        ExprNode { range, kind: NodeKind::Compare { first, rest } }
    }

    fn call(&mut self, call: &jinja::Call<'_>, own: Range<usize>) -> ExprNode {
        let arguments = self.arguments(&call.args, &own);
        match &call.expr {
            jinja::Expr::Var(name) => {
                let range = self.range(name.span());
                self.check_function(name.id, &range);
                self.check_quantity(name.id, &arguments);
                ExprNode { range: range.start..own.end.max(range.end), kind: NodeKind::Call { name: name.id.into(), arguments } }
            }
            jinja::Expr::GetAttr(attr) => {
                let of = self.expression(&attr.expr);
                let help = closest(attr.name, FILTERS.iter().chain(PLAIN_FILTERS).copied())
                    .map(|filter| format!("did you mean the filter `{} | {filter}`?", self.slice(&of.range)));
                let range = of.range.start..own.end;
                self.refuse(&range, "method_call", format!("there are no methods here, found `.{}()`", attr.name), None, help);
                ExprNode { range, kind: NodeKind::Const(().into()) }
            }
            _ => {
                self.refuse(&own, "method_call", "only a function can be called", None, Some(self.scope.help_functions()));
                ExprNode { range: own, kind: NodeKind::Const(().into()) }
            }
        }
    }

    fn arguments(&mut self, given: &[CallArg<'_>], own: &Range<usize>) -> CallArguments {
        let mut arguments = CallArguments::default();
        for argument in given {
            match argument {
                CallArg::Pos(value) => {
                    let value = self.expression(value);
                    arguments.positional.push(value);
                }
                CallArg::Kwarg(name, value) => {
                    let value = self.expression(value);
                    arguments.named.push(((*name).into(), value));
                }
                CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                    self.refuse(own, "expression_syntax", "`*` before an argument is not part of the language here", None, None);
                }
            }
        }
        arguments
    }

    // ------------------------------------------------------------ checks

    fn check_name(&mut self, name: &str, range: &Range<usize>) {
        let offered = |known: &&super::super::scope::Name| !known.function;
        let own = self.scope.names();
        if self.locals.iter().any(|local| &**local == name)
            || self.known.iter().any(|known| known == name)
            || own.iter().filter(offered).any(|known| known.name == name)
        {
            return;
        }
        if own.iter().chain(FUNCTIONS).any(|known| known.function && known.name == name) {
            let message = format!("`{name}` is a function, found it without its `()`");
            self.refuse(range, "unknown_name", message, Some("expected a call".into()), None);
            return;
        }
        let all = self.known.iter().map(String::as_str).chain(own.iter().filter(offered).map(|known| known.name));
        let label = closest(name, all.chain(["true", "false", "none"])).map(|near| format!("did you mean `{near}`?"));
        let help = self.scope.help(self.known);
        self.refuse(range, "unknown_name", format!("unknown name `{name}`"), label, Some(help));
    }

    fn check_function(&mut self, name: &str, range: &Range<usize>) {
        let all = || self.scope.names().iter().chain(FUNCTIONS).filter(|known| known.function).map(|known| known.name);
        if all().any(|known| known == name) {
            return;
        }
        let filter = FILTERS.iter().chain(PLAIN_FILTERS).find(|filter| **filter == name);
        let label = match filter {
            Some(filter) => Some(format!("it is a filter: `... | {filter}`")),
            None => closest(name, all()).map(|near| format!("did you mean `{near}`?")),
        };
        let help = self.scope.help_functions();
        self.refuse(range, "unknown_function", format!("unknown function `{name}`"), label, Some(help));
    }

    /// Checks the constant argument of `dur()` or `size()`, so that an invalid quantity is reported when the file is loaded.
    fn check_quantity(&mut self, name: &str, arguments: &CallArguments) {
        let [ExprNode { range, kind: NodeKind::Const(value) }] = arguments.positional.as_slice() else { return };
        let text = value.as_str().unwrap_or_default();
        let expected = match name {
            "dur" if units::seconds(text).is_none() => "`500ms`, `1m 30s`, `2h`",
            "size" if units::bytes(text).is_none() => "`64KiB`, `1.5GiB`, `200MB`",
            _ => return,
        };
        let what = if name == "dur" { "duration" } else { "size" };
        let message = format!("{} is not a {what}", self.slice(range));
        self.refuse(range, "bad_quantity", message, Some(format!("expected text like {expected}")), None);
    }

    fn check_filter(&mut self, name: &str, range: &Range<usize>) {
        if FILTERS.contains(&name) || PLAIN_FILTERS.contains(&name) {
            return;
        }
        let all = FILTERS.iter().chain(PLAIN_FILTERS).copied();
        let label = closest(name, all).map(|near| format!("did you mean `{near}`?"));
        self.refuse(range, "unknown_filter", format!("unknown filter `{name}`"), label, Some(listed("filters", FILTERS, PLAIN_FILTERS)));
    }

    fn check_test(&mut self, name: &str, range: &Range<usize>) {
        if TESTS.contains(&name) || OPERATOR_TESTS.contains(&name) {
            return;
        }
        let label = closest(name, TESTS.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        self.refuse(range, "unknown_test", format!("unknown test `{name}`"), label, Some(listed("tests", TESTS, &[])));
    }

    // ------------------------------------------------------------ places

    fn range(&self, span: minijinja::machinery::Span) -> Range<usize> {
        let clamp = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX).min(self.text.len());
        let (start, end) = (clamp(span.start_offset), clamp(span.end_offset));
        start..end.max(start)
    }

    fn slice(&self, range: &Range<usize>) -> &'a str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// Extends the range of an operation by the parentheses around its first and its last operand. minijinja omits these parentheses from
    /// ranges.
    fn balanced(&self, range: Range<usize>) -> Range<usize> {
        let Range { mut start, mut end } = range;
        let count = |text: &str| {
            text.bytes().fold((0_usize, 0_usize), |(open, missing), byte| match byte {
                b'(' => (open + 1, missing),
                b')' if open > 0 => (open - 1, missing),
                b')' => (open, missing + 1),
                _ => (open, missing),
            })
        };
        let (open, missing) = count(self.slice(&(start..end)));
        for _ in 0..missing {
            let before = self.text.get(..start).unwrap_or_default().trim_end();
            if !before.ends_with('(') {
                break;
            }
            start = before.len() - 1;
        }
        for _ in 0..open {
            let rest = self.text.get(end..).unwrap_or_default();
            let spaces = rest.len() - rest.trim_start().len();
            if !rest.trim_start().starts_with(')') {
                break;
            }
            end += spaces + 1;
        }
        start..end
    }
}

fn listed(what: &str, first: &[&str], second: &[&str]) -> String {
    let mut all: Vec<_> = first.iter().chain(second).copied().collect();
    all.sort_unstable();
    format!("{what}: {}", all.join(", "))
}

fn name_of(expr: &jinja::Expr<'_>) -> Option<Arc<str>> {
    match expr {
        jinja::Expr::Var(name) => Some(name.id.into()),
        _ => None,
    }
}

const fn comparison(op: jinja::CompareOpKind) -> ComparisonOperator {
    match op {
        jinja::CompareOpKind::Eq => ComparisonOperator::Eq,
        jinja::CompareOpKind::Ne => ComparisonOperator::Ne,
        jinja::CompareOpKind::Lt => ComparisonOperator::Lt,
        jinja::CompareOpKind::Lte => ComparisonOperator::Le,
        jinja::CompareOpKind::Gt => ComparisonOperator::Gt,
        jinja::CompareOpKind::Gte => ComparisonOperator::Ge,
        jinja::CompareOpKind::In => ComparisonOperator::In,
        jinja::CompareOpKind::NotIn => ComparisonOperator::NotIn,
    }
}

const fn arithmetic(range: Range<usize>, operation: ArithmeticOperation, left: Box<ExprNode>, right: Box<ExprNode>) -> ExprNode {
    ExprNode { range, kind: NodeKind::Arithmetic { operation, left, right } }
}
