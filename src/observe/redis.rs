//! `redis:` probes, and readiness by them: one command to a Redis server, its answer as JSON. The connection is kept for the next.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Value};
use serde_json::{Map, Number, Value as Json};

use super::answer::{Answer, Body};
use crate::expr::of_serde;

/// A server, and what it is asked again and again.
#[derive(Clone)]
pub struct Question {
    address: String,
    command: Vec<String>,
    kept: Arc<Mutex<Option<MultiplexedConnection>>>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("address", &self.address).field("command", &self.command).finish_non_exhaustive()
    }
}

impl Question {
    #[must_use]
    pub fn new(address: String, command: Vec<String>) -> Self {
        Self { address, command, kept: Arc::default() }
    }

    /// Asks once: the answer as JSON, or in words why there is none. The caller bounds the time.
    ///
    /// # Errors
    /// No connection, a connection that broke, or what the server says against the command.
    pub async fn ask(&self) -> Result<Json, String> {
        // One that is not given back (the time was over, it broke) is not used again: its answer may still be under way.
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut command = redis::Cmd::new();
        command.arg(&self.command);
        let answered = command.query_async::<Value>(&mut connection).await;
        let broken = answered.as_ref().is_err_and(|error| error.is_io_error() || error.is_connection_dropped() || error.is_timeout());
        if !broken {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        }
        answered.map(json).map_err(|error| words(&error))
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        // Its third protocol alone tells maps from lists.
        let client = Client::open(format!("redis://{}/?protocol=resp3", self.address));
        let client = client.map_err(|error| format!("`{}` is no address: {error}", self.address))?;
        // The time is the caller's to bound.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| words(&error))
    }
}

pub(super) async fn ask(question: &Question, timeout: Duration) -> Answer {
    let began = Instant::now();
    match tokio::time::timeout(timeout, question.ask()).await {
        Ok(Ok(json)) => Answer::of(true, body(&json), began),
        Ok(Err(problem)) => Answer::failed(problem, began),
        Err(_) => Answer::failed(format!("no answer in {} ms", timeout.as_millis()), began),
    }
}

/// A text that is JSON is both, as everywhere.
fn body(json: &Json) -> Body {
    match json {
        Json::String(text) => Answer::body(text),
        other => Body::Json(of_serde(other), other.to_string().into()),
    }
}

/// An answer as JSON: lists, numbers, texts and maps as they are, bytes that are no text with marks in their place.
fn json(value: Value) -> Json {
    let text = |bytes: &[u8]| Json::String(String::from_utf8_lossy(bytes).into_owned());
    match value {
        Value::Nil => Json::Null,
        Value::Int(number) => number.into(),
        Value::BulkString(bytes) | Value::BigNumber(bytes) => text(&bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.into(),
        Value::Okay => "OK".into(),
        Value::Array(items) | Value::Set(items) | Value::Push { data: items, .. } => items.into_iter().map(json).collect(),
        Value::Map(pairs) => {
            let key = |key: Value| match json(key) {
                Json::String(text) => text,
                other => other.to_string(),
            };
            Json::Object(pairs.into_iter().map(|(name, value)| (key(name), json(value))).collect::<Map<_, _>>())
        }
        Value::Attribute { data, .. } => json(*data),
        // Redis knows numbers that JSON does not.
        Value::Double(number) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        Value::Boolean(truth) => truth.into(),
        Value::ServerError(error) => error.to_string().into(),
        _ => Json::Null,
    }
}

fn words(error: &RedisError) -> String {
    if error.is_connection_refusal() {
        return "refused".into();
    }
    if error.is_connection_dropped() {
        return "the connection broke".into();
    }
    match (error.code(), error.detail()) {
        // What the server itself says: `WRONGTYPE Operation against a key holding the wrong kind of value`.
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as j;

    #[test]
    fn answers_become_json() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let map = Value::Map(vec![(bulk("a"), Value::Int(1)), (Value::Int(2), Value::Array(vec![Value::Nil, Value::Boolean(true)]))]);
        assert_eq!(json(map), j!({ "a": 1, "2": [null, true] }));
        assert_eq!(json(Value::Set(vec![Value::Double(1.5), Value::Double(f64::NAN), Value::Okay])), j!([1.5, null, "OK"]));
        assert!(matches!(body(&json(bulk(r#"{"k0": 3}"#))), Body::Json(..)), "what a script encodes is JSON");
        assert!(matches!(body(&json(bulk("role:master"))), Body::Text(text) if &*text == "role:master"));
    }

    /// A server of one connection that gives these answers, and takes each for a command.
    async fn server(answers: &'static [&'static str]) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut answers = answers.iter();
            let mut buffer = Vec::new();
            let mut chunk = [0; 1024];
            while let Ok(read @ 1..) = stream.read(&mut chunk).await {
                buffer.extend_from_slice(&chunk[..read]);
                let text = String::from_utf8_lossy(&buffer).to_uppercase();
                // The greeting is answered by itself, and its companions (the client's name) with it.
                let said = text.matches("HELLO").count() + text.matches("SETINFO").count();
                let asked = text.matches("\r\nGET\r\n").count();
                buffer.clear();
                for _ in 0..said {
                    stream.write_all(if text.contains("HELLO") { b"%1\r\n+proto\r\n:3\r\n" } else { b"+OK\r\n" }).await.unwrap();
                }
                for _ in 0..asked {
                    let Some(answer) = answers.next() else { return };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn the_connection_is_kept_and_a_broken_one_is_told() {
        let question = Question::new(server(&[":7\r\n", "-WRONGTYPE no such thing\r\n"]).await, vec!["GET".into(), "k".into()]);
        let timeout = Duration::from_secs(5);
        let first = ask(&question, timeout).await;
        assert!(first.ok, "{first:?}");
        let second = ask(&question, timeout).await;
        assert_eq!((second.ok, second.problem().as_deref()), (false, Some("WRONGTYPE no such thing")));
        // The server has hung up, and takes nobody any more.
        let third = ask(&question, timeout).await;
        assert!(!third.ok, "{third:?}");
        assert_eq!(ask(&question, timeout).await.problem().as_deref(), Some("refused"));
    }

    #[tokio::test]
    async fn silence_is_an_answer_too() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let question = Question::new(listener.local_addr().unwrap().to_string(), vec!["PING".into()]);
        let answer = ask(&question, Duration::from_millis(20)).await;
        assert_eq!(answer.problem().as_deref(), Some("no answer in 20 ms"));
    }
}
