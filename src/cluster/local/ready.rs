//! Is a node ready? Its declared probe, asked on its real port.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::node;
use super::render::{self, Response};
use super::supervisor::{Ended, Spawn};
use crate::expr::Expr;

/// The pauses between two questions grow from the first to the last: most nodes are ready within milliseconds, and one
/// that is not must not be kept from it by being asked.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// One question.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;

/// How to ask, rendered.
#[derive(Debug)]
pub(super) enum Question {
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
}

#[derive(Debug)]
pub(super) struct Plan {
    pub question: Question,
    /// None: it is enough that it answers.
    pub expect: Option<Expr>,
    pub within: Duration,
}

/// Asks. One for all nodes of a trial.
#[derive(Debug, Default)]
pub(super) struct Prober {
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
    pub(super) async fn until_ready(&self, plan: &node::Plan, shared: &Arc<node::Shared>, tree: u64) -> Result<(), String> {
        let within = plan.ready.within;
        // What is said of a late node is its last whole answer, not that the time ended in the middle of a question.
        let mut last = format!("gave no answer in {within:.0?}");
        let asked = async {
            let mut pause = FIRST_PAUSE;
            while let Err(answer) = self.ask(plan, shared, Some(tree), TIMEOUT).await {
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
    pub(super) async fn ask(
        &self,
        plan: &node::Plan,
        shared: &Arc<node::Shared>,
        tree: Option<u64>,
        timeout: Duration,
    ) -> Result<(), String> {
        let asked = async {
            match &plan.ready.question {
                Question::Alive => match tree {
                    Some(_) => Ok(Response::default()),
                    None => Err("does not run".to_owned()),
                },
                Question::Tcp { address } => connect(address).await,
                Question::Http { method, url, headers, body } => self.request(method, url, headers, body.as_ref()).await,
                Question::Exec { command } => execute(command, plan, shared, tree).await,
            }
        };
        let begin = Instant::now();
        let answer = tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| Err(format!("gave no answer in {timeout:.0?}")));
        let answer = answer.map(|response| Response { took: begin.elapsed(), ..response });
        match &plan.ready.expect {
            Some(expect) => render::judge(expect, answer.as_ref()),
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

/// In the node's directory and environment; it dies with the node.
async fn execute(command: &[String], plan: &node::Plan, shared: &Arc<node::Shared>, tree: Option<u64>) -> Result<Response, String> {
    let Some(program) = command.first() else { return Err("has an empty command as its probe".into()) };
    let failed = |error: io::Error| format!("cannot be asked: {error}");
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    let (ours, theirs) = io::pipe().map_err(failed)?;
    let (told, exit) = oneshot::channel();
    let own = shared.client.new_tree();
    let spawn = Spawn {
        program: program.into(),
        argv: command.iter().map(Into::into).collect(),
        env: plan.env.clone(),
        dir: plan.dir.clone(),
        stdio: [null.try_clone().map_err(failed)?.into(), theirs.into(), null.into()],
        tree: own,
        scope: shared.scope,
        with: tree,
        linger: false,
        on_exit: Box::new(move |ended| {
            // Nobody waits after the timeout.
            let _ = told.send(ended);
        }),
    };
    let mut output = pipe::Receiver::from_owned_fd(ours.into()).map_err(failed)?;
    shared.client.spawn(spawn).await.map_err(|error| error.to_string())?;
    // After the timeout nobody needs it any more.
    let _kill = OnDrop(|| shared.client.kill_now(own));
    let mut text = Vec::new();
    let limit = u64::try_from(LONGEST_ANSWER).unwrap_or(u64::MAX);
    (&mut output).take(limit).read_to_end(&mut text).await.map_err(failed)?;
    let status = i64::from(exit.await.unwrap_or(Ended::Lost).shell_code());
    Ok(Response { status: Some(status), text: Some(String::from_utf8_lossy(&text).into_owned()), ..Response::default() })
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
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
