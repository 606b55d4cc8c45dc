//! `http`: any request to the node.

use std::time::Duration;

use async_trait::async_trait;

use crate::chaos::catalogue::{Kind, Repair, Way};
use crate::chaos::driver::each;
use crate::chaos::fault::{Finding, Inject, Site};
use crate::cluster::ClusterError;
use crate::expr::topology::View;
use crate::expr::{Context, Expr, Template, Truth, Value};
use crate::observe::HttpClient;
use crate::scenario::model::Request;

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "http",
    local: &[Way::plain("a request from the runner")],
    docker: &[Way::plain("a request from the runner")],
    refused: "",
    repair: Repair::Scenario,
    class: "data",
    holds: None,
};

/// A node that does not answer is no injection.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

pub(in crate::chaos) struct HttpRequest {
    request: Request,
    undo: Option<Request>,
    sign: Option<Expr>,
    client: HttpClient,
}

impl HttpRequest {
    pub fn new(request: Request, undo: Option<Request>, sign: Option<Expr>) -> Self {
        Self { request, undo, sign, client: HttpClient::new() }
    }

    async fn send(&self, request: &Request, site: &Site, node: &str) -> Result<(), ClusterError> {
        let context = site.context(node, View::Direct);
        let text = |template: &Template| template.render(&context).map_err(|unknown| ClusterError::Template(unknown.reason));
        let url = text(&request.url)?;
        let headers = request.headers.iter().map(|(name, value)| Ok((name.clone(), text(value)?)));
        let headers = headers.collect::<Result<Vec<_>, ClusterError>>()?;
        let body = request.body.as_ref().map(text).transpose()?;
        let refused = |problem: String| ClusterError::Conflict { node: node.into(), problem: format!("was asked {url}: {problem}") };
        let answered = self.client.request(&request.method, &url, &headers, body, ANSWERS_WITHIN).await;
        let response = answered.map_err(|none| refused(none.problem))?;
        let fine = match &request.expect {
            None => response.status < 400,
            Some(expect) => {
                let mut context = Context::new().with("status", response.status).with("text", &*response.text);
                if let Ok(json) = serde_json::from_str::<Value>(&response.text) {
                    context = context.with("json", json);
                }
                expect.truth(&context) == Truth::True
            }
        };
        if fine { Ok(()) } else { Err(refused(format!("it answered {}: {}", response.status, response.text.trim()))) }
    }
}

#[async_trait]
impl Inject for HttpRequest {
    async fn before(&self, site: &Site) -> Result<String, String> {
        super::before(site, self.sign.as_ref()).await
    }

    async fn inject(&self, site: &Site) -> Result<(), ClusterError> {
        each(&site.targets, async |node| self.send(&self.request, site, &node).await).await
    }

    async fn installed(&self, _site: &Site) -> Finding {
        // An injection that returned has seen the answer.
        Finding::yes("the request was answered as expected")
    }

    async fn felt(&self, site: &Site) -> Finding {
        super::felt(site, self.sign.as_ref()).await
    }

    async fn heal(&self, site: &Site) -> Result<(), ClusterError> {
        let Some(undo) = &self.undo else { return Ok(()) };
        each(&site.targets, async |node| self.send(undo, site, &node).await).await
    }

    async fn gone(&self, site: &Site) -> Option<Finding> {
        super::gone(site, self.sign.as_ref()).await
    }
}
