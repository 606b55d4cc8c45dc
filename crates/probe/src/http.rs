//! Probe `http:` sends an HTTP request. The answer contains the status and the body, and is ok for a status of 200 to 299.

use std::sync::Arc;

use async_trait::async_trait;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{ProbeAnswer, ProbeReply};
use super::client::HttpRequest;
use super::failure::ProbeFailure;
use super::kind::{FromFile, Prepared, ProbeKind, ProbeSite, ProbeTarget, ReadinessProbe, SharedKeys};
use chaosrun_diagnostic::Pointer;
use chaosrun_expr::Scope;
use chaosrun_expr::Template;
use chaosrun_input::Checker;
use chaosrun_input::scalar::{Short, Text};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "http")]
pub struct RawHttp {
    pub url: Text,
    /// HTTP method [default: `GET`].
    pub method: Option<String>,
    #[serde(default)]
    pub headers: IndexMap<String, Text>,
    pub body: Option<Text>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Http {
    method: String,
    url: Template,
    headers: IndexMap<String, Template>,
    body: Option<Template>,
}

impl FromFile for Http {
    type Raw = Short<RawHttp>;

    fn read(raw: &Short<RawHttp>, at: &Pointer, _: &SharedKeys<'_>, check: &mut Checker<'_>) -> Option<Self> {
        match raw {
            Short::Word(url) => {
                let url = check.template(at, &Text(url.clone()), Scope::Probe, &[])?;
                Some(Self { method: "GET".to_owned(), url, headers: IndexMap::new(), body: None })
            }
            Short::Full(raw) => {
                let method = check.method(&at.key("method"), raw.method.as_deref());
                let headers = check.template_map(&at.key("headers"), &raw.headers, Scope::Probe, &[]);
                let body = raw.body.as_ref().and_then(|body| check.template(&at.key("body"), body, Scope::Probe, &[]));
                Some(Self { method, url: check.template(&at.key("url"), &raw.url, Scope::Probe, &[])?, headers, body })
            }
        }
    }
}

impl ProbeKind for Http {
    fn prepare(&self, target: &ProbeTarget<'_>) -> Result<Prepared, String> {
        let headers = self.headers.iter().map(|(name, value)| Ok((name.clone(), target.render(value)?)));
        let headers = headers.collect::<Result<Vec<_>, String>>()?;
        let body = self.body.as_ref().map(|body| target.render(body)).transpose()?;
        Ok(Prepared::Ask(Arc::new(Exchange(HttpRequest::new(&self.method, &target.render(&self.url)?, &headers, body)?))))
    }

    fn hedged(&self) -> bool {
        true
    }

    fn ready_when(&self) -> &'static str {
        "status >= 200 and status < 300"
    }
}

#[derive(Debug)]
struct Exchange(HttpRequest);

#[async_trait]
impl ReadinessProbe for Exchange {
    async fn ask(&self, site: &dyn ProbeSite) -> Result<ProbeReply, ProbeFailure> {
        get(site, &self.0).await
    }
}

/// Sends a request. Returns the answer, with parsed JSON if the body is JSON.
pub(super) async fn get(site: &dyn ProbeSite, request: &HttpRequest) -> Result<ProbeReply, ProbeFailure> {
    let (status, text) = site.http().exchange(request, site.connection()).await.map_err(|none| none.failure)?;
    Ok(ProbeReply::new((200..300).contains(&status), ProbeAnswer::body(&text)).with_status(i64::from(status)))
}
