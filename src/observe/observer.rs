//! Runs all probes of a cluster: starts what is due, keeps the newest answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::answer::Answer;
use super::http::HttpClient;
use super::log::LogProbe;
use super::metrics::{Query, Scrapes, evaluate};
use super::snapshot::Snapshot;
use super::{alive, exec, promql, redis, tcp, workload};
use crate::cluster::Cluster;
use crate::expr::topology::{View, node_context};
use crate::expr::{Context, Template};
use crate::scenario::model::{self, On, Probe, ProbeKind};
use crate::workload::StatsReader;

/// What an observer needs of a trial.
pub struct ObserverConfig {
    pub spec: Arc<model::Cluster>,
    pub cluster: Arc<dyn Cluster>,
    /// Of the running workload, when there is one.
    pub workload: Option<StatsReader>,
    pub seed: u64,
    pub http: HttpClient,
}

/// One probe on one node. Addresses are fixed for the whole trial, so all templates are rendered once.
struct Poll {
    probe: usize,
    node: Option<String>,
    /// Whom it may ask, in order.
    asked: Vec<Option<String>>,
    how: How,
    /// Begun and not answered yet: it is not begun again.
    in_flight: bool,
    last_begun: Option<Instant>,
}

enum How {
    Alive,
    /// Targets in order of preference: one for `each`, all nodes of the role for `any`.
    Http {
        targets: Vec<Request>,
        last_good: usize,
    },
    Metrics {
        request: Request,
        query: Arc<Query>,
        scrapes: Scrapes,
    },
    /// As `Http`; the address is another one each time, because it holds the moment.
    Promql {
        questions: Vec<promql::Question>,
        last_good: usize,
    },
    Tcp(Vec<String>),
    Redis(Vec<redis::Question>),
    Exec(Vec<(Option<String>, Vec<String>)>),
    Log(LogProbe),
    Workload(Duration),
    /// Its template could not be rendered: an answer too.
    Broken(String),
}

#[derive(Debug, Clone)]
struct Request {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

/// How long one node is waited for before the others are asked too.
const PATIENCE: Duration = Duration::from_millis(250);

/// A poll that ended; given back to [`Observer::complete`].
pub struct Completed {
    poll: usize,
    answer: Answer,
    /// Which of those it may ask answered well.
    good: Option<usize>,
}

type InFlight = Pin<Box<dyn Future<Output = Completed> + Send>>;

/// All probes of a trial. Owned by one task: `start_due`, then `next` until nothing is in flight.
pub struct Observer {
    probes: Vec<Arc<Probe>>,
    polls: Vec<Poll>,
    answers: Vec<Option<Answer>>,
    flights: FuturesUnordered<InFlight>,
    cluster: Arc<dyn Cluster>,
    workload: Option<StatsReader>,
    http: HttpClient,
}

impl Observer {
    #[must_use]
    pub fn new(config: ObserverConfig) -> Self {
        let probes: Vec<_> = config.spec.observe.values().cloned().map(Arc::new).collect();
        let scale = config.spec.clock_scale;
        let topology = config.cluster.topology();
        let mut polls = Vec::new();
        for (index, probe) in probes.iter().enumerate() {
            let of_role = |role: &str| -> Vec<Option<String>> { topology.role(role).map(|node| Some(node.name.clone())).collect() };
            let (asked, apart) = match &probe.on {
                On::Each(role) => (of_role(role), true),
                On::Any(role) => (of_role(role), false),
                On::Workload | On::Tools => (vec![None], true),
            };
            let contexts: Vec<_> = asked
                .iter()
                .map(|node| (node.clone(), node_context(topology, node.as_deref(), View::Direct, scale, config.seed)))
                .collect();
            let groups: Vec<&[(Option<String>, Context)]> = if apart { contexts.chunks(1).collect() } else { vec![contexts.as_slice()] };
            for group in groups {
                let node = if apart { group.first().and_then(|(node, _)| node.clone()) } else { None };
                let how = how(probe, group, &*config.cluster).unwrap_or_else(How::Broken);
                let asked = group.iter().map(|(node, _)| node.clone()).collect();
                polls.push(Poll { probe: index, node, asked, how, in_flight: false, last_begun: None });
            }
        }
        let answers = polls.iter().map(|_| None).collect();
        Self {
            probes,
            polls,
            answers,
            flights: FuturesUnordered::new(),
            cluster: config.cluster,
            workload: config.workload,
            http: config.http,
        }
    }

    /// Begins every probe that is due and not under way. Those that ask nobody are answered at once.
    pub fn start_due(&mut self, now: Instant) {
        for index in 0..self.polls.len() {
            let poll = &self.polls[index];
            // A rate says nothing until there are two scrapes: the second need not wait its turn.
            let every = match &poll.how {
                How::Metrics { query, scrapes, .. } if scrapes.needs_another(query.window()) => Duration::ZERO,
                _ => self.probes[poll.probe].every,
            };
            let due = !poll.in_flight && poll.last_begun.is_none_or(|begun| now.saturating_duration_since(begun) >= every);
            if due {
                self.begin(index, now);
            }
        }
    }

    /// Answers the probes that only look at what the cluster knows: after a node changed, before anything is asked.
    pub fn look(&mut self) {
        let statuses = self.cluster.status();
        for (poll, answer) in self.polls.iter().zip(&mut self.answers) {
            if matches!(poll.how, How::Alive) {
                *answer = Some(alive::ask(statuses.iter().find(|status| Some(&status.node) == poll.node.as_ref())));
            }
        }
    }

    fn begin(&mut self, index: usize, now: Instant) {
        let poll = &mut self.polls[index];
        poll.last_begun = Some(now);
        let timeout = self.probes[poll.probe].timeout;
        let flight: InFlight = match &mut poll.how {
            How::Alive => {
                let statuses = self.cluster.status();
                let answer = alive::ask(statuses.iter().find(|status| Some(&status.node) == poll.node.as_ref()));
                self.answers[index] = Some(answer);
                return;
            }
            How::Log(log) => {
                self.answers[index] = Some(log.ask());
                return;
            }
            How::Workload(window) => {
                self.answers[index] = Some(workload::ask(self.workload.as_ref(), *window));
                return;
            }
            How::Broken(problem) => {
                self.answers[index] = Some(Answer::failed(problem.clone(), now));
                return;
            }
            How::Http { targets, last_good } => {
                let (http, targets, first) = (self.http.clone(), targets.clone(), *last_good);
                Box::pin(async move {
                    let (answer, good) = any(&http, &targets, first, timeout).await;
                    Completed { poll: index, answer, good }
                })
            }
            How::Promql { questions, last_good } => {
                let moment = SystemTime::now();
                let get = |address| Request { method: "GET".into(), url: address, headers: Vec::new(), body: None };
                let targets: Result<Vec<_>, _> = questions.iter().map(|question| question.address(moment, timeout).map(get)).collect();
                let (http, first) = (self.http.clone(), *last_good);
                Box::pin(async move {
                    let (answer, good) = match targets {
                        Ok(targets) => any(&http, &targets, first, timeout).await,
                        Err(problem) => (Answer::failed(problem, now), None),
                    };
                    Completed { poll: index, answer: promql::read(answer), good }
                })
            }
            How::Metrics { request, .. } => {
                let (http, request) = (self.http.clone(), request.clone());
                Box::pin(async move { Completed { poll: index, answer: get(&http, &request, timeout).await, good: None } })
            }
            How::Tcp(addresses) => {
                let addresses = addresses.clone();
                Box::pin(async move {
                    let mut answer = Answer::failed("nobody to ask", now);
                    let mut good = None;
                    for (place, address) in addresses.iter().enumerate() {
                        answer = tcp::ask(address, timeout).await;
                        if answer.ok {
                            good = Some(place);
                            break;
                        }
                    }
                    Completed { poll: index, answer, good }
                })
            }
            How::Redis(questions) => {
                let questions = questions.clone();
                Box::pin(async move {
                    let mut answer = Answer::failed("nobody to ask", now);
                    let mut good = None;
                    for (place, question) in questions.iter().enumerate() {
                        answer = redis::ask(question, timeout).await;
                        if answer.ok {
                            good = Some(place);
                            break;
                        }
                    }
                    Completed { poll: index, answer, good }
                })
            }
            How::Exec(commands) => {
                let (cluster, commands) = (Arc::clone(&self.cluster), commands.clone());
                Box::pin(async move {
                    let mut answer = Answer::failed("nobody to ask", now);
                    let mut good = None;
                    for (place, (node, command)) in commands.into_iter().enumerate() {
                        answer = exec::ask(&*cluster, node.as_deref(), command, timeout).await;
                        if answer.ok {
                            good = Some(place);
                            break;
                        }
                    }
                    Completed { poll: index, answer, good }
                })
            }
        };
        poll.in_flight = true;
        self.flights.push(flight);
    }

    /// Waits for the next answer; never resolves while nothing is under way, so it can stand in a `select!`.
    pub async fn next(&mut self) -> Completed {
        match self.flights.next().await {
            Some(completed) => completed,
            None => std::future::pending().await,
        }
    }

    /// Whether every probe that was begun has answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Takes an answer in.
    pub fn complete(&mut self, completed: Completed) {
        let Completed { poll: index, mut answer, good } = completed;
        let poll = &mut self.polls[index];
        poll.in_flight = false;
        answer.by = good.and_then(|place| poll.asked.get(place).cloned().flatten());
        match &mut poll.how {
            How::Http { last_good, .. } | How::Promql { last_good, .. } => *last_good = good.unwrap_or(*last_good),
            How::Metrics { query, scrapes, .. } => {
                let text = match &answer.body {
                    super::Body::Json(_, text) | super::Body::Text(text) => Some(Arc::clone(text)),
                    super::Body::None | super::Body::Rows { .. } => None,
                };
                if let Some(text) = text.filter(|_| answer.ok) {
                    scrapes.push(query, answer.at, &text);
                    answer.body = Answer::series(&evaluate(query, scrapes));
                }
            }
            _ => (),
        }
        self.answers[index] = Some(answer);
    }

    /// The newest answers of all probes.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let mut snapshot = Snapshot::default();
        for (index, probe) in self.probes.iter().enumerate() {
            let of_probe = self.polls.iter().zip(&self.answers).filter(|(poll, _)| poll.probe == index);
            let answers: Vec<_> = of_probe.map(|(poll, answer)| (poll.node.as_deref(), answer.as_ref())).collect();
            snapshot.add(probe, &answers, now);
        }
        snapshot
    }
}

/// Prepares a probe for the nodes it asks.
fn how(probe: &Probe, asked: &[(Option<String>, Context)], cluster: &dyn Cluster) -> Result<How, String> {
    let first = asked.first().map(|(_, context)| context).ok_or("nobody to ask")?;
    let render = |template: &Template, context: &Context| template.render(context).map_err(|unknown| unknown.reason);
    Ok(match &probe.kind {
        ProbeKind::Alive => How::Alive,
        ProbeKind::Http { method, url, headers, body } => {
            let request = |context: &Context| -> Result<Request, String> {
                let headers = headers.iter().map(|(name, value)| Ok((name.clone(), render(value, context)?)));
                Ok(Request {
                    method: method.clone(),
                    url: render(url, context)?,
                    headers: headers.collect::<Result<_, String>>()?,
                    body: body.as_ref().map(|body| render(body, context)).transpose()?,
                })
            };
            let targets = asked.iter().map(|(_, context)| request(context)).collect::<Result<_, _>>()?;
            How::Http { targets, last_good: 0 }
        }
        ProbeKind::Metrics { url, expr, .. } => {
            let query = Query::parse(expr).map_err(|error| error.message)?;
            let request = Request { method: "GET".into(), url: render(url, first)?, headers: Vec::new(), body: None };
            How::Metrics { request, query: Arc::new(query), scrapes: Scrapes::default() }
        }
        ProbeKind::Tcp { address } => How::Tcp(asked.iter().map(|(_, context)| render(address, context)).collect::<Result<_, _>>()?),
        ProbeKind::Promql { url, query, range, step, .. } => {
            let question = |context: &Context| -> Result<promql::Question, String> {
                let range = range.map(|range| (range, *step));
                Ok(promql::Question { url: render(url, context)?, query: render(query, context)?, range })
            };
            How::Promql { questions: asked.iter().map(|(_, context)| question(context)).collect::<Result<_, _>>()?, last_good: 0 }
        }
        ProbeKind::Redis { address, command } => {
            let question = |context: &Context| -> Result<redis::Question, String> {
                let words = command.iter().map(|word| render(word, context)).collect::<Result<_, _>>()?;
                Ok(redis::Question::new(render(address, context)?, words))
            };
            How::Redis(asked.iter().map(|(_, context)| question(context)).collect::<Result<_, _>>()?)
        }
        ProbeKind::Exec { command } => {
            let words = |context: &Context| command.iter().map(|word| render(word, context)).collect::<Result<Vec<_>, _>>();
            How::Exec(asked.iter().map(|(node, context)| Ok((node.clone(), words(context)?))).collect::<Result<_, String>>()?)
        }
        ProbeKind::Log { pattern, window } => {
            let node = asked.first().and_then(|(node, _)| node.as_deref()).ok_or("a log belongs to a node: use `on: each ROLE`")?;
            let path = cluster.log_file(node).ok_or_else(|| format!("node `{node}` has no log"))?;
            How::Log(LogProbe::new(path, pattern, *window).map_err(|error| error.to_string())?)
        }
        ProbeKind::Workload { window } => How::Workload(*window),
    })
}

async fn get(http: &HttpClient, request: &Request, timeout: Duration) -> Answer {
    let began = Instant::now();
    match http.request(&request.method, &request.url, &request.headers, request.body.clone(), timeout).await {
        Ok(response) => Answer {
            ok: (200..300).contains(&response.status),
            status: Some(i64::from(response.status)),
            error: None,
            body: Answer::body(&response.text),
            by: None,
            at: Instant::now(),
            took: response.took,
        },
        Err(error) => Answer::failed(error.problem, began),
    }
}

/// Asks the one that answered last. When it fails, or hesitates (a paused process accepts and never answers), all others are
/// asked as well, and the first good answer is taken.
async fn any(http: &HttpClient, targets: &[Request], first: usize, timeout: Duration) -> (Answer, Option<usize>) {
    let ask = |which: usize| async move { (which, get(http, &targets[which], timeout).await) };
    let patience = tokio::time::sleep((timeout / 4).min(PATIENCE));
    tokio::pin!(patience);
    let mut flights = FuturesUnordered::from_iter([ask(first)]);
    let mut others = (0..targets.len()).filter(|other| *other != first);
    let mut failed = None;
    loop {
        tokio::select! {
            answered = flights.next() => match answered {
                Some((which, answer)) if answer.ok => return (answer, Some(which)),
                Some((which, answer)) => {
                    // What the first one said against it tells most.
                    if which == first || failed.is_none() {
                        failed = Some(answer);
                    }
                    flights.extend(others.by_ref().map(ask));
                }
                None => return (failed.unwrap_or_else(|| Answer::failed("nobody to ask", Instant::now())), None),
            },
            () = &mut patience, if flights.len() < targets.len() && !patience.is_elapsed() => flights.extend(others.by_ref().map(ask)),
        }
    }
}
