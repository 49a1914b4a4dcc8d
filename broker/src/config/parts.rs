//! What the parts of a broker are told: the keys of the table in the words of the store and of the network.
//!
//! Pure; nothing here checks a value, that was done when it was read.

use std::{path::PathBuf, time::Duration};

use gantry_message::Millis;
use gantry_net::server::Limits;
use gantry_store::StoreConfig;

use super::{BrokerConfig, FlushDiskType};
use crate::delay::Levels;

/// How many I/O threads there are.
pub(crate) fn io_threads(config: &BrokerConfig) -> usize {
    match config.server.io_threads {
        0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
        count => count as usize,
    }
}

/// What connections may take.
pub(crate) fn limits(config: &BrokerConfig) -> Limits {
    let server = &config.server;
    let buffer = |bytes: u32| (bytes != 0).then_some(bytes as usize);
    Limits {
        connections: server.max_connections as usize,
        connections_per_address: server.max_connections_per_address as usize,
        frame_bytes_max: server.frame_max_length as usize,
        unparsed_bytes_max: usize::try_from(server.max_unparsed_bytes).unwrap_or(usize::MAX),
        in_flight_per_connection: server.max_in_flight_per_connection as usize,
        outbound_bytes_per_connection: usize::try_from(server.max_outbound_bytes_per_connection)
            .unwrap_or(usize::MAX),
        outbound_bytes_max: usize::try_from(server.max_outbound_bytes).unwrap_or(usize::MAX),
        idle: Duration::from_secs(server.server_channel_max_idle_time_seconds.into()),
        send_buffer: buffer(server.server_socket_snd_buf_size),
        receive_buffer: buffer(server.server_socket_rcv_buf_size),
        ..Limits::default()
    }
}

/// Bytes behind the end of the log that count as being in memory (semantics.md 7).
pub(crate) fn hot_bytes(config: &BrokerConfig) -> u64 {
    let memory = gantry_disk::physical_memory().unwrap_or(24 << 30);
    (memory / 100).saturating_mul(config.store.access_message_in_memory_max_ratio.into())
}

/// What a broker with this configuration stores, and where.
pub(crate) fn store_config(config: &BrokerConfig) -> StoreConfig {
    let store = &config.store;
    let percent = |ratio: f64| (ratio * 100.0).round() as u64;
    StoreConfig {
        root: PathBuf::from(&store.store_path_root_dir),
        commit_log_paths: log_paths(config, store.store_path_commit_log.as_deref()),
        read_only_commit_log_paths: log_paths(
            config,
            store.read_only_commit_log_store_paths.as_deref(),
        ),
        segment_size: store.mapped_file_size_commit_log,
        queue_file_size: store.mapped_file_size_consume_queue,
        index_slots: store.max_hash_slot_num,
        index_entries: store.max_index_num,
        index_enabled: store.message_index_enable,
        query_max: store.max_msgs_num_batch as usize,
        delay_levels: delay_levels(config),
        max_message_size: store.max_message_size,
        flush_sync: store.flush_disk_type == FlushDiskType::SyncFlush,
        flush_interval_ms: store.flush_interval_commit_log,
        flush_timed: store.flush_commit_log_timed,
        flush_least_pages: store.flush_commit_log_least_pages,
        flush_thorough_interval_ms: store.flush_commit_log_thorough_interval,
        queue_flush_interval_ms: store.flush_interval_consume_queue,
        queue_flush_least_pages: store.flush_consume_queue_least_pages,
        queue_flush_thorough_interval_ms: store.flush_consume_queue_thorough_interval,
        check_crc_on_recover: store.check_crc_on_recover,
        max_transfer_bytes_in_memory: store.max_transfer_bytes_on_message_in_memory.into(),
        max_transfer_count_in_memory: store.max_transfer_count_on_message_in_memory,
        max_transfer_bytes_on_disk: store.max_transfer_bytes_on_message_in_disk.into(),
        max_transfer_count_on_disk: store.max_transfer_count_on_message_in_disk,
        memory_ratio: store.access_message_in_memory_max_ratio,
        reserved_hours: store.file_reserved_time.into(),
        delete_when: store
            .delete_when
            .split(';')
            .filter_map(|hour| hour.trim().parse().ok())
            .collect(),
        disk_notice_ratio: percent(store.disk_space_notice_ratio),
        release_wait_ms: store.destroy_maped_file_interval_forcibly,
        clean_interval_ms: store.clean_resource_interval,
        delete_log_interval_ms: store.delete_commit_log_files_interval,
        delete_queue_interval_ms: store.delete_consume_queue_files_interval,
        clean_forcibly: store.clean_file_forcibly_enable,
        disk_max_used_ratio: store.disk_max_used_space_ratio.into(),
        disk_clean_forcibly_ratio: percent(store.disk_space_clean_forcibly_ratio),
        disk_full_ratio: percent(store.disk_space_warning_level_ratio),
        ..StoreConfig::default()
    }
}

/// Recovery computes due times of delayed messages again. The text was checked when it was read.
fn delay_levels(config: &BrokerConfig) -> Vec<Millis> {
    let levels = Levels::parse(&config.store.message_delay_level);
    let delays = |levels: Levels| levels.iter().map(|level| levels.delay(level)).collect();
    levels.map_or_else(|_| Vec::new(), delays)
}

/// The folders of a list.
pub(crate) fn log_paths(config: &BrokerConfig, list: Option<&str>) -> Vec<PathBuf> {
    let paths = list.unwrap_or_default().trim();
    let paths = paths.split(config.store.multi_path_splitter.as_str());
    paths
        .filter(|path| !path.trim().is_empty())
        .map(PathBuf::from)
        .collect()
}
