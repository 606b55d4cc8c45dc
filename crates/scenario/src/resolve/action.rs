//! Resolution of the section `actions:` in a cluster file. Parameters, conditions and steps are compiled.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use indexmap::IndexMap;
use regex::Regex;

use super::{Checker, item_of, quantity, unknown};
use crate::model::{Action, Ensure, ExecStep, HttpStep, Meaning, Node, NodeStep, On, Param, ParamKind, ParamType, Requirement, Step};
use crate::params;
use crate::raw::{
    RawAction, RawAmount, RawEnsure, RawExecStep, RawHttpStep, RawNodeStep, RawParam, RawRequire, RawStep, RawWaitStep, Short, Text,
};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_expr::{Expr, Scope, Template};
use chaosrun_input::names;

const SCOPE: Scope = Scope::Action;
const WITHIN: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Names and nodes of the cluster that its actions can use.
pub(super) struct ActionScope<'a> {
    pub roles: &'a [&'a str],
    pub nodes: &'a [Node],
    /// Names of all observations and of all `let` expressions.
    pub known: &'a [String],
    /// Names of the observations that each name depends on; see [`about`].
    pub about: &'a HashMap<String, Vec<String>>,
}

pub(super) fn actions(check: &mut Checker, raw: &IndexMap<String, RawAction>, ground: &ActionScope) -> IndexMap<String, Action> {
    let root = Pointer::default().key("actions");
    let mut found = IndexMap::new();
    if !raw.is_empty() {
        for section in ["observe", "let"] {
            for name in check.doc.keys(section).iter().filter(|name| SCOPE.reserves(name) && !Scope::Invariant.reserves(name)) {
                let problem = Diagnostic::error("bad_name", format!("`{name}` is reserved in actions"));
                check.wrong_key(&Pointer::default().key(section).key(name.as_str()), problem.label("expected another name"));
            }
        }
    }
    for (id, raw_action) in raw {
        let pointer = root.key(id.as_str());
        check.identifier(&pointer, "an action", id);
        let mut of = Of { check, params: raw_action.params.keys().cloned().collect(), ground };
        if let Some(action) = of.action(&pointer, id, raw_action) {
            found.insert(id.clone(), action);
        }
        undo(check, &pointer.key("undo"), id, raw_action, raw);
    }
    found
}

/// Returns the observations that each name depends on. An observation depends on itself. A `let` depends on the observations that its
/// expression uses.
pub(super) fn about(observe: &[String], lets: &IndexMap<String, Text>) -> HashMap<String, Vec<String>> {
    let mut all: HashMap<String, Vec<String>> = observe.iter().map(|name| (name.clone(), vec![name.clone()])).collect();
    for (name, text) in lets {
        let of = mentioned(&text.0, &all);
        all.entry(name.clone()).or_insert(of);
    }
    all
}

fn mentioned(text: &str, all: &HashMap<String, Vec<String>>) -> Vec<String> {
    static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[A-Za-z_][A-Za-z0-9_]*").expect("a valid pattern"));
    let mut found: Vec<String> = WORD.find_iter(text).filter_map(|word| all.get(word.as_str())).flatten().cloned().collect();
    found.sort();
    found.dedup();
    found
}

fn undo(check: &mut Checker, pointer: &Pointer, id: &str, raw: &RawAction, all: &IndexMap<String, RawAction>) {
    let Some(undo) = raw.undo.as_deref().filter(|undo| *undo != "none") else { return };
    if undo == id {
        let problem = Diagnostic::error("bad_action", "an action cannot undo itself").label("expected another action, or `none`");
        check.wrong(pointer, problem);
    } else if !all.contains_key(undo) && !check.doc.lost("actions") {
        let others = all.keys().map(String::as_str).filter(|other| *other != id).chain(["none"]).collect::<Vec<_>>();
        check.unknown(pointer, "unknown_action", "action", undo, others);
    }
}

/// Resolver of one action. It knows the names of the action's parameters.
struct Of<'c, 'd, 'g> {
    check: &'c mut Checker<'d>,
    params: Vec<String>,
    ground: &'g ActionScope<'g>,
}

impl Of<'_, '_, '_> {
    fn action(&mut self, pointer: &Pointer, id: &str, raw: &RawAction) -> Option<Action> {
        if raw.description.trim().is_empty() {
            let problem = Diagnostic::error("bad_action", "the action has no description").label("expected a description of its effect");
            self.check.wrong(&pointer.key("description"), problem.help("agents choose actions by their descriptions"));
        }
        if raw.steps.is_empty() && !self.check.doc.lost("actions") {
            let problem = Diagnostic::error("bad_action", "the action has no steps").label("expected a step");
            self.check.wrong(&pointer.key("steps"), problem.help("steps are `http`, `node`, `exec` and `wait`"));
        }
        let params = raw.params.iter();
        let params =
            params.filter_map(|(name, raw)| Some((name.clone(), self.param(&pointer.key("params").key(name.as_str()), name, raw)?)));
        let params = params.collect();
        let at = pointer.key("require");
        let require = raw.require.0.iter().enumerate();
        let require: Vec<Requirement> =
            require.filter_map(|(place, one)| self.requirement(&item_of(self.check.doc, &at, &raw.require, place), one)).collect();
        let at = pointer.key("steps");
        let steps = raw.steps.iter().enumerate().filter_map(|(place, step)| self.step(&at.index(place), step)).collect();
        let ensure = raw.ensure.as_ref().and_then(|raw| self.ensure(&pointer.key("ensure"), raw));
        Some(Action {
            id: id.to_owned(),
            description: raw.description.trim().to_owned(),
            risk: raw.risk,
            params,
            require,
            steps,
            ensure,
            undo: raw.undo.clone().filter(|undo| undo != "none"),
        })
    }

    fn param(&mut self, pointer: &Pointer, name: &str, raw: &RawParam) -> Option<Param> {
        self.check.identifier(pointer, "a parameter", name);
        let belongs = [
            ("role", raw.role.is_some(), raw.kind == ParamType::Node, "node"),
            ("of", !raw.of.is_empty(), raw.kind == ParamType::Enum, "enum"),
            ("pattern", raw.pattern.is_some(), raw.kind == ParamType::String, "string"),
            ("min", raw.min.is_some(), is_measured(raw.kind), "integer`, `number` and `duration"),
            ("max", raw.max.is_some(), is_measured(raw.kind), "integer`, `number` and `duration"),
        ];
        for (key, given, fits, of) in belongs {
            if given && !fits {
                let problem = Diagnostic::error("bad_param", format!("`{key}` belongs to parameters of type `{of}`"));
                self.check.wrong_key(&pointer.key(key), problem.label("not used here"));
            }
        }
        let kind = self.kind(pointer, raw)?;
        let default = raw.default.as_ref().and_then(|value| match params::read(&kind, value) {
            Ok(value) => Some(value),
            Err(why) => {
                let problem = Diagnostic::error("bad_param", format!("the default of `{name}` is {why}"));
                self.check.wrong(&pointer.key("default"), problem.label("not a valid value of the parameter"));
                None
            }
        });
        Some(Param { kind, default, description: raw.description.trim().to_owned() })
    }

    fn kind(&mut self, pointer: &Pointer, raw: &RawParam) -> Option<ParamKind> {
        let roles = self.ground.roles;
        Some(match raw.kind {
            ParamType::Node => {
                if let Some(role) = raw.role.as_deref().filter(|role| !roles.contains(role)) {
                    if !self.check.doc.lost("nodes") {
                        self.check.unknown(&pointer.key("role"), "unknown_role", "role", role, roles.iter().copied());
                    }
                    return None;
                }
                let fits = |node: &&Node| raw.role.as_ref().is_none_or(|role| node.role == *role);
                ParamKind::Node { names: self.ground.nodes.iter().filter(fits).map(|node| node.name.clone()).collect() }
            }
            ParamType::Role => ParamKind::Role { names: roles.iter().map(|role| (*role).to_owned()).collect() },
            ParamType::String => {
                if let Some(pattern) = &raw.pattern {
                    self.check.pattern(&pointer.key("pattern"), pattern);
                }
                ParamKind::String { pattern: raw.pattern.clone() }
            }
            ParamType::Integer => {
                let parse = |text: &str| text.parse::<i64>().ok();
                let (min, max) = self.bounds(pointer, raw, "a whole number", parse);
                ParamKind::Integer { min, max }
            }
            ParamType::Number => {
                let parse = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
                let (min, max) = self.bounds(pointer, raw, "a number", parse);
                ParamKind::Number { min, max }
            }
            ParamType::Boolean => ParamKind::Boolean,
            ParamType::Duration => {
                let (min, max) = self.bounds(pointer, raw, "a duration such as `10s`", |text| quantity::duration(text).ok());
                ParamKind::Duration { min, max }
            }
            ParamType::Enum => {
                let of: Vec<String> = raw.of.iter().map(|word| word.0.clone()).collect();
                if of.is_empty() {
                    let problem = Diagnostic::error("bad_param", "the `enum` has no words").label("expected `of: [...]` beside this");
                    self.check.wrong(&pointer.key("type"), problem);
                    return None;
                }
                self.check.no_duplicates(&pointer.key("of"), &of);
                ParamKind::Enum { of }
            }
        })
    }

    fn bounds<T: PartialOrd>(
        &mut self,
        pointer: &Pointer,
        raw: &RawParam,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> (Option<T>, Option<T>) {
        let mut one = |key: &str, raw: Option<&RawAmount>| {
            let raw = raw?;
            let parsed = parse(&raw.0);
            if parsed.is_none() {
                let problem = Diagnostic::error("bad_param", format!("`{}` is no bound of this parameter", raw.0));
                self.check.wrong(&pointer.key(key), problem.label(format!("expected {expected}")));
            }
            parsed
        };
        let (min, max) = (one("min", raw.min.as_ref()), one("max", raw.max.as_ref()));
        if let (Some(low), Some(high)) = (&min, &max)
            && low > high
        {
            let problem = Diagnostic::error("out_of_range", "`max` is below `min`").label("the range is empty");
            self.check.wrong(&pointer.key("max"), problem);
        }
        (min, max)
    }

    fn requirement(&mut self, pointer: &Pointer, raw: &Short<RawRequire>) -> Option<Requirement> {
        let (at, expr, message) = match raw {
            Short::Word(text) => (pointer.clone(), &Text(text.clone()), None),
            Short::Full(RawRequire { expr, message }) => (pointer.key("expr"), expr, message.as_ref()),
        };
        let message = message.and_then(|text| self.template(&pointer.key("message"), text, &[]));
        let expr = self.expr(&at, expr)?;
        Some(Requirement { about: mentioned(&expr.text, self.ground.about), expr, message })
    }

    fn ensure(&mut self, pointer: &Pointer, raw: &Short<RawEnsure>) -> Option<Ensure> {
        let (at, text, within) = match raw {
            Short::Word(text) => (pointer.clone(), &Text(text.clone()), None),
            Short::Full(RawEnsure { expr, within }) => (pointer.key("expr"), expr, within.as_ref()),
        };
        let within = self.check.duration(&pointer.key("within"), within, WITHIN);
        let expr = self.expr(&at, text)?;
        Some(Ensure { about: mentioned(&expr.text, self.ground.about), expr, within })
    }

    fn step(&mut self, pointer: &Pointer, raw: &RawStep) -> Option<Step> {
        Some(match raw {
            RawStep::Http(raw) => Step::Http(Box::new(self.http(&pointer.key("http"), raw)?)),
            RawStep::Node(raw) => Step::Node(self.node(&pointer.key("node"), raw)?),
            RawStep::Exec(raw) => Step::Exec(self.exec(&pointer.key("exec"), raw)?),
            RawStep::Wait(RawWaitStep { until, within }) => {
                let pointer = pointer.key("wait");
                let within = self.check.duration(&pointer.key("within"), within.as_ref(), WITHIN);
                let expr = self.expr(&pointer.key("until"), until)?;
                Step::Wait(Ensure { about: mentioned(&expr.text, self.ground.about), expr, within })
            }
        })
    }

    fn http(&mut self, pointer: &Pointer, raw: &RawHttpStep) -> Option<HttpStep> {
        let on = raw.on.as_ref().map(|text| self.any_role(&pointer.key("on"), text));
        let more: &[&str] = if on.is_some() { &["self"] } else { &[] };
        let method = self.check.method(&pointer.key("method"), raw.method.as_deref());
        let headers = raw.headers.iter();
        let headers = headers
            .filter_map(|(name, text)| Some((name.clone(), self.template(&pointer.key("headers").key(name.as_str()), text, more)?)))
            .collect();
        let body = raw.body.as_ref().and_then(|body| self.template(&pointer.key("body"), body, more));
        let expect = self.expect(&pointer.key("expect"), raw.expect.as_ref(), "status >= 200 and status < 300");
        let timeout = self.check.duration(&pointer.key("timeout"), raw.timeout.as_ref(), TIMEOUT);
        let refused = self.meanings(&pointer.key("refused"), &raw.refused);
        let url = self.template(&pointer.key("url"), &raw.url, more)?;
        let on = match on {
            None => None,
            Some(role) => Some(role?),
        };
        let about = self.about([&raw.url].into_iter().chain(&raw.body).chain(raw.headers.values()));
        Some(HttpStep { about, on, method, url, headers, body, expect: expect?, timeout, refused })
    }

    fn any_role(&mut self, pointer: &Pointer, text: &str) -> Option<String> {
        match super::probe::on(self.check, pointer, text, self.ground.roles)? {
            On::Any(role) => Some(role),
            On::Each(_) | On::Workload | On::Tools => {
                let problem = Diagnostic::error("unknown_word", format!("`{text}` is not a valid target"));
                self.check.wrong(pointer, problem.label("expected `any ROLE`").help("use one step per node"));
                None
            }
        }
    }

    fn node(&mut self, pointer: &Pointer, raw: &RawNodeStep) -> Option<NodeStep> {
        let grace = self.check.maybe_duration(&pointer.key("grace"), raw.grace.as_ref());
        Some(NodeStep { about: self.about([&raw.node]), node: self.node_name(&pointer.key("node"), &raw.node)?, verb: raw.verb, grace })
    }

    fn exec(&mut self, pointer: &Pointer, raw: &RawExecStep) -> Option<ExecStep> {
        if raw.command.is_empty() {
            let problem = Diagnostic::error("no_command", "the step has no command").label("expected a program and its arguments");
            self.check.wrong(&pointer.key("command"), problem);
        }
        let words = raw.command.iter().enumerate();
        let command = words.filter_map(|(at, word)| self.template(&pointer.key("command").index(at), word, &[])).collect();
        let expect = self.expect(&pointer.key("expect"), raw.expect.as_ref(), "status == 0");
        let refused = self.meanings(&pointer.key("refused"), &raw.refused);
        let about = self.about(raw.command.iter().chain([&raw.node]));
        Some(ExecStep { about, node: self.node_name(&pointer.key("node"), &raw.node)?, command, expect: expect?, refused })
    }

    fn about<'t>(&self, texts: impl IntoIterator<Item = &'t Text>) -> Vec<String> {
        let all: Vec<&str> = texts.into_iter().map(|text| text.0.as_str()).collect();
        mentioned(&all.join(" "), self.ground.about)
    }

    /// Compiles the name of a node, which may be a template. A constant name is checked immediately.
    fn node_name(&mut self, pointer: &Pointer, text: &Text) -> Option<Template> {
        let nodes = self.ground.nodes;
        if !text.0.contains("{{") && !nodes.iter().any(|node| node.name == text.0) && !self.check.doc.lost("nodes") {
            let problem = unknown("unknown_node", "node", &text.0, nodes.iter().map(|node| node.name.as_str()));
            let is_param = self.params.contains(&text.0);
            let problem = if is_param { problem.label(format!("the parameter is `{{{{ params.{}.name }}}}`", text.0)) } else { problem };
            self.check.wrong(pointer, problem);
            return None;
        }
        self.template(pointer, text, &[])
    }

    fn expect(&mut self, pointer: &Pointer, text: Option<&Text>, own: &str) -> Option<Expr> {
        match text {
            Some(text) => self.check.expr(pointer, text, Scope::Response, &[]),
            None => self.check.own_expr(own, Scope::Response),
        }
    }

    fn meanings(&mut self, pointer: &Pointer, raw: &IndexMap<String, Text>) -> Vec<Meaning> {
        let mut found = Vec::new();
        for (pattern, text) in raw {
            let at = pointer.key(pattern.as_str());
            if let Err(error) = Regex::new(pattern) {
                let said = error.to_string();
                let last = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                self.check.wrong_key(&at, Diagnostic::error("bad_pattern", "this is not a valid regular expression").label(last));
            }
            let text = self.template(&at, text, &["status", "text"]);
            found.extend(text.map(|text| Meaning { pattern: pattern.clone(), text }));
        }
        found
    }

    fn expr(&mut self, pointer: &Pointer, text: &Text) -> Option<Expr> {
        self.asked_params(pointer, &text.0);
        self.check.expr(pointer, text, SCOPE, self.ground.known)
    }

    fn template(&mut self, pointer: &Pointer, text: &Text, more: &[&str]) -> Option<Template> {
        self.asked_params(pointer, &text.0);
        let known: Vec<String> = self.ground.known.iter().cloned().chain(more.iter().map(|name| (*name).to_owned())).collect();
        self.check.template(pointer, text, SCOPE, &known)
    }

    /// Checks that all parameters used in a text are declared. Without this check, the error would occur only when the action runs.
    fn asked_params(&mut self, pointer: &Pointer, text: &str) {
        static ASKED: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r#"\bparams\s*(?:\.\s*([A-Za-z_]\w*)|\[\s*['"]([^'"]*)['"]\s*\])"#).expect("a valid pattern"));
        let place = self.check.place(pointer);
        for asked in ASKED.captures_iter(text) {
            let Some(name) = asked.get(1).or_else(|| asked.get(2)) else { continue };
            if !self.params.iter().any(|known| known == name.as_str()) {
                let problem = unknown("unknown_param", "parameter", name.as_str(), self.params.iter().map(String::as_str));
                self.check.problems.push(problem.at(place.within(name.range())));
            }
        }
    }
}

const fn is_measured(kind: ParamType) -> bool {
    matches!(kind, ParamType::Integer | ParamType::Number | ParamType::Duration)
}

/// Returns the problem of an action call in a script. `given` contains the names of the passed parameters. Returns `None` if the call is
/// valid.
pub(crate) fn unfit(actions: &IndexMap<String, Action>, cluster: &str, id: &str, given: &[&str]) -> Option<Diagnostic> {
    let Some(action) = actions.get(id) else {
        let problem = unknown("unknown_action", "action", id, actions.keys().map(String::as_str));
        return Some(if actions.is_empty() { problem.help(format!("cluster `{cluster}` declares no `actions`")) } else { problem });
    };
    let known = || action.params.keys().map(String::as_str);
    if let Some(name) = given.iter().find(|name| !action.params.contains_key(**name)) {
        return Some(unknown("unknown_param", "parameter", name, known().collect::<Vec<_>>()));
    }
    let missing = |(name, param): &(&String, &Param)| param.default.is_none() && !given.contains(&name.as_str());
    let missing: Vec<&str> = action.params.iter().filter(missing).map(|(name, _)| name.as_str()).collect();
    if missing.is_empty() {
        return None;
    }
    let problem = Diagnostic::error("missing_param", format!("action `{id}` has no value for {}", names::listed(missing.iter().copied())));
    Some(problem.label("expected it under `params`"))
}
