//! 100, 101, 102 and 219: the key-value table.

use std::sync::Arc;

use gantry_wire::codes::response;
use gantry_wire::headers::{DeleteKvConfig, GetKvConfig, GetKvConfigAnswer, GetKvListByNamespace};
use gantry_wire::{Request, Response};

use crate::kv::Kv;
use crate::refusal::Refusal;

/// Requests about the table.
#[derive(Debug)]
pub(crate) struct KvRequests {
    pub(crate) kv: Arc<Kv>,
}

impl KvRequests {
    /// Blocks on the disk.
    pub(crate) fn put(&self, request: &Request) -> Result<Response, Refusal> {
        let (Some(namespace), Some(key)) =
            (request.fields.get("namespace"), request.fields.get("key"))
        else {
            return Err(Refusal::new("namespace or key is null"));
        };
        let Some(value) = request.fields.get("value") else {
            return Err(Refusal::new(format!(
                "value of namespace {namespace} key {key} is null"
            )));
        };
        self.kv.put(namespace, key, value)?;
        tracing::info!("KV config: {namespace} {key} is {value:?}");
        Ok(Response::ok())
    }

    pub(crate) fn get(&self, request: &Request) -> Result<Response, Refusal> {
        let GetKvConfig { namespace, key } = request.header()?;
        match self.kv.get(namespace, key) {
            Some(value) => Ok(Response::ok().header(&GetKvConfigAnswer {
                value: Some(&value),
            })),
            None => Err(Refusal::with(
                response::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {namespace} Key: {key}"),
            )),
        }
    }

    /// Blocks on the disk.
    pub(crate) fn delete(&self, request: &Request) -> Result<Response, Refusal> {
        let DeleteKvConfig { namespace, key } = request.header()?;
        self.kv.delete(namespace, key)?;
        tracing::info!("KV config: {namespace} {key} is deleted");
        Ok(Response::ok())
    }

    pub(crate) fn list(&self, request: &Request) -> Result<Response, Refusal> {
        let GetKvListByNamespace { namespace } = request.header()?;
        match self.kv.list(namespace) {
            Some(table) => Ok(Response::with_body(table.encode())),
            None => Err(Refusal::with(
                response::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {namespace}"),
            )),
        }
    }
}
