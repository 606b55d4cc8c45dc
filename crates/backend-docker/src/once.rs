//! Temporary container that runs one script and is then removed.

use std::collections::HashMap;

use bollard::container::LogOutput;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, LogsOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;

use super::engine::Engine;
use super::error::EngineError;
use super::reap;

/// Runs `script` in a container of `image` without a network connection. The script may change the configuration of the empty network
/// namespace. Returns the output of the script.
///
/// # Errors
/// Returns an error if the container cannot be created. The exit code of the script is ignored.
pub fn run<'a>(engine: &'a Engine, image: &'a str, script: &'a str) -> BoxFuture<'a, Result<String, EngineError>> {
    Box::pin(async move {
        let failed = |error: bollard::errors::Error| EngineError::from_api(format!("trying things in a container of `{image}`"), &error);
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec!["/bin/sh".into(), "-c".into(), script.to_owned()]),
            cmd: Some(Vec::new()),
            labels: Some(HashMap::from([reap::owner()])),
            host_config: Some(HostConfig {
                network_mode: Some("none".into()),
                cap_add: Some(vec!["NET_ADMIN".into()]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let id = engine.api().create_container(None::<CreateContainerOptions>, body).await.map_err(failed)?.id;
        let outcome = async {
            engine.api().start_container(&id, None::<StartContainerOptions>).await?;
            let mut ends = std::pin::pin!(engine.api().wait_container(&id, None::<WaitContainerOptions>));
            while ends.next().await.is_some() {}
            let options = LogsOptionsBuilder::default().stdout(true).build();
            let mut output = std::pin::pin!(engine.api().logs(&id, Some(options)));
            let mut text = String::new();
            while let Some(part) = output.next().await {
                if let LogOutput::StdOut { message } | LogOutput::Console { message } = part? {
                    text.push_str(&String::from_utf8_lossy(&message));
                }
            }
            Ok(text)
        }
        .await;
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let removed = engine.api().remove_container(&id, Some(options)).await;
        let text = outcome.map_err(failed)?;
        removed.map_err(failed)?;
        Ok(text)
    })
}
