//! Probe `redis:` sends one command to a Redis server and converts the answer to JSON. The connection is reused for the next command.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value as Json};

use super::answer::{AnswerBody, ProbeAnswer, ProbeReply};
use super::failure::ProbeFailure;
use super::kind::{FromFile, Prepared, ProbeKind, ProbeSite, ProbeTarget, ReadinessProbe, SharedKeys};
use chaosrun_diagnostic::{Diagnostic, Pointer};
use chaosrun_expr::Scope;
use chaosrun_expr::{Template, of_serde};
use chaosrun_input::Checker;
use chaosrun_input::scalar::Text;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "redis")]
pub struct RawRedis {
    /// Address of the Redis server: `HOST:PORT`, a template.
    pub address: Text,
    /// Command and its arguments: templates.
    pub command: Vec<Text>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Redis {
    address: Template,
    command: Vec<Template>,
}

impl FromFile for Redis {
    type Raw = RawRedis;

    fn read(raw: &RawRedis, at: &Pointer, _: &SharedKeys<'_>, check: &mut Checker<'_>) -> Option<Self> {
        if raw.command.is_empty() {
            let problem = Diagnostic::error("no_command", "the probe has no command").label("expected a command such as `[PING]`");
            check.wrong(&at.key("command"), problem);
        }
        let command = check.templates(&at.key("command"), &raw.command, Scope::Probe, &[]);
        Some(Self { address: check.template(&at.key("address"), &raw.address, Scope::Probe, &[])?, command })
    }
}

impl ProbeKind for Redis {
    fn prepare(&self, target: &ProbeTarget<'_>) -> Result<Prepared, String> {
        Ok(Prepared::Ask(Arc::new(RedisCommand::new(target.render(&self.address)?, target.render_all(&self.command)?))))
    }
}

/// Command of a probe, with the address of the Redis server and the reused connection.
#[derive(Clone)]
pub struct RedisCommand {
    address: String,
    command: Vec<String>,
    kept: Arc<Mutex<Option<MultiplexedConnection>>>,
}

impl std::fmt::Debug for RedisCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("address", &self.address).field("command", &self.command).finish_non_exhaustive()
    }
}

impl RedisCommand {
    #[must_use]
    pub fn new(address: String, command: Vec<String>) -> Self {
        Self { address, command, kept: Arc::default() }
    }

    /// Sends the command once. The caller limits the time.
    ///
    /// # Errors
    /// Returns an error if no connection is possible, the connection breaks, or the server answers with an error message.
    pub async fn answer(&self) -> Result<Json, ProbeFailure> {
        // After a timeout or a failure, the connection is not reused, because the old answer may still arrive.
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
        answered.map(json).map_err(|error| failure(&error))
    }

    async fn connect(&self) -> Result<MultiplexedConnection, ProbeFailure> {
        // Only version 3 of the Redis protocol distinguishes maps from lists.
        let client = Client::open(format!("redis://{}/?protocol=resp3", self.address));
        let client = client.map_err(|error| ProbeFailure::Other(format!("`{}` is no address: {error}", self.address)))?;
        // The caller limits the time, so the client has no timeouts.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| failure(&error))
    }
}

#[async_trait]
impl ReadinessProbe for RedisCommand {
    async fn ask(&self, _: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure> {
        Ok(ProbeReply::new(true, body(&self.answer().await?)))
    }
}

/// Converts a JSON answer to the body of a probe answer. A text that is valid JSON becomes JSON with its text.
fn body(json: &Json) -> AnswerBody {
    match json {
        Json::String(text) => ProbeAnswer::body(text),
        other => AnswerBody::Json(of_serde(other), other.to_string().into()),
    }
}

/// Converts a Redis answer to JSON. Bytes that are not UTF-8 become replacement characters.
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
        // Some Redis numbers, such as infinity, do not exist in JSON and become null.
        Value::Double(number) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        Value::Boolean(truth) => truth.into(),
        Value::ServerError(error) => error.to_string().into(),
        _ => Json::Null,
    }
}

fn failure(error: &RedisError) -> ProbeFailure {
    if error.is_connection_refusal() {
        return ProbeFailure::Refused;
    }
    if error.is_connection_dropped() {
        return ProbeFailure::Closed("the connection broke".into());
    }
    ProbeFailure::Other(match (error.code(), error.detail()) {
        // This is an error message of the server, such as `WRONGTYPE Operation against a key holding the wrong kind of value`.
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    })
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
        assert!(matches!(body(&json(bulk(r#"{"k0": 3}"#))), AnswerBody::Json(..)), "what a script encodes is JSON");
        assert!(matches!(body(&json(bulk("role:master"))), AnswerBody::Text(text) if &*text == "role:master"));
    }

    /// Starts a server that accepts one connection. Each `GET` receives the next of `answers`. After the last answer the server closes the
    /// connection.
    async fn server(answers: &'static [&'static str]) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        chaosrun_base::task::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut answers = answers.iter();
            let mut buffer = Vec::new();
            let mut chunk = [0; 1024];
            while let Ok(read @ 1..) = stream.read(&mut chunk).await {
                buffer.extend_from_slice(&chunk[..read]);
                let text = String::from_utf8_lossy(&buffer).to_uppercase();
                // The commands with which the client opens the connection have separate answers.
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
    async fn connection_is_reused_and_a_broken_one_is_reported() {
        let question = RedisCommand::new(server(&[":7\r\n", "-WRONGTYPE no such thing\r\n"]).await, vec!["GET".into(), "k".into()]);
        assert_eq!(question.answer().await, Ok(j!(7)));
        assert_eq!(question.answer().await, Err(ProbeFailure::Other("WRONGTYPE no such thing".into())));
        // The server has closed the connection and accepts no further connection.
        assert!(question.answer().await.is_err());
        let refused = question.answer().await.unwrap_err();
        assert_eq!((refused.observed().as_str(), refused.of_node().as_str()), ("refused", "refused the connection"));
    }
}
