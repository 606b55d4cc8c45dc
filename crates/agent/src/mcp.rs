//! MCP server that offers chaosrun's tools to an external agent. The agent loop runs their calls in the same way as those of a model agent.
//!
//! The client starts `node tools` of this program in its sandbox, which copies bytes between its stdio and the runner. The MCP
//! server runs in the runner. Calls are therefore limited and recorded as all others, and the agent cannot change their meaning.

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

use super::tools;
use super::turn::ProviderAction;
use chaosrun_scenario::model::{ClusterSpec, Tool};

/// Tools that the MCP server offers to one agent. Clones are cheap.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub tools: Vec<Tool>,
    /// Descriptions of the tools for clients.
    pub offered: Arc<[Told]>,
    pub calls: mpsc::Sender<ToolUse>,
    pub count: Arc<AtomicU32>,
}

/// Tool call of a client that waits for its result.
#[derive(Debug)]
pub struct ToolUse {
    /// Id of the call, assigned by this server.
    pub id: String,
    pub tool: String,
    pub arguments: Map<String, Value>,
    /// Tools that the variant offers to the agent.
    known: Vec<Tool>,
    give: oneshot::Sender<(String, bool)>,
}

impl ToolUse {
    /// Translates the call into actions. The error is a text for the client.
    pub(super) fn actions(&self) -> Result<Vec<ProviderAction>, String> {
        let names = || self.known.iter().map(|tool| tool.name()).collect::<Vec<_>>().join(", ");
        let tool = self.known.iter().find(|tool| tool.name() == self.tool);
        let tool = *tool.ok_or_else(|| format!("unknown tool `{}`; available tools: {}", self.tool, names()))?;
        tools::actions(tool, self.arguments.clone())
    }

    /// Sends the result of the call to the client. Does nothing if the client has disconnected.
    pub(super) fn answer(self, text: String, ok: bool) {
        let _ = self.give.send((text, ok));
    }
}

impl Offer {
    pub fn new(tools: &[Tool], cluster: &ClusterSpec, calls: mpsc::Sender<ToolUse>) -> Self {
        // Requests run in tasks of the library, whose panics are not reported. Hence everything is computed here.
        let offered = |tool: &Tool| {
            let spec = tools::spec(*tool, &cluster.actions);
            let schema: JsonObject = match spec.parameters {
                Value::Object(schema) => schema,
                _ => JsonObject::new(),
            };
            Told::new(spec.name, spec.description, schema)
        };
        Self { tools: tools.to_vec(), offered: tools.iter().map(offered).collect(), calls, count: Arc::default() }
    }

    /// Serves the tools to one client until the client disconnects.
    pub async fn serve(self, stream: UnixStream) {
        // Invalid messages concern only the client.
        if let Ok(running) = ServiceExt::serve(self, stream).await {
            let _ = running.waiting().await;
        }
    }

    async fn call(&self, params: CallToolRequestParams) -> (String, bool) {
        let id = format!("call_{}", self.count.fetch_add(1, Ordering::Relaxed) + 1);
        let (give, take) = oneshot::channel();
        let arguments = params.arguments.unwrap_or_default();
        let call = ToolUse { id, tool: params.name.into_owned(), arguments, known: self.tools.clone(), give };
        let over = || ("The session has ended. No tool calls are executed.".to_owned(), false);
        if self.calls.send(call).await.is_err() {
            return over();
        }
        take.await.unwrap_or_else(|_| over())
    }
}

impl ServerHandler for Offer {
    fn get_info(&self) -> ServerConfig {
        // The name of this program is hidden from the agent.
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("workstation", "1"))
            .with_instructions("Tools of this workstation.")
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, rmcp::ErrorData> {
        Ok(ListToolsResult::with_all_items(self.offered.to_vec()))
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
