//! Judging session: sends the questions without a stored answer to the judge, one after the other, within the judge's limits.

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Serialize;

use super::agreement::Agreement;
use super::answer::{TOOL, read, tool};
use super::gather::{Gathered, JudgeQuestion};
use super::{Judgement, Said};
use chaosrun_base::ids::TrialId;
use chaosrun_event::JudgeAnswer as Answer;
use chaosrun_models::cassette::Tape;
use chaosrun_models::client::ModelClient;
use chaosrun_models::{CallResult, ConversationEntry, MessagePart, ModelError, Spec, Usage, declared};
use chaosrun_scenario::model::Judge;
use chaosrun_store::{Database, StoreError};

/// Maximum number of exchanges per question until the judge gives an answer that can be parsed.
const TRIES: u32 = 3;

/// Inputs of a judging session.
#[derive(Debug)]
pub struct JudgeInputs<'a> {
    pub judge: &'a Judge,
    pub tape: Tape,
    /// True to ask the judge again about trials that have a stored answer.
    pub again: bool,
}

/// Result of a judging session.
#[derive(Debug, Serialize)]
pub struct Verdicts {
    /// Name of the judge.
    pub judge: String,
    pub model: String,
    /// Digest of the judge.
    pub digest: String,
    /// Number of questions sent to the judge in this session.
    pub asked: usize,
    /// Number of questions whose answers were already stored.
    pub known: usize,
    pub usage: Usage,
    pub usd: f64,
    /// Number of trials that were not judged, by reason.
    pub left: IndexMap<String, usize>,
    /// Ids of the trials that were not judged because their agent used the same model as the judge.
    pub own: Vec<TrialId>,
    /// Reason why the session ended before all trials were judged. `None` if all were judged.
    pub ended: Option<JudgeEnd>,
    pub agreement: Agreement,
    #[serde(skip)]
    pub judged: Vec<JudgedTrial>,
}

/// Trial with the judge's answer.
#[derive(Debug, Clone, Serialize)]
pub struct JudgedTrial {
    pub scenario: String,
    pub variant: String,
    /// Grade of the root cause by the rules, in the judge's terms. `None` if the record has no grade.
    pub rules: Option<super::Cause>,
    pub rules_evidence: Option<bool>,
    /// True if the answer was stored by an earlier session.
    pub known: bool,
    #[serde(flatten)]
    pub judgement: Judgement,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "why", content = "text")]
pub enum JudgeEnd {
    /// A limit of the judge's configuration is reached.
    Limit(String),
    /// The model or the connection to it failed.
    Failed(String),
    Interrupted,
}

/// Sends all questions to the judge. Each answer is stored immediately, because it has been paid for.
///
/// # Errors
/// The record cannot be read or written. Failures of the model are part of the result.
pub async fn judge(session: JudgeInputs<'_>, gathered: Gathered, database: &Database, writer: &Database) -> Result<Verdicts, StoreError> {
    let JudgeInputs { judge, tape, again } = session;
    let mut left = gathered.without;
    if !gathered.own.is_empty() {
        left.insert(format!("`{}` is the model of the judged agent", judge.model.model), gathered.own.len());
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
                    verdicts.ended = Some(JudgeEnd::Limit(limit));
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
        let JudgeQuestion { scenario, variant, rules, evidence, .. } = question;
        verdicts.judged.push(JudgedTrial { scenario, variant, rules, rules_evidence: evidence, known, judgement });
    }
    let causes: Vec<_> = verdicts.judged.iter().filter_map(|one| Some((one.rules?, one.judgement.said.answer.root_cause))).collect();
    let evidence: Vec<_> =
        verdicts.judged.iter().filter_map(|one| Some((one.rules_evidence?, one.judgement.said.answer.evidence_supported))).collect();
    verdicts.agreement = Agreement::of(&causes, &evidence);
    if let Err(problem) = tape.close()
        && verdicts.ended.is_none()
    {
        verdicts.ended = Some(JudgeEnd::Failed(problem));
    }
    Ok(verdicts)
}

/// Returns a message about the limit that the session has reached. Returns `None` if another question may be sent.
fn within(judge: &Judge, verdicts: &Verdicts) -> Option<String> {
    let tokens = verdicts.usage.prompt() + verdicts.usage.output;
    match (judge.usd, judge.tokens) {
        (Some(usd), _) if verdicts.usd >= usd => Some(format!("the limit of {usd} US dollars was reached")),
        (_, Some(most)) if tokens >= most => Some(format!("the limit of {most} tokens was reached")),
        _ => None,
    }
}

/// Sends one question, and repeats it until the answer has the required form. The cost of every exchange counts.
async fn ask(judge: &Judge, tape: &Tape, question: &JudgeQuestion, verdicts: &mut Verdicts) -> Result<Said, JudgeEnd> {
    // Keyed by the question, so that a cassette answers for any selection of trials.
    let source = tape.source(&question.digest).map_err(JudgeEnd::Failed)?;
    let mut client = declared::client(&judge.model, 0, source).map_err(JudgeEnd::Failed)?;
    let meter = client.meter();
    verdicts.asked += 1;
    let answered = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(JudgeEnd::Interrupted),
        answered = exchanges(judge, &mut client, question) => answered.map_err(JudgeEnd::Failed),
    };
    let spent = meter.spent();
    verdicts.usage += spent.usage;
    verdicts.usd += spent.usd;
    let (answer, model) = answered?;
    Ok(Said { name: judge.name.clone(), model, answer, usage: spent.usage, usd: spent.usd })
}

async fn exchanges(judge: &Judge, client: &mut ModelClient, question: &JudgeQuestion) -> Result<(Answer, String), String> {
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
    let mut history = vec![ConversationEntry::User(question.prompt.clone())];
    let mut wrong = String::new();
    for _ in 0..TRIES {
        let reply = client.ask(&spec, &history, &|_| {}).await.map_err(|error: ModelError| format!("`{}`: {error}", model.model))?;
        let stop = reply.stop.word().to_owned();
        let calls: Vec<_> = reply
            .parts
            .into_iter()
            .filter_map(|part| match part {
                MessagePart::Call(call) => Some(call),
                MessagePart::Text(_) | MessagePart::Thinking(_) => None,
            })
            .collect();
        history.push(ConversationEntry::Assistant(reply.message));
        let mut results = Vec::new();
        for call in calls {
            let taken = match call.arguments {
                Ok(arguments) if call.tool == TOOL => read(arguments),
                Ok(_) => Err(format!("unknown tool `{}`", call.tool)),
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
            wrong = format!("the judge called no tool (stop reason `{stop}`)");
            history.push(ConversationEntry::User(format!("Answer with one call of the tool `{TOOL}`.")));
        } else {
            history.push(ConversationEntry::Results(results));
        }
    }
    Err(format!("`{}` returned no valid grade in {TRIES} exchanges: {wrong}", model.model))
}
