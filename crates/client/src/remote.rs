//! Connections by address: made when first needed, kept while they are open.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use gantry_net::client::{Connection, Options, Reply};
use gantry_wire::{HeaderEncode, codes::response};

use crate::{Error, Refused};

/// Every connection of one client.
#[derive(Debug, Default)]
pub struct Remote {
    options: Options,
    open: Mutex<HashMap<String, Connection>>,
}

impl Remote {
    /// No connections yet; new ones are made with these options.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            open: Mutex::default(),
        }
    }

    /// The connection to an address, made if there is none.
    pub async fn connection(&self, address: &str) -> Result<Connection, Error> {
        if let Some(open) = self.table().get(address).filter(|known| known.is_open()) {
            return Ok(open.clone());
        }
        let made = Connection::connect(address, &self.options).await;
        let made = made.map_err(|reason| Error::Connect {
            address: address.to_owned(),
            reason,
        })?;
        let mut table = self.table();
        // Somebody else may have been faster; one connection is enough.
        if let Some(open) = table.get(address).filter(|known| known.is_open()) {
            return Ok(open.clone());
        }
        table.insert(address.to_owned(), made.clone());
        Ok(made)
    }

    /// Sends a request and waits for its answer, whatever its code is.
    pub async fn call(
        &self,
        address: &str,
        code: i32,
        header: &impl HeaderEncode,
        body: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> Result<Reply, Error> {
        let connection = self.connection(address).await?;
        Ok(connection
            .call(code, |sink| header.encode(sink), body, timeout)
            .await?)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Connection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer if it says success, else the refusal; `broker` is named in it.
pub(crate) fn successful(reply: Reply, broker: Option<&str>) -> Result<Reply, Error> {
    if reply.code == response::SUCCESS {
        Ok(reply)
    } else {
        Err(refused(reply, broker))
    }
}

pub(crate) fn refused(reply: Reply, broker: Option<&str>) -> Error {
    // Java prints a missing remark as `null`.
    let remark = reply.remark.unwrap_or_else(|| "null".to_owned());
    Error::Refused(Refused {
        code: reply.code,
        remark,
        broker: broker.map(str::to_owned),
    })
}

/// What a body says, or who sent one that cannot be read.
pub(crate) fn parsed<T, E: std::fmt::Display>(
    what: &'static str,
    address: &str,
    result: Result<T, E>,
) -> Result<T, Error> {
    result.map_err(|error| Error::BadAnswer {
        what,
        address: address.to_owned(),
        reason: error.to_string(),
    })
}

/// No body.
pub(crate) const NO_BODY: Bytes = Bytes::new();
