//! The store: whether it takes messages, how far it is written, synced and indexed, how long syncs take, how full its
//! disks are.

use std::sync::Arc;

use gantry_disk::Usage;
use gantry_service::metrics::{Families, Histogram, flag, float};
use gantry_store::{AppendError, Fault, SYNC_TIME_ENDS_US, Store, StoreFigures, SyncFigures};

use crate::{config::parts::hot_bytes, live::LiveConfig, standing::works};

/// The parts that say so.
pub struct StoreSource {
    /// The store.
    pub store: Arc<Store>,
    /// Limits as they are configured.
    pub live: Arc<LiveConfig>,
}

impl StoreSource {
    /// Adds its families. Asks the system how full disks are, and may wait for it.
    pub fn collect(&self, out: &mut Families) {
        let figures = self.store.figures();
        self.state(out, &figures);
        positions(out, &figures);
        syncs(out, &figures.syncs);
        self.disks(out);
        self.busy(out);
    }

    fn busy(&self, out: &mut Families) {
        for work in works(&self.store) {
            out.gauge(
                "gantry_store_busy_seconds",
                "How long this has been at the same piece of work; 0: it has nothing to do.",
                &[("work", work.name)],
                work.busy.as_secs_f64(),
            );
        }
        out.gauge(
            "gantry_store_page_cache_bytes",
            "Bytes behind the end of the log that are taken to be in memory: readers of older ones may wait for the disk.",
            &[],
            float(hot_bytes(&self.live.now())),
        );
        if let Some(earliest) = self.store.earliest_time() {
            out.gauge(
                "gantry_store_oldest_message_seconds",
                "When the oldest message was stored, in seconds since 1970.",
                &[],
                earliest.0 as f64 / 1e3,
            );
        }
    }

    fn state(&self, out: &mut Families, figures: &StoreFigures) {
        out.gauge(
            "gantry_store_writable",
            "1 while messages are taken.",
            &[],
            flag(self.store.check_writable().is_ok()),
        );
        for fault in Fault::ALL {
            out.gauge(
                "gantry_store_latched",
                "1 once this kind of operation has failed: the store is read only until the broker is restarted.",
                &[("reason", fault.name())],
                flag(figures.fault == Some(fault)),
            );
        }
        for (reason, count) in AppendError::REASONS.iter().zip(figures.refused) {
            out.counter(
                "gantry_store_write_refused_total",
                "Messages that the store did not take.",
                &[("reason", reason)],
                count,
            );
        }
        out.counter(
            "gantry_store_quarantined_files_total",
            "Files set aside because they could not be trusted.",
            &[],
            figures.quarantined,
        );
        out.counter(
            "gantry_commitlog_records_total",
            "Messages stored.",
            &[],
            figures.put_records,
        );
        out.counter(
            "gantry_commitlog_written_bytes_total",
            "Bytes of messages stored.",
            &[],
            figures.put_bytes,
        );
    }

    fn disks(&self, out: &mut Families) {
        let mut said: Vec<std::path::PathBuf> = Vec::new();
        for (dir, usage) in self.store.disks() {
            let (false, Some(usage)) = (said.contains(&dir), usage) else {
                continue;
            };
            let path = dir.display().to_string();
            disk(out, &path, usage);
            said.push(dir);
        }
        let config = self.live.now();
        let store = &config.store;
        for (limit, ratio) in [
            (
                "delete_at_any_hour",
                f64::from(store.disk_max_used_space_ratio) / 100.0,
            ),
            ("delete_before_time", store.disk_space_clean_forcibly_ratio),
            ("refuse", store.disk_space_warning_level_ratio),
        ] {
            out.gauge(
                "gantry_store_disk_limit_ratio",
                "Use of a disk from which files are deleted at any hour (diskMaxUsedSpaceRatio), before their time \
                 (diskSpaceCleanForciblyRatio), and from which messages are refused (diskSpaceWarningLevelRatio).",
                &[("limit", limit)],
                ratio,
            );
        }
    }
}

fn disk(out: &mut Families, path: &str, usage: Usage) {
    let labels = &[("path", path)];
    out.gauge(
        "gantry_store_disk_used_ratio",
        "Used part of the file system of a folder, as df computes it.",
        labels,
        float(usage.used_percent()) / 100.0,
    );
    out.gauge(
        "gantry_store_disk_free_bytes",
        "What the broker may still write to the file system of a folder.",
        labels,
        float(usage.available),
    );
    out.gauge(
        "gantry_store_disk_total_bytes",
        "Size of the file system of a folder.",
        labels,
        float(usage.total),
    );
}

fn positions(out: &mut Families, figures: &StoreFigures) {
    let unflushed = figures.max_offset.saturating_sub(figures.flushed_offset);
    for (name, help, value) in [
        (
            "gantry_commitlog_min_offset_bytes",
            "Where the oldest file of the log starts.",
            figures.min_offset,
        ),
        (
            "gantry_commitlog_max_offset_bytes",
            "Where the next message goes.",
            figures.max_offset,
        ),
        (
            "gantry_commitlog_flushed_offset_bytes",
            "How far the log is known to be on the disk.",
            figures.flushed_offset,
        ),
        (
            "gantry_commitlog_unflushed_bytes",
            "What a power cut now could take of the log.",
            unflushed,
        ),
        (
            "gantry_store_dispatch_behind_bytes",
            "Bytes of the log whose queue entries are not yet in files.",
            figures.queue_behind_bytes,
        ),
        (
            "gantry_store_index_behind_bytes",
            "Bytes of the log whose keys are not yet indexed.",
            figures.index_behind_bytes,
        ),
        (
            "gantry_commitlog_segments",
            "Files of the log.",
            figures.segments,
        ),
    ] {
        out.gauge(name, help, &[], float(value));
    }
}

fn syncs(out: &mut Families, syncs: &SyncFigures) {
    const MICRO: f64 = 1e-6;
    let ends = SYNC_TIME_ENDS_US.iter().map(|end| float(*end) * MICRO);
    let ranges: Vec<(f64, u64)> = ends.zip(syncs.ranges).collect();
    let histogram = Histogram {
        ranges: &ranges,
        beyond: syncs.ranges.last().copied().unwrap_or(0),
        sum: syncs.total.as_secs_f64(),
    };
    out.histogram(
        "gantry_commitlog_fsync_seconds",
        "How long syncs of a file of the log took.",
        &[],
        &histogram,
    );
    out.gauge(
        "gantry_commitlog_last_fsync_seconds",
        "How long the last of them took.",
        &[],
        syncs.last.as_secs_f64(),
    );
}
