//! Conditions and templates of a script, evaluated by minijinja.
//!
//! Conditions are three-valued. A part of a condition that uses a name without a value is unknown. `false and unknown` is false, and `true
//! or unknown` is true. The tests `is defined` and `is undefined` and the filter `default` never give unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, Expression, UndefinedBehavior, Value};

/// Names of minijinja's built-in functions, which are not variables.
const FUNCTIONS: [&str; 4] = ["debug", "dict", "namespace", "range"];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    environment.set_syntax(syntax.expect("the standard delimiters"));
    environment
});

/// Values of variables by name. A known name may have no value.
#[derive(Debug, Clone, Default)]
pub struct Variables(BTreeMap<String, Value>);

impl Variables {
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    fn value(&self) -> Value {
        Value::from_pairs(self.0.iter().map(|(name, value)| (name.as_str(), value.clone())))
    }

    fn missing<'a>(&self, names: &'a BTreeSet<String>) -> Option<&'a str> {
        names.iter().map(String::as_str).find(|name| !self.0.contains_key(*name))
    }
}

/// Checks that all variables used in an expression are known, and returns their names.
///
/// # Errors
/// Returns an error message if a name is unknown.
fn known_names(found: impl IntoIterator<Item = String>, known: &[String]) -> Result<BTreeSet<String>, String> {
    let names: BTreeSet<String> = found.into_iter().filter(|name| !FUNCTIONS.contains(&name.as_str())).collect();
    match names.iter().find(|name| !known.contains(*name)) {
        Some(name) => Err(format!("unknown name `{name}`, expected one of: {}", known.join(", "))),
        None => Ok(names),
    }
}

/// Returns the text of a minijinja error, without a file name and a line.
fn reason(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()))
}

/// Compiled condition of a turn.
#[derive(Debug)]
pub(crate) enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Part(Part),
}

/// Part of a condition that contains no `and`, `or` and `not`.
#[derive(Debug)]
pub struct Part {
    expression: Expression<'static, 'static>,
    names: BTreeSet<String>,
    /// True if the part handles names without a value itself, for example with `is defined`.
    handles_missing: bool,
}

impl Condition {
    /// Compiles a condition. The condition may use only the names in `known`.
    ///
    /// # Errors
    /// Returns an error message if the text is invalid or uses an unknown name.
    pub fn compile(text: &str, known: &[String]) -> Result<Self, String> {
        // The whole text is checked first, which guarantees that its parts are expressions too.
        let whole = ENVIRONMENT.compile_expression_owned(text.to_owned()).map_err(|error| reason(&error))?;
        known_names(whole.undeclared_variables(false), known)?;
        Self::parse(text, known)
    }

    fn parse(text: &str, known: &[String]) -> Result<Self, String> {
        let words = words(text)?;
        let outer = |word: &'static str| words.iter().filter(move |found| found.depth == 0 && found.text == word);
        if outer("if").next().is_none() {
            for (word, join) in [("or", Self::Or as fn(Vec<Self>) -> Self), ("and", Self::And)] {
                if outer(word).next().is_some() {
                    let (mut parts, mut start) = (Vec::new(), 0);
                    for found in outer(word) {
                        parts.push(Self::parse(&text[start..found.start], known)?);
                        start = found.start + word.len();
                    }
                    parts.push(Self::parse(&text[start..], known)?);
                    return Ok(join(parts));
                }
            }
            if let Some(inner) = text.trim().strip_prefix("not").filter(|_| words.first().is_some_and(|first| first.text == "not")) {
                return Ok(Self::Not(Box::new(Self::parse(inner, known)?)));
            }
            let trimmed = text.trim();
            let enclosed = trimmed.starts_with('(') && words.iter().skip(1).position(|word| word.depth == 0) == Some(words.len() - 2);
            if let Some(inner) = trimmed.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).filter(|_| enclosed) {
                return Self::parse(inner, known);
            }
        }
        let expression = ENVIRONMENT.compile_expression_owned(text.to_owned()).map_err(|error| reason(&error))?;
        let names = known_names(expression.undeclared_variables(false), known)?;
        let handles_missing = words.iter().any(|word| ["defined", "undefined", "default"].contains(&word.text));
        Ok(Self::Part(Part { expression, names, handles_missing }))
    }

    /// Evaluates the condition. `None` means unknown.
    #[must_use]
    pub fn holds(&self, variables: &Variables) -> Option<bool> {
        // One deciding value determines the result. Without a deciding value, an unknown part makes the result unknown.
        let joined = |parts: &[Self], deciding: bool| {
            let values: Vec<_> = parts.iter().map(|part| part.holds(variables)).collect();
            if values.contains(&Some(deciding)) { Some(deciding) } else { (!values.contains(&None)).then_some(!deciding) }
        };
        match self {
            Self::And(parts) => joined(parts, false),
            Self::Or(parts) => joined(parts, true),
            Self::Not(inner) => inner.holds(variables).map(|value| !value),
            Self::Part(part) if !part.handles_missing && variables.missing(&part.names).is_some() => None,
            Self::Part(part) => part.expression.eval(variables.value()).ok().and_then(|value| bool::try_from(value).ok()),
        }
    }
}

/// Word or bracket in the text of an expression.
struct Word<'a> {
    text: &'a str,
    start: usize,
    /// Number of brackets around the word. For a bracket itself, the number of brackets around the bracket pair.
    depth: usize,
}

fn words(text: &str) -> Result<Vec<Word<'_>>, String> {
    let (mut depth, mut found) = (0_usize, Vec::new());
    for token in tokenize(text, true, SyntaxConfig::default()) {
        let (token, span) = token.map_err(|error| reason(&error))?;
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        if matches!(token, Token::ParenClose | Token::BracketClose | Token::BraceClose) {
            depth = depth.saturating_sub(1);
        }
        found.push(Word { text: text.get(start..end).unwrap_or_default(), start, depth });
        if matches!(token, Token::ParenOpen | Token::BracketOpen | Token::BraceOpen) {
            depth += 1;
        }
    }
    Ok(found)
}

/// Compiled template of a turn.
#[derive(Debug)]
pub struct Template {
    text: String,
    names: BTreeSet<String>,
}

impl Template {
    /// Compiles a template. The template may use only the names in `known`.
    ///
    /// # Errors
    /// Returns an error message if the text is invalid or uses an unknown name.
    pub fn compile(text: &str, known: &[String]) -> Result<Self, String> {
        let template = ENVIRONMENT.template_from_str(text).map_err(|error| reason(&error))?;
        let names = known_names(template.undeclared_variables(false), known)?;
        Ok(Self { text: text.to_owned(), names })
    }

    /// Renders the template with the given values.
    ///
    /// # Errors
    /// Returns an error message if a name has no value or an operation is impossible.
    pub fn render(&self, variables: &Variables) -> Result<String, String> {
        ENVIRONMENT.render_str(&self.text, variables.value()).map_err(|error| match variables.missing(&self.names) {
            Some(name) => format!("`{name}` has no value"),
            None => reason(&error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> Option<bool> {
        let known = ["turn", "first", "tools", "node"].map(str::to_owned);
        let variables = Variables::default().with("turn", 2).with("first", "a or b").with("tools", vec!["shell"]);
        Condition::compile(text, &known).unwrap_or_else(|problem| panic!("{text}: {problem}")).holds(&variables)
    }

    #[test]
    fn conditions_are_three_valued() {
        let cases = [
            ("turn == 2", Some(true)),
            ("turn > 2 or first == 'a or b'", Some(true)),
            ("not (turn > 2 or 'b' not in first)", Some(true)),
            ("'shell' in tools and not turn == 1", Some(true)),
            ("(turn == 2) and (turn == 3)", Some(false)),
            ("(turn + 1) * (turn) == 6", Some(true)),
            ("node == 'x'", None),
            ("node != 'x'", None),
            ("not node == 'x'", None),
            ("node == 'x' or turn == 2", Some(true)),
            ("node == 'x' and turn == 3", Some(false)),
            ("node == 'x' and turn == 2", None),
            ("node is defined", Some(false)),
            ("node is not defined", Some(true)),
            ("node is undefined and turn == 2", Some(true)),
            ("node is defined and node == 'x'", Some(false)),
            ("node | default('x') == 'x'", Some(true)),
            ("true if turn == 2 or first == 'x' else false", Some(true)),
            ("first", None),
            ("turn + first == 3", None),
        ];
        for (text, expected) in cases {
            assert_eq!(holds(text), expected, "{text}");
        }
    }

    #[test]
    fn unknown_names_and_wrong_syntax_are_refused() {
        let known = ["turn".to_owned()];
        assert!(Condition::compile("turm == 1", &known).unwrap_err().contains("unknown name `turm`, expected one of: turn"));
        assert!(Condition::compile("turn ==", &known).unwrap_err().contains("syntax error"));
        assert!(Template::compile("{{ nod }}", &known).unwrap_err().contains("unknown name `nod`"));
        assert!(Template::compile("{{ turn", &known).unwrap_err().contains("syntax error"));
    }

    #[test]
    fn templates_keep_their_text_and_need_values() {
        let known = ["turn", "node"].map(str::to_owned);
        let variables = Variables::default().with("turn", 2);
        let render = |text: &str| Template::compile(text, &known).unwrap().render(&variables);
        assert_eq!(render("<{{ turn }}>\n").unwrap(), "<2>\n");
        assert_eq!(render("{% if turn > 1 %}\nlate\n{% endif %}\n").unwrap(), "late\n");
        assert_eq!(render("{{ node }}").unwrap_err(), "`node` has no value");
    }
}
