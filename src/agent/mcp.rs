//! Our tools for any client of the Model Context Protocol: the same that a model of ours is offered, carried out by the same loop.
//!
//! The client starts `node tools` of our program in its sandbox, which carries bytes between its stdio and the runner; the server
//! is here. So a call is limited and on record as any other, and nothing that the agent could change decides what it means.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, JsonObject, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool as Told,
};
use rmcp::service::{RequestContext, RoleServer, ServiceExt};
use serde_json::{Map, Value};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::provider::Action;
use super::tools;
use crate::scenario::model::{Cluster, Tool};

/// Tools for one agent. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub tools: Vec<Tool>,
    pub cluster: Arc<Cluster>,
    pub calls: mpsc::Sender<ToolUse>,
    pub count: Arc<AtomicU32>,
}

/// A call that waits for its result.
#[derive(Debug)]
pub struct ToolUse {
    /// Of our own counting.
    pub id: String,
    pub tool: String,
    pub arguments: Map<String, Value>,
    /// Those that there are.
    known: Vec<Tool>,
    give: oneshot::Sender<(String, bool)>,
}

impl ToolUse {
    /// What it asks for. The error is for the client to read.
    pub(super) fn actions(&self) -> Result<Vec<Action>, String> {
        let names = || self.known.iter().map(|tool| tool.name()).collect::<Vec<_>>().join(", ");
        let tool = self.known.iter().find(|tool| tool.name() == self.tool);
        let tool = *tool.ok_or_else(|| format!("there is no tool `{}`; there are: {}", self.tool, names()))?;
        tools::actions(tool, self.arguments.clone())
    }

    /// A client that is gone hears nothing.
    pub(super) fn answer(self, text: String, ok: bool) {
        let _ = self.give.send((text, ok));
    }
}

impl Offer {
    pub fn new(tools: &[Tool], cluster: &Arc<Cluster>, calls: mpsc::Sender<ToolUse>) -> Self {
        Self { tools: tools.to_vec(), cluster: Arc::clone(cluster), calls, count: Arc::default() }
    }

    /// Serves one client to its end.
    pub async fn serve(self, stream: UnixStream) {
        // A client that says nothing we understand is its own affair.
        if let Ok(running) = ServiceExt::serve(self, stream).await {
            let _ = running.waiting().await;
        }
    }

    async fn call(&self, params: CallToolRequestParams) -> (String, bool) {
        let id = format!("call_{}", self.count.fetch_add(1, Ordering::Relaxed) + 1);
        let (give, take) = oneshot::channel();
        let arguments = params.arguments.unwrap_or_default();
        let call = ToolUse { id, tool: params.name.into_owned(), arguments, known: self.tools.clone(), give };
        let over = || ("The work has ended: nothing is carried out any more.".to_owned(), false);
        if self.calls.send(call).await.is_err() {
            return over();
        }
        take.await.unwrap_or_else(|_| over())
    }
}

impl ServerHandler for Offer {
    fn get_info(&self) -> ServerConfig {
        // Its own name would tell whose it is.
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("workstation", "1"))
            .with_instructions("Tools of the machine that you work on.")
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, rmcp::ErrorData> {
        let told = |tool: &Tool| {
            let spec = tools::spec(*tool, &self.cluster.actions);
            let schema: JsonObject = match spec.parameters {
                Value::Object(schema) => schema,
                _ => JsonObject::new(),
            };
            Told::new(spec.name, spec.description, schema)
        };
        Ok(ListToolsResult::with_all_items(self.tools.iter().map(told).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, rmcp::ErrorData> {
        let (text, ok) = self.call(request).await;
        let content = vec![ContentBlock::text(text)];
        Ok(if ok { CallToolResult::success(content) } else { CallToolResult::error(content) }.into())
    }
}
