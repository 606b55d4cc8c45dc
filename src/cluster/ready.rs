//! Is a node ready? Its declared probe, asked where the runner reaches it.

use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::TcpStream;

use super::ClusterError;
use crate::expr::{Context, Expr, Truth};
use crate::observe::redis;

/// The pauses between two questions grow from the first to the last: most nodes are ready within milliseconds, and one
/// that is not must not be kept from it by being asked.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// One question.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The longest answer that is read, in bytes.
pub const LONGEST_ANSWER: usize = 1 << 20;

/// How to ask, rendered.
#[derive(Debug)]
pub enum Question {
    /// Its process runs.
    Alive,
    Tcp {
        address: String,
    },
    Http {
        method: reqwest::Method,
        url: String,
        headers: Vec<(String, String)>,
        body: Option<String>,
    },
    Exec {
        command: Vec<String>,
    },
    Redis(redis::Question),
}

#[derive(Debug)]
pub struct Plan {
    pub question: Question,
    /// None: it is enough that it answers.
    pub expect: Option<Expr>,
    pub within: Duration,
}

/// Of the present start of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Waiting,
    Ready,
    /// Ended before it was ready, with the reason and its last words.
    Ended(String),
    /// Not in time.
    Late(String),
}

impl Readiness {
    /// How it came out, once it is not waited for any more.
    pub fn settled(self, node: &str, within: Duration) -> Result<(), ClusterError> {
        match self {
            Self::Ready | Self::Waiting => Ok(()),
            Self::Ended(problem) => Err(ClusterError::Start { node: node.into(), problem }),
            Self::Late(last) => Err(ClusterError::NotReady { node: node.into(), within, last }),
        }
    }
}

/// What only the backend knows of the node that is asked.
pub trait Ask: Sync {
    fn runs(&self) -> bool;

    /// Runs a command in the node's directory and environment: its exit code and what it printed, cut at
    /// [`LONGEST_ANSWER`]. A command that nobody waits for any more is killed.
    fn execute(&self, command: &[String]) -> impl Future<Output = Result<Response, String>> + Send;
}

/// Asks. One for all nodes of a trial.
#[derive(Debug, Default)]
pub struct Prober {
    /// Made when it is first needed: many a cluster has no HTTP.
    http: OnceLock<Result<reqwest::Client, String>>,
}

impl Prober {
    fn http(&self) -> Result<&reqwest::Client, String> {
        let made = self.http.get_or_init(|| {
            // No proxy of the environment may stand between us and loopback, and a connection that is kept says little of
            // whether the node takes new ones.
            let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(0);
            client.build().map_err(|error| format!("cannot be asked: {error}"))
        });
        made.as_ref().map_err(Clone::clone)
    }

    /// Waits until the node answers as expected.
    ///
    /// # Errors
    /// The last answer, in words, when that is not so in time.
    pub async fn until_ready(&self, plan: &Plan, node: &impl Ask) -> Result<(), String> {
        let within = plan.within;
        // What is said of a late node is its last whole answer, not that the time ended in the middle of a question.
        let mut last = format!("gave no answer in {within:.0?}");
        let asked = async {
            let mut pause = FIRST_PAUSE;
            while let Err(answer) = self.ask(plan, node, TIMEOUT).await {
                last = answer;
                tokio::time::sleep(pause).await;
                pause = (pause * 3 / 2).min(LONGEST_PAUSE);
            }
        };
        let ready = tokio::time::timeout(within, asked).await;
        ready.map_err(|_| last)
    }

    /// Asks once.
    ///
    /// # Errors
    /// In words: what was answered and what was expected, or how it did not answer.
    pub async fn ask(&self, plan: &Plan, node: &impl Ask, timeout: Duration) -> Result<(), String> {
        let asked = async {
            match &plan.question {
                Question::Alive => {
                    if node.runs() {
                        Ok(Response::default())
                    } else {
                        Err("does not run".to_owned())
                    }
                }
                Question::Tcp { address } => connect(address).await,
                Question::Http { method, url, headers, body } => self.request(method, url, headers, body.as_ref()).await,
                Question::Exec { command } => node.execute(command).await,
                Question::Redis(question) => {
                    let answered = |json: Value| Response {
                        text: Some(json.as_str().map_or_else(|| json.to_string(), str::to_owned)),
                        ..Response::default()
                    };
                    question.ask().await.map(answered).map_err(|problem| format!("could not be asked: {problem}"))
                }
            }
        };
        let begin = Instant::now();
        let answer = tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| Err(format!("gave no answer in {timeout:.0?}")));
        let answer = answer.map(|response| Response { took: begin.elapsed(), ..response });
        match &plan.expect {
            Some(expect) => judge(expect, answer.as_ref()),
            None => answer.map(drop),
        }
    }

    async fn request(
        &self,
        method: &reqwest::Method,
        url: &str,
        headers: &[(String, String)],
        body: Option<&String>,
    ) -> Result<Response, String> {
        let mut request = self.http()?.request(method.clone(), url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.body(body.clone());
        }
        let mut response = request.send().await.map_err(|error| http_words(&error))?;
        let status = i64::from(response.status().as_u16());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| http_words(&error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LONGEST_ANSWER {
                return Err(format!("answered with more than {LONGEST_ANSWER} bytes"));
            }
        }
        Ok(Response { status: Some(status), text: Some(String::from_utf8_lossy(&bytes).into_owned()), ..Response::default() })
    }
}

async fn connect(address: &str) -> Result<Response, String> {
    match TcpStream::connect(address).await {
        Ok(_) => Ok(Response::default()),
        Err(error) => Err(words(&error)),
    }
}

/// How a node did not answer; follows the node's name.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused the connection".into(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => "closed the connection".into(),
        _ => format!("could not be asked: {error}"),
    }
}

fn http_words(error: &reqwest::Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut deepest: &(dyn std::error::Error + 'static) = error;
    while let Some(one) = cause {
        if let Some(error) = one.downcast_ref::<io::Error>() {
            return words(error);
        }
        deepest = one;
        cause = one.source();
    }
    format!("could not be asked: {deepest}")
}

/// What a probe was answered.
#[derive(Debug, Default)]
pub struct Response {
    /// HTTP status or exit code.
    pub status: Option<i64>,
    pub text: Option<String>,
    pub took: Duration,
}

/// Whether an answer, or its absence, is what was expected; else in words why not.
pub fn judge(expect: &Expr, answer: Result<&Response, &String>) -> Result<(), String> {
    let context = match answer {
        Ok(response) => {
            let json = response.text.as_deref().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
            let ms = response.took.as_secs_f64() * 1000.0;
            let context = Context::new().with("error", ()).with("ms", ms);
            let context = with_some(context, "status", response.status);
            with_some(with_some(context, "text", response.text.as_ref()), "json", json)
        }
        Err(error) => Context::new().with("error", error),
    };
    let status = || answer.ok().and_then(|response| response.status).map_or(String::new(), |status| format!(" with {status}"));
    match (expect.truth(&context), answer) {
        (Truth::True, _) => Ok(()),
        (_, Err(error)) => Err(error.clone()),
        (Truth::False, Ok(_)) => {
            let (observed, expected) = expect.explain(&context);
            Err(format!("answered{}: {observed}, expected {expected}", status()))
        }
        (Truth::Unknown(why), Ok(_)) => Err(format!("answered{}: `{}` is unknown: {why}", status(), expect.text)),
    }
}

/// A name without a value is absent, not null.
fn with_some(context: Context, name: &'static str, value: Option<impl serde::Serialize>) -> Context {
    match value {
        Some(value) => context.with(name, value),
        None => context,
    }
}
