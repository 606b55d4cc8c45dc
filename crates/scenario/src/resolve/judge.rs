//! Resolution of a judge, which is a variant file with the key `judges`.

use std::sync::Arc;

use indexmap::IndexMap;

use super::provider::{self, ModelOffer};
use super::variant::{name, override_limits};
use super::{Checker, program};
use crate::model::{Judge, Wire};
use crate::raw::{RawProvider, RawVariant};
use chaosrun_diagnostic::{Diagnostic, Pointer, SourceFile};
use chaosrun_expr::{Scope, Template};
use chaosrun_input::Document;

/// Resolves a judge. `files` contains the template of the judge's prompt. Returns `None` if the file cannot be a judge.
pub fn judge(doc: &Document, raw: &RawVariant, files: &IndexMap<String, Arc<SourceFile>>) -> (Option<Judge>, Vec<Diagnostic>) {
    let mut check = Checker::new(doc);
    let root = Pointer::default();
    let given = [
        ("rules", !raw.rules.is_empty()),
        ("sandbox", raw.sandbox),
        ("tools", raw.tools.is_some()),
        ("system", raw.system.is_some()),
        ("summary", raw.summary.is_some()),
        ("window", raw.window.is_some()),
        ("cassette", raw.cassette.is_some()),
        ("mode", raw.mode.is_some()),
        ("of", raw.of.is_some()),
    ];
    for (key, _) in given.into_iter().filter(|(_, given)| *given) {
        let problem = Diagnostic::error("bad_judge", format!("`{key}` is only valid for agents")).label("not used for judges");
        check.wrong_key(&root.key(key), problem);
    }
    for (key, given) in [
        ("wall", raw.limits.wall.is_some()),
        ("turns", raw.limits.turns.is_some()),
        ("command", raw.limits.command.is_some()),
        ("output", raw.limits.output.is_some()),
    ] {
        if given {
            let problem = Diagnostic::error("bad_judge", format!("`{key}` is a limit for agents")).label("not used for judges");
            check.wrong_key(
                &root.key("limits").key(key),
                problem.help("a judge supports `usd` and `tokens` for all requests of one invocation"),
            );
        }
    }
    program::no_program(&mut check, raw);
    let limits = override_limits(&mut check, &root.key("limits"), &raw.limits);
    let name = name(&mut check, raw);
    let wire = match raw.provider {
        RawProvider::Anthropic => Wire::Anthropic,
        RawProvider::Openai => Wire::Openai,
        _ => {
            let problem = Diagnostic::error("bad_judge", "a judge must be a model").label("expected `anthropic` or `openai`");
            check.wrong(&root.key("provider"), problem.help("to replay a recorded judge, use `chaosrun judge --replay CASSETTE`"));
            return (None, check.problems);
        }
    };
    let prompt = files.get(provider::of_judge(raw)).and_then(|file| provider::template(&mut check, file, Scope::Judge));
    // A judge has no system prompt. Its prompt contains everything.
    let system = Template::compile("", None, Scope::Judge, &[]).ok();
    let told = prompt.zip(system).map(|(prompt, system)| ModelOffer { tools: Vec::new(), system, prompt });
    let model = provider::asked(&mut check, raw, wire, told);
    let file = Arc::clone(&doc.file);
    let judge = model.map(|model| Judge { name, file, model, usd: limits.usd, tokens: limits.tokens });
    (judge, check.problems)
}
