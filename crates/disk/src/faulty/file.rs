//! One open file of the disk: every write, length and sync is a change that can be the last.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::world::{Change, put, stopped};
use super::{FaultyDisk, Operation};
use crate::{Advice, File};

/// What the system says of a bad sector.
const EIO: i32 = 5;

pub(super) struct FaultyFile {
    pub(super) disk: FaultyDisk,
    pub(super) node: u64,
    pub(super) held: Arc<()>,
}

impl fmt::Debug for FaultyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyFile({})", self.node)
    }
}

impl FaultyFile {
    fn change(&self, operation: Option<Operation>, change: Change) -> io::Result<()> {
        let mut world = self.disk.world();
        let failed = operation.map_or(Ok(()), |operation| world.may(operation));
        world.change()?;
        let torn = failed.is_err() || world.is_stopped();
        let change = match change {
            Change::Write(at, mut bytes) => {
                if torn {
                    let kept = world.below(bytes.len() + 1);
                    bytes.truncate(kept);
                }
                Change::Write(at, bytes)
            }
            Change::SetLen(_) if failed.is_err() => return failed,
            other => other,
        };
        let len = world
            .nodes
            .get(&self.node)
            .map_or(0, |node| node.live.len());
        let end = match &change {
            Change::Write(at, bytes) => at + bytes.len(),
            Change::SetLen(end) => *end,
        };
        world.grow(end.saturating_sub(len))?;
        let stopped_now = world.is_stopped();
        if let Some(node) = world.nodes.get_mut(&self.node) {
            match &change {
                Change::Write(at, bytes) => put(&mut node.live, *at, bytes),
                Change::SetLen(len) => node.live.resize(*len, 0),
            }
            node.pending.push(change);
        }
        failed?;
        if stopped_now { Err(stopped()) } else { Ok(()) }
    }

    fn number(at: u64) -> io::Result<usize> {
        usize::try_from(at).map_err(|_| io::ErrorKind::InvalidInput.into())
    }
}

impl File for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        let world = self.disk.world();
        world.look()?;
        Ok(world
            .nodes
            .get(&self.node)
            .map_or(0, |node| node.live.len() as u64))
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut world = self.disk.world();
        world.look()?;
        world.may(Operation::Read)?;
        let Some(node) = world.nodes.get(&self.node) else {
            return Ok(0);
        };
        if node.bad.start < at.saturating_add(into.len() as u64) && at < node.bad.end {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let from = node.live.len().min(Self::number(at)?);
        let count = into.len().min(node.live.len() - from);
        into[..count].copy_from_slice(&node.live[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.change(
            Some(Operation::Write),
            Change::Write(Self::number(at)?, bytes.to_vec()),
        )
    }

    fn write_vectored_at(&self, parts: &[&[u8]], at: u64) -> io::Result<()> {
        self.write_at(&parts.concat(), at)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.change(
            Some(Operation::Allocate),
            Change::SetLen(Self::number(len)?),
        )
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        let end = Self::number(range.end)?.min(Self::number(self.len()?)?);
        let start = Self::number(range.start)?;
        if start >= end {
            return Ok(());
        }
        self.change(None, Change::Write(start, vec![0; end - start]))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(None, Change::SetLen(Self::number(len)?))
    }

    fn sync(&self) -> io::Result<()> {
        let gate = Arc::clone(&self.disk.world().syncs);
        gate.pass();
        let mut world = self.disk.world();
        world.change()?;
        let allowed = world.may(Operation::Sync);
        if world.is_stopped() {
            // Death in the middle of it: whether it happened shows after a power cut.
            return Err(stopped());
        }
        let Some(node) = world.nodes.get_mut(&self.node) else {
            return allowed;
        };
        match allowed {
            Ok(()) => node.sync(),
            Err(_) => node.forget(),
        }
        allowed
    }

    fn slice(&self, range: Range<u64>) -> io::Result<Bytes> {
        let world = self.disk.world();
        world.look()?;
        let range = Self::number(range.start)?..Self::number(range.end)?;
        let bytes = world
            .nodes
            .get(&self.node)
            .and_then(|node| node.live.get(range));
        bytes
            .map(Bytes::copy_from_slice)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Slices are copies, which hold nothing.
    fn holders(&self) -> Weak<()> {
        Arc::downgrade(&self.held)
    }

    fn has_name(&self) -> io::Result<bool> {
        let world = self.disk.world();
        world.look()?;
        Ok(world.names.files.values().any(|node| *node == self.node))
    }

    fn advise(&self, _range: Range<u64>, _advice: Advice) {}
}
