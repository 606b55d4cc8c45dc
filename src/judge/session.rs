//! Asking: what was not asked before, one trial after the other, within the judge's limits.

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Serialize;

use super::agreement::Agreement;
use super::answer::{Answer, TOOL, read, tool};
use super::gather::{Gathered, Question};
use super::{Judgement, Said};
use crate::agent::model::cassette::Tape;
use crate::agent::model::client::Client;
use crate::agent::model::{CallResult, Entry, ModelError, Part, Spec, Usage, declared};
use crate::ids::TrialId;
use crate::scenario::model::Judge;
use crate::store::{Database, StoreError};

/// Exchanges until an answer can be read.
const TRIES: u32 = 3;

/// What asking needs.
#[derive(Debug)]
pub struct Session<'a> {
    pub judge: &'a Judge,
    pub tape: Tape,
    /// Asked again, whatever was said before.
    pub again: bool,
}

/// What became of all questions.
#[derive(Debug, Serialize)]
pub struct Verdicts {
    /// The judge's name.
    pub judge: String,
    pub model: String,
    /// The judge's digest.
    pub digest: String,
    /// Questions that the model was asked now, and those whose answers were known.
    pub asked: usize,
    pub known: usize,
    pub usage: Usage,
    pub usd: f64,
    /// By why not, how many trials were left out.
    pub left: IndexMap<String, usize>,
    /// Those among them whose agent is the judge's own model.
    pub own: Vec<TrialId>,
    /// Why it ended before all were judged.
    pub ended: Option<Ended>,
    pub agreement: Agreement,
    #[serde(skip)]
    pub judged: Vec<Judged>,
}

/// A trial that was judged.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    pub scenario: String,
    pub variant: String,
    /// What the rules say, in the judge's words.
    pub rules: Option<super::Cause>,
    pub rules_evidence: Option<bool>,
    /// It was said before.
    pub known: bool,
    #[serde(flatten)]
    pub judgement: Judgement,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "why", content = "text")]
pub enum Ended {
    /// A limit of the judge is spent.
    Limit(String),
    /// The model, or the way to it, has failed.
    Failed(String),
    Interrupted,
}

/// Asks. Each answer is kept as soon as it is there: it was paid for.
///
/// # Errors
/// The record cannot be read or written. What a model does is no error.
pub async fn judge(session: Session<'_>, gathered: Gathered, database: &Database, writer: &Database) -> Result<Verdicts, StoreError> {
    let Session { judge, tape, again } = session;
    let mut left = gathered.without;
    if !gathered.own.is_empty() {
        left.insert(format!("`{}` is its agent's own model", judge.model.model), gathered.own.len());
    }
    let mut verdicts = Verdicts {
        judge: judge.name.clone(),
        model: judge.model.model.clone(),
        digest: gathered.judge,
        asked: 0,
        known: 0,
        usage: Usage::default(),
        usd: 0.0,
        left,
        own: gathered.own,
        ended: None,
        agreement: Agreement::of(&[], &[]),
        judged: Vec::new(),
    };
    for question in gathered.questions {
        let before = if again { None } else { database.said_before(&verdicts.digest, &question.digest)? };
        let known = before.is_some();
        let said = match before {
            Some(said) => said,
            None => match within(judge, &verdicts) {
                Some(limit) => {
                    verdicts.ended = Some(Ended::Limit(limit));
                    break;
                }
                None => match ask(judge, &tape, &question, &mut verdicts).await {
                    Ok(said) => said,
                    Err(ended) => {
                        verdicts.ended = Some(ended);
                        break;
                    }
                },
            },
        };
        verdicts.known += usize::from(known);
        let judgement =
            Judgement { trial: question.trial, judge: verdicts.digest.clone(), prompt: question.digest, at: Timestamp::now(), said };
        writer.keep_judgement(&judgement)?;
        let Question { scenario, variant, rules, evidence, .. } = question;
        verdicts.judged.push(Judged { scenario, variant, rules, rules_evidence: evidence, known, judgement });
    }
    let causes: Vec<_> = verdicts.judged.iter().filter_map(|one| Some((one.rules?, one.judgement.said.answer.root_cause))).collect();
    let evidence: Vec<_> =
        verdicts.judged.iter().filter_map(|one| Some((one.rules_evidence?, one.judgement.said.answer.evidence_supported))).collect();
    verdicts.agreement = Agreement::of(&causes, &evidence);
    if let Err(problem) = tape.close()
        && verdicts.ended.is_none()
    {
        verdicts.ended = Some(Ended::Failed(problem));
    }
    Ok(verdicts)
}

/// The limit that is spent, before another question is asked.
fn within(judge: &Judge, verdicts: &Verdicts) -> Option<String> {
    let tokens = verdicts.usage.prompt() + verdicts.usage.output;
    match (judge.usd, judge.tokens) {
        (Some(usd), _) if verdicts.usd >= usd => Some(format!("its ${usd} are spent")),
        (_, Some(most)) if tokens >= most => Some(format!("its {most} tokens are spent")),
        _ => None,
    }
}

/// One question, until it is answered in the form that is wanted. What it has cost counts whatever became of it.
async fn ask(judge: &Judge, tape: &Tape, question: &Question, verdicts: &mut Verdicts) -> Result<Said, Ended> {
    // By what is asked, so that a cassette answers whichever trials are judged.
    let source = tape.source(&question.digest).map_err(Ended::Failed)?;
    let mut client = declared::client(&judge.model, 0, source).map_err(Ended::Failed)?;
    let meter = client.meter();
    verdicts.asked += 1;
    let answered = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(Ended::Interrupted),
        answered = exchanges(judge, &mut client, question) => answered.map_err(Ended::Failed),
    };
    let spent = meter.spent();
    verdicts.usage += spent.usage;
    verdicts.usd += spent.usd;
    let (answer, model) = answered?;
    Ok(Said { name: judge.name.clone(), model, answer, usage: spent.usage, usd: spent.usd })
}

async fn exchanges(judge: &Judge, client: &mut Client, question: &Question) -> Result<(Answer, String), String> {
    let model = &judge.model;
    let spec = Spec {
        model: model.model.clone(),
        system: String::new(),
        tools: vec![tool()],
        max_tokens: model.max_tokens,
        thinking: model.thinking,
        effort: model.effort.clone(),
        temperature: model.temperature,
    };
    let mut history = vec![Entry::User(question.prompt.clone())];
    let mut wrong = String::new();
    for _ in 0..TRIES {
        let reply = client.ask(&spec, &history, &|_| {}).await.map_err(|error: ModelError| format!("`{}`: {error}", model.model))?;
        let stop = reply.stop.word().to_owned();
        let calls: Vec<_> = reply
            .parts
            .into_iter()
            .filter_map(|part| match part {
                Part::Call(call) => Some(call),
                Part::Text(_) | Part::Thinking(_) => None,
            })
            .collect();
        history.push(Entry::Assistant(reply.message));
        let mut results = Vec::new();
        for call in calls {
            let taken = match call.arguments {
                Ok(arguments) if call.tool == TOOL => read(arguments),
                Ok(_) => Err(format!("there is no tool `{}`", call.tool)),
                Err(bad) => Err(bad.why),
            };
            match taken {
                Ok(answer) => return Ok((answer, reply.model)),
                Err(why) => {
                    wrong.clone_from(&why);
                    results.push(CallResult { id: call.id, text: format!("error: {why}"), failed: true });
                }
            }
        }
        if results.is_empty() {
            wrong = format!("it used no tool and stopped by `{stop}`");
            history.push(Entry::User(format!("Answer by one call of the tool `{TOOL}`.")));
        } else {
            history.push(Entry::Results(results));
        }
    }
    Err(format!("`{}` gave no judgement in {TRIES} exchanges: {wrong}", model.model))
}
