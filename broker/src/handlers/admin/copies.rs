//! Whole tables (21, 43, 45, 201), which slaves copy and tools export.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_wire::Response;
use gantry_wire::bodies::DelayOffsets;

use super::sent;
use crate::delay::Delay;
use crate::refusal::Refusal;
use crate::tables::{Groups, Offsets, Topics};

/// The parts that copies are made of.
pub struct Copies {
    /// The topics.
    pub topics: Arc<Topics>,
    /// The groups.
    pub groups: Arc<Groups>,
    /// Where groups stand.
    pub offsets: Arc<Offsets>,
    /// Where delay levels stand.
    pub delay: Arc<Delay>,
}

impl Copies {
    /// Serves 21.
    pub fn topics(&self) -> Response {
        Response::with_body(self.topics.wire_table().encode())
    }

    /// Serves 201.
    pub fn groups(&self) -> Response {
        Response::with_body(self.groups.wire_table().encode())
    }

    /// Serves 43. Blocks: a slave tells a reset from a kill by this, so what it is told must not go back by a kill.
    pub fn offsets(&self) -> Result<Response, Refusal> {
        let table = self.offsets.table_on_disk();
        let table = table.map_err(|error| Refusal::not_persisted(&error))?;
        Ok(Response::with_body(table.encode()))
    }

    /// Serves 45.
    pub fn delay_offsets(&self) -> Response {
        let positions = self.delay.positions().into_iter();
        let table: BTreeMap<_, _> = positions
            .map(|(level, next)| {
                (
                    i32::try_from(level.number()).unwrap_or(i32::MAX),
                    sent(next),
                )
            })
            .collect();
        Response::with_body(
            DelayOffsets {
                offset_table: table,
            }
            .encode(),
        )
    }
}
