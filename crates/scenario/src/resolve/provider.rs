//! Resolution of the model that a variant uses.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::Checker;
use crate::model::{KeySource, ModelSpec, Price, Provider, Summary, Thinking, Tool, Wire};
use crate::raw::{RawKey, RawPrice, RawProvider, RawSummary, RawThinking, RawTool, RawVariant};
use chaosrun_diagnostic::{Diagnostic, Pointer, SourceFile, SourcePlace};
use chaosrun_expr::{Scope, Template};

/// Path of the default template for the prompt of an external program.
const OUTSIDE: &str = "prompts/outside.md.j2";
const SYSTEM: &str = "prompts/kitchen.md.j2";
const PROMPT: &str = "prompts/ticket.md.j2";
const JUDGE: &str = "prompts/judge.md.j2";
const MAX_TOKENS: u64 = 16_000;
const PATIENCE: Duration = Duration::from_secs(600);
const RETRIES: u32 = 4;
const SUMMARY_TOKENS: u64 = 4_000;
/// Accepted versions of the Messages API of Anthropic. The first version is the default.
const VERSIONS: [&str; 2] = ["2026-10-21", "2023-06-01"];

/// Returns the templates that a variant needs, as pairs of the key in the variant file and the path.
pub fn prompts(raw: &RawVariant) -> Vec<(&'static str, &str)> {
    match raw.provider {
        _ if raw.judges.is_some() => vec![("prompt", of_judge(raw))],
        RawProvider::Anthropic | RawProvider::Openai | RawProvider::Command => both(raw).to_vec(),
        _ => Vec::new(),
    }
}

/// Returns the path of the template for a judge's prompt.
pub(super) fn of_judge(raw: &RawVariant) -> &str {
    raw.prompt.as_deref().unwrap_or(JUDGE)
}

pub(super) fn both(raw: &RawVariant) -> [(&'static str, &str); 2] {
    let system = if raw.provider == RawProvider::Command { OUTSIDE } else { SYSTEM };
    [("system", raw.system.as_deref().unwrap_or(system)), ("prompt", raw.prompt.as_deref().unwrap_or(PROMPT))]
}

/// Reports keys that are only valid for variants with a model.
pub(super) fn no_model(check: &mut Checker, raw: &RawVariant) {
    let given = [
        ("model", raw.model.is_some()),
        ("base_url", raw.base_url.is_some()),
        ("key", raw.key.is_some()),
        ("version", raw.version.is_some()),
        ("max_tokens", raw.max_tokens.is_some()),
        ("thinking", raw.thinking.is_some()),
        ("effort", raw.effort.is_some()),
        ("temperature", raw.temperature.is_some()),
        ("window", raw.window.is_some()),
        ("patience", raw.patience.is_some()),
        ("retries", raw.retries.is_some()),
        ("price", raw.price.is_some()),
        ("summary", raw.summary.is_some()),
    ];
    let told = [("tools", raw.tools.is_some()), ("system", raw.system.is_some()), ("prompt", raw.prompt.is_some())];
    let told = told.into_iter().filter(|_| raw.provider != RawProvider::Command);
    let help = match raw.provider {
        RawProvider::Cassette => "the cassette contains the recorded model with its prompts and tools",
        _ => "for a model, use `provider: anthropic` or `provider: openai`",
    };
    for (key, _) in given.into_iter().chain(told).filter(|(_, given)| *given) {
        let problem = Diagnostic::error("bad_variant", format!("`{key}` is only valid for models")).label("not used by this provider");
        check.wrong_key(&Pointer::default().key(key), problem.help(help));
    }
}

/// Checks that the key `cassette` is present if the provider is `cassette`, and absent otherwise.
pub(super) fn cassette(check: &mut Checker, raw: &RawVariant) {
    let root = Pointer::default();
    if raw.provider == RawProvider::Cassette {
        if raw.cassette.as_ref().is_none_or(String::is_empty) && !check.doc.lost("cassette") {
            let problem = Diagnostic::error("bad_variant", "`cassette` is missing").label("expected `cassette` in this file");
            check.wrong(&root.key("provider"), problem.help("a file or folder written by `chaosrun run --record`"));
        }
        return;
    }
    let given = [("cassette", raw.cassette.is_some()), ("mode", raw.mode.is_some()), ("of", raw.of.is_some())];
    for (key, _) in given.into_iter().filter(|(_, given)| *given) {
        let problem = Diagnostic::error("bad_variant", format!("`{key}` is only valid with `provider: cassette`"));
        check.wrong_key(&root.key(key), problem.label("not used by this provider"));
    }
}

pub(super) fn model(check: &mut Checker, raw: &RawVariant, wire: Wire, files: &IndexMap<String, Arc<SourceFile>>) -> Provider {
    let tools = tools(check, raw);
    if !tools.contains(&Tool::SubmitDiagnosis) && !check.doc.lost("tools") {
        let problem = Diagnostic::error("bad_variant", "a model needs the tool `submit_diagnosis` to finish")
            .label("expected `submit_diagnosis` in this list");
        check.wrong(&Pointer::default().key("tools"), problem);
    }
    let [system, prompt] = both(raw).map(|(_, name)| template(check, files.get(name)?, Scope::Prompt));
    // A missing or invalid template is already reported.
    let told = system.zip(prompt).map(|(system, prompt)| ModelOffer { tools, system, prompt });
    asked(check, raw, wire, told).map_or(Provider::Noop, |spec| Provider::Model(Box::new(spec)))
}

/// Tools and prompts that a request offers to a model.
pub(super) struct ModelOffer {
    pub tools: Vec<Tool>,
    pub system: Template,
    pub prompt: Template,
}

/// Resolves the settings of a model. Returns `None` only if `told` is `None`, which means that a template is missing or invalid.
pub(super) fn asked(check: &mut Checker, raw: &RawVariant, wire: Wire, told: Option<ModelOffer>) -> Option<ModelSpec> {
    let root = Pointer::default();
    if raw.model.as_ref().is_none_or(String::is_empty) && !check.doc.lost("model") {
        let problem = Diagnostic::error("bad_variant", "`model` is missing").label("expected `model` in this file");
        check.wrong(&root.key("provider"), problem.help("the model name used by the server, such as `claude-opus-5-5`"));
    }
    let base_url = server(check, &root, raw.base_url.as_deref(), wire);
    let key = key(check, &root.key("key"), raw.key.as_ref(), raw.base_url.is_some(), wire);
    let version = raw.version.clone().unwrap_or_else(|| VERSIONS[0].to_owned());
    let summary = raw.summary.as_ref().map(|raw| Box::new(summary(check, raw, wire, &base_url, &key, &version)));
    if wire == Wire::Openai && raw.version.is_some() {
        let problem =
            Diagnostic::error("bad_variant", "`version` is only valid with `provider: anthropic`").label("not used by this provider");
        check.wrong_key(&root.key("version"), problem);
    }
    if let Some(version) = raw.version.as_deref().filter(|version| !VERSIONS.contains(version)) {
        let problem = Diagnostic::error("unknown_word", format!("unknown version `{version}` of the Messages API"));
        check.wrong(&root.key("version"), problem.label(format!("expected one of {}", VERSIONS.join(", "))));
    }
    let max_tokens = check.count(&root.key("max_tokens"), raw.max_tokens.as_ref()).unwrap_or(MAX_TOKENS);
    if max_tokens == 0 {
        let problem = Diagnostic::error("out_of_range", "an answer needs at least one token").label("expected at least 1");
        check.wrong(&root.key("max_tokens"), problem);
    }
    let thinking = match raw.thinking {
        None => Thinking::Unsaid,
        Some(RawThinking::Adaptive) => Thinking::Adaptive,
        Some(RawThinking::BetweenTools) => Thinking::BetweenTools,
        Some(RawThinking::Disabled) => Thinking::Off,
        Some(RawThinking::Budget(budget)) => {
            if u64::from(budget) >= max_tokens || budget < 1024 {
                let problem = Diagnostic::error(
                    "out_of_range",
                    format!("a thinking budget of {budget} tokens does not fit into an answer of {max_tokens} tokens"),
                );
                check.wrong(&root.key("thinking"), problem.label("expected at least 1024, and less than `max_tokens`"));
            }
            Thinking::Budget(budget)
        }
    };
    let price = raw.price.as_ref().map(|raw| price(check, &root.key("price"), raw));
    let window = check.count(&root.key("window"), raw.window.as_ref());
    let patience = check.maybe_duration(&root.key("patience"), raw.patience.as_ref()).unwrap_or(PATIENCE);
    let ModelOffer { tools, system, prompt } = told?;
    Some(ModelSpec {
        wire,
        model: raw.model.clone().unwrap_or_default(),
        base_url,
        key,
        version,
        max_tokens: u32::try_from(max_tokens).unwrap_or(u32::MAX),
        thinking,
        effort: raw.effort.clone(),
        temperature: raw.temperature,
        window,
        patience,
        retries: raw.retries.unwrap_or(RETRIES),
        price,
        tools,
        system,
        prompt,
        summary,
        cassettes: None,
    })
}

/// Returns the tools that a variant names. Returns the default tools if the variant names none.
pub(super) fn tools(check: &mut Checker, raw: &RawVariant) -> Vec<Tool> {
    let root = Pointer::default();
    let mut tools: Vec<Tool> = Vec::new();
    for (at, tool) in raw.tools.as_deref().unwrap_or(&[RawTool::Shell, RawTool::SubmitDiagnosis]).iter().enumerate() {
        let tool = match tool {
            RawTool::Shell => Tool::Shell,
            RawTool::Act => Tool::Act,
            RawTool::Observe => Tool::Observe,
            RawTool::SubmitDiagnosis => Tool::SubmitDiagnosis,
        };
        if tools.contains(&tool) {
            let problem = Diagnostic::error("duplicate_name", format!("`{}` is listed twice", tool.name()));
            check.wrong(&root.key("tools").index(at), problem.label("already named above"));
        }
        tools.push(tool);
    }
    tools
}

/// Resolves the model for summaries. Missing settings are taken from the main model.
fn summary(check: &mut Checker, raw: &RawSummary, wire: Wire, base_url: &str, own_key: &KeySource, version: &str) -> Summary {
    let pointer = Pointer::default().key("summary");
    let own = match raw.provider {
        None => wire,
        Some(RawProvider::Anthropic) => Wire::Anthropic,
        Some(RawProvider::Openai) => Wire::Openai,
        Some(_) => {
            let problem = Diagnostic::error("bad_variant", "the summary needs a model").label("expected `anthropic` or `openai`");
            check.wrong(&pointer.key("provider"), problem);
            wire
        }
    };
    if raw.model.is_empty() {
        let problem = Diagnostic::error("bad_variant", "`model` is missing").label("expected the model name used by the server");
        check.wrong(&pointer.key("model"), problem);
    }
    let same_place = raw.base_url.is_none() && own == wire;
    let base_url = if same_place { base_url.to_owned() } else { server(check, &pointer, raw.base_url.as_deref(), own) };
    let key = match &raw.key {
        None if same_place => own_key.clone(),
        given => key(check, &pointer.key("key"), given.as_ref(), raw.base_url.is_some(), own),
    };
    let max_tokens = check.count(&pointer.key("max_tokens"), raw.max_tokens.as_ref()).unwrap_or(SUMMARY_TOKENS);
    Summary {
        wire: own,
        model: raw.model.clone(),
        base_url,
        key,
        version: version.to_owned(),
        max_tokens: u32::try_from(max_tokens).unwrap_or(u32::MAX).max(1),
        price: raw.price.as_ref().map(|raw| price(check, &pointer.key("price"), raw)),
    }
}

const fn own_url(wire: Wire) -> &'static str {
    match wire {
        Wire::Anthropic => "https://api.anthropic.com",
        Wire::Openai => "https://api.openai.com/v1",
    }
}

/// Returns the URL `given` of the model server, or the default URL of the provider. `within` is the pointer of the map with the key
/// `base_url`.
pub(super) fn server(check: &mut Checker, within: &Pointer, given: Option<&str>, wire: Wire) -> String {
    let base_url = given.unwrap_or(own_url(wire)).to_owned();
    if !(base_url.starts_with("https://") || base_url.starts_with("http://")) {
        let problem = Diagnostic::error("bad_url", format!("`{base_url}` is not the URL of a server"));
        check.wrong(&within.key("base_url"), problem.label("expected `https://HOST` or `http://HOST:PORT`"));
    }
    base_url
}

/// Returns the source of the API key. If the variant uses a server of its own, a key is used only if the file names one.
pub(super) fn key(check: &mut Checker, pointer: &Pointer, raw: Option<&RawKey>, elsewhere: bool, wire: Wire) -> KeySource {
    let Some(RawKey { env, file }) = raw else {
        let own = if wire == Wire::Anthropic { "ANTHROPIC_API_KEY" } else { "OPENAI_API_KEY" };
        return if elsewhere { KeySource::None } else { KeySource::Env(own.to_owned()) };
    };
    match (env, file) {
        (Some(name), None) => KeySource::Env(name.clone()),
        (None, Some(file)) => KeySource::File(PathBuf::from(file)),
        _ => {
            let problem =
                Diagnostic::error("bad_variant", "the key must be in an environment variable or a file").label("expected `env` or `file`");
            check.wrong(pointer, problem);
            KeySource::None
        }
    }
}

pub(super) fn price(check: &mut Checker, pointer: &Pointer, raw: &RawPrice) -> Price {
    let given =
        [("input", Some(raw.input)), ("output", Some(raw.output)), ("cache_read", raw.cache_read), ("cache_write", raw.cache_write)];
    for (name, value) in given {
        check.within(&pointer.key(name), value, 0.0..=1e6, 0.0);
    }
    let (cache_read, cache_write) = (raw.cache_read.unwrap_or(raw.input), raw.cache_write.unwrap_or(raw.input));
    Price { input: raw.input, output: raw.output, cache_read, cache_write }
}

pub(super) fn template(check: &mut Checker, file: &Arc<SourceFile>, scope: Scope) -> Option<Template> {
    let place = SourcePlace::new(Arc::clone(file), Pointer::default());
    match Template::compile(&file.text, Some(place), scope, &[]) {
        Ok(template) => Some(template),
        Err(mut problems) => {
            check.problems.append(&mut problems);
            None
        }
    }
}
