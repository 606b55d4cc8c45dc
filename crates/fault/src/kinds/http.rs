//! `http`: an HTTP request is sent to the node. Only observations can show the effect of the request.

use std::time::Duration;

use async_trait::async_trait;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data;
use crate::description::on;
use crate::{
    DOCKER, FaultContext, FaultDescription, FaultFinding, Injection, LOCAL, RawTarget, Repair, Resolution, ResolvedFault, Resolver, Target,
    Way, each,
};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::LinkPath;
use chaosrun_diagnostic::Pointer;
use chaosrun_expr::topology::AddressView;
use chaosrun_expr::{ConditionTruth, Context, Expr, Scope, Template, Value};
use chaosrun_input::{Checker, Short, Text};
use chaosrun_probe::HttpClient;

/// Fixed data of the fault `http`.
pub(crate) const DESCRIPTION: FaultDescription = FaultDescription {
    name: "http",
    summary: "Sends an HTTP request to the node.",
    example: "http: { target: tikv1, request: 'http://{{ self.status }}/x' }",
    backends: &[on(LOCAL, &[Way::plain("request from the runner")]), on(DOCKER, &[Way::plain("request from the runner")])],
    refused: "",
    repair: Repair::Scenario,
    class: "data",
    holds: None,
    prepares: None,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "http_fault")]
pub struct Parameters {
    pub target: Short<RawTarget>,
    pub request: Short<RawRequest>,
    /// Request that undoes the fault. It is sent when the fault is healed.
    pub undo: Option<Short<RawRequest>>,
    /// Condition over the observations that is true while the fault has an effect. It must become true, and false when the fault has ended.
    pub felt: Option<Text>,
    /// Command with which an agent can repair the fault in its shell. The oracle runs it.
    pub repair: Option<Text>,
}

/// Request: a URL, which is requested with `POST`, or a map.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "request")]
pub struct RawRequest {
    /// HTTP method [default: `POST`].
    pub method: Option<String>,
    pub url: Text,
    #[serde(default)]
    pub headers: IndexMap<String, Text>,
    pub body: Option<Text>,
    /// Condition over `status`, `json` and `text` [default: a status below 400].
    pub expect: Option<Text>,
}

/// Time limit of the request. A request without an answer within this limit is not a valid injection.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Checks the parameters of `http`. Returns the resolved fault, or `None` after a reported problem.
pub fn resolve(read: &Parameters, to: &mut Resolver) -> Option<Resolution> {
    let target = to.target(&read.target);
    let repair = data::repair(to, read.repair.as_ref());
    let target = target?;
    data::needs_undo(to, read.undo.is_some(), "http://...");
    let felt = to.condition("felt", read.felt.as_ref()).map(Box::new);
    let request = request(to.check, &to.at.key("request"), &read.request);
    let undo = match &read.undo {
        None => None,
        Some(undo) => Some(Box::new(self::request(to.check, &to.at.key("undo"), undo)?)),
    };
    Some(Resolution::of(Http { target, request: request?, undo, felt }).repaired_by(repair))
}

fn request(check: &mut Checker, pointer: &Pointer, read: &Short<RawRequest>) -> Option<Request> {
    let read = match read {
        Short::Word(url) => {
            let url = check.template(pointer, &Text(url.clone()), Scope::Probe, &[])?;
            return Some(Request { method: "POST".into(), url, headers: IndexMap::new(), body: None, expect: None });
        }
        Short::Full(read) => read,
    };
    let method = check.method(&pointer.key("method"), Some(read.method.as_deref().unwrap_or("POST")));
    let url = check.template(&pointer.key("url"), &read.url, Scope::Probe, &[]);
    let headers = check.template_map(&pointer.key("headers"), &read.headers, Scope::Probe, &[]);
    let body = read.body.as_ref().and_then(|body| check.template(&pointer.key("body"), body, Scope::Probe, &[]));
    let expect = check.maybe_expr(&pointer.key("expect"), read.expect.as_ref(), Scope::Response, &[]);
    Some(Request { method, url: url?, headers, body, expect })
}

/// Resolved HTTP request, with addresses that the runner dials.
#[derive(Debug, Clone, Serialize)]
struct Request {
    method: String,
    url: Template,
    headers: IndexMap<String, Template>,
    body: Option<Template>,
    /// Condition that the response must satisfy; `None` accepts any status below 400.
    expect: Option<Expr>,
}

#[derive(Debug, Clone, Serialize)]
struct Http {
    target: Target,
    request: Request,
    undo: Option<Box<Request>>,
    /// Condition that is true while the fault has an effect. If `None`, the response is the only evidence.
    felt: Option<Box<Expr>>,
}

impl ResolvedFault for Http {
    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn injection(&self, _paths: Vec<LinkPath>) -> Box<dyn Injection> {
        Box::new(Sending { fault: self.clone(), client: HttpClient::new() })
    }
}

struct Sending {
    fault: Http,
    client: HttpClient,
}

impl Sending {
    async fn send(&self, request: &Request, context: &FaultContext, node: &str) -> Result<(), ClusterError> {
        let context = context.expression_context(node, AddressView::Direct);
        let text = |template: &Template| template.render(&context).map_err(|unknown| ClusterError::Template(unknown.reason));
        let url = text(&request.url)?;
        let headers = request.headers.iter().map(|(name, value)| Ok((name.clone(), text(value)?)));
        let headers = headers.collect::<Result<Vec<_>, ClusterError>>()?;
        let body = request.body.as_ref().map(text).transpose()?;
        let refused = |problem: String| ClusterError::Conflict {
            node: node.into(),
            problem: format!("did not accept the request to {url}: {problem}"),
        };
        let answered = self.client.request(&request.method, &url, &headers, body, ANSWERS_WITHIN).await;
        let response = answered.map_err(|none| refused(none.problem))?;
        let fine = match &request.expect {
            None => response.status < 400,
            Some(expect) => {
                let mut context = Context::new().with("status", response.status).with("text", &*response.text);
                if let Ok(json) = serde_json::from_str::<Value>(&response.text) {
                    context = context.with("json", json);
                }
                expect.truth(&context) == ConditionTruth::True
            }
        };
        if fine { Ok(()) } else { Err(refused(format!("it answered {}: {}", response.status, response.text.trim()))) }
    }
}

#[async_trait]
impl Injection for Sending {
    async fn before(&self, context: &FaultContext) -> Result<String, String> {
        data::before(context, self.fault.felt.as_deref()).await
    }

    async fn inject(&self, context: &FaultContext) -> Result<(), ClusterError> {
        each(&context.targets, async |node| self.send(&self.fault.request, context, &node).await).await
    }

    async fn installed(&self, _context: &FaultContext) -> FaultFinding {
        // The injection succeeded, which implies the expected answer.
        FaultFinding::yes("the request was answered as expected")
    }

    async fn felt(&self, context: &FaultContext) -> FaultFinding {
        data::felt(context, self.fault.felt.as_deref()).await
    }

    async fn heal(&self, context: &FaultContext) -> Result<(), ClusterError> {
        let Some(undo) = self.fault.undo.as_deref() else { return Ok(()) };
        each(&context.targets, async |node| self.send(undo, context, &node).await).await
    }

    async fn gone(&self, context: &FaultContext) -> Option<FaultFinding> {
        data::gone(context, self.fault.felt.as_deref()).await
    }
}
