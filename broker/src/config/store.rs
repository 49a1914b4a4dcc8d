//! Keys of the message store: RocketMQ's `MessageStoreConfig`, and the system properties about the disk.
//!
//! Sizes of files must fit the files on disk and those of the other side of a master/slave pair.

use gantry_config::{choices, settings};

use crate::delay::Levels;

choices! {
    /// What this broker is to others of its name.
    pub enum BrokerRole {
        /// Answers before slaves have the message.
        AsyncMaster = "ASYNC_MASTER",
        /// Answers when a slave has it too.
        SyncMaster = "SYNC_MASTER",
        /// Copies a master.
        Slave = "SLAVE",
    }
}

choices! {
    /// When a message is safe from a power failure.
    pub enum FlushDiskType {
        /// Within a moment after the answer.
        AsyncFlush = "ASYNC_FLUSH",
        /// Before the answer.
        SyncFlush = "SYNC_FLUSH",
    }
}

const NO_POOL: &str = "messages are written to files directly; there is no buffer pool";
const AS_MUCH: &str = "a slave is sent as much as there is, up to 1 MiB at once";
const NO_DLEDGER: &str = "this version has no DLedger";
const NO_LMQ: &str = "this version has no LMQ";
const NO_WARMING: &str = "files are allocated before they are written; there is nothing to warm";
const QUEUE_FLUSH: &str = "no promise rests on queue files, a restart makes them again from the log; they are written every 100 ms and synced every 10 s while they change";
const NO_EXT: &str = "what Apache's broker left there is read, new messages have their tags code in the queue itself, \
                      which Apache's broker reads as well; only SQL filters would use more";

choices! {
    /// What a send to a SYNC_MASTER becomes when its copy is missing.
    pub enum SlaveAckPolicy {
        /// It is stored, and the answer says what is missing, as RocketMQ's does.
        Report = "report",
        /// It is not stored when too few slaves are near; producers try another broker.
        Refuse = "refuse",
        /// It is stored and a success without the copy, until slaves are back.
        Degrade = "degrade",
    }
}

settings! {
    /// What is kept, where and how safely.
    pub struct StoreSettings |host| {
        section "Store: role and safety";
        /// ASYNC_MASTER, SYNC_MASTER or SLAVE.
        broker_role: BrokerRole = BrokerRole::AsyncMaster, "brokerRole" [.important().misspellings(&["brokerRote"])];
        /// ASYNC_FLUSH or SYNC_FLUSH.
        flush_disk_type: FlushDiskType = FlushDiskType::AsyncFlush, "flushDiskType" [.important()];
        /// Milliseconds a send may wait for SYNC_FLUSH.
        sync_flush_timeout: u64 = 5_000, "syncFlushTimeout" [.between(1, 600_000).live()];
        /// Milliseconds a send may wait for a slave.
        slave_timeout: u64 = 3_000, "slaveTimeout" [.between(1, 600_000).live()];

        /// Milliseconds a write may hold the log before the page cache counts as busy.
        os_page_cache_busy_time_out_mills: u64 = 1_000, "osPageCacheBusyTimeOutMills" [.live()];

        section "Store: places and sizes";
        /// Folder of everything that is kept.
        store_path_root_dir: String = format!("{}/store", host.user_home), "storePathRootDir"
            [.check(path).shown("~/store").env(&["STATE_DIRECTORY"])];
        /// Folder of the log; several with `,` between them. Default: commitlog below storePathRootDir.
        store_path_commit_log: Option<String> = None, "storePathCommitLog"
            [.important().check(no_tilde).shown("<storePathRootDir>/commitlog")];
        /// Character between the folders of storePathCommitLog and readOnlyCommitLogStorePaths.
        multi_path_splitter: String = ",".into(), "rocketmq.broker.multiPathSplitter" [.check(one_character)];
        /// Folders with old files of the log, in which no new ones are made; several with `,` between them. They may stand
        /// in storePathCommitLog too.
        read_only_commit_log_store_paths: Option<String> = None, "readOnlyCommitLogStorePaths" [.check(no_tilde)];
        /// Size of a log file, bytes. A message must fit.
        mapped_file_size_commit_log: u64 = 1_073_741_824, "mappedFileSizeCommitLog"
            [.between(65_536, 2_147_483_647).aliases(&["mapedFileSizeCommitLog"])];
        /// Size of a queue file, bytes; rounded up to a multiple of 20.
        mapped_file_size_consume_queue: u64 = 6_000_000, "mappedFileSizeConsumeQueue"
            [.between(20, 2_147_483_640).aliases(&["mapedFileSizeConsumeQueue"])];
        /// Longest message body, bytes.
        max_message_size: u32 = 4_194_304, "maxMessageSize" [.between(1, 1_073_741_824).live()];
        /// Keeps an index of message keys.
        message_index_enable: bool = true, "messageIndexEnable" [.important()];
        /// Hash slots of an index file.
        max_hash_slot_num: u32 = 5_000_000, "maxHashSlotNum" [.between(1, 100_000_000)];
        /// Keys in an index file.
        max_index_num: u32 = 20_000_000, "maxIndexNum" [.between(2, 100_000_000)];
        /// Keys with equal hash that a query looks at, at most.
        max_msgs_num_batch: u32 = 64, "maxMsgsNumBatch" [.between(1, 1_000_000).live()];
        /// Messages with one unique key that a query returns, at most.
        default_query_max_num: u32 = 32, "defaultQueryMaxNum" [.between(1, 1_000_000)];
        /// Keeps filter data beside the queues.
        enable_consume_queue_ext: bool = false, "enableConsumeQueueExt" [.without_effect(NO_EXT)];
        /// Size of such a file.
        mapped_file_size_consume_queue_ext: u32 = 50_331_648, "mappedFileSizeConsumeQueueExt" [.without_effect(NO_EXT)];
        /// Bits of filter data of a message.
        bit_map_length_consume_queue_ext: u32 = 64, "bitMapLengthConsumeQueueExt" [.without_effect(NO_EXT)];

        section "Store: flushing";
        /// Milliseconds between flushes of the log.
        flush_interval_commit_log: u64 = 500, "flushIntervalCommitLog" [.between(1, 600_000).important().live()];
        /// Flushes at the interval only. false: also as soon as flushCommitLogLeastPages are waiting.
        flush_commit_log_timed: bool = true, "flushCommitLogTimed" [.important().live()];
        /// Pages of 4 KiB that must wait before the log is flushed.
        flush_commit_log_least_pages: u32 = 4, "flushCommitLogLeastPages" [.between(0, 1_000_000).live()];
        /// Milliseconds after which fewer pages are flushed too.
        flush_commit_log_thorough_interval: u64 = 10_000, "flushCommitLogThoroughInterval" [.between(1, 600_000).live()];
        /// Milliseconds between flushes of queues.
        flush_interval_consume_queue: u64 = 1_000, "flushIntervalConsumeQueue"
            [.between(1, 600_000).without_effect(QUEUE_FLUSH)];
        /// Pages of 4 KiB of a queue that must wait before it is flushed.
        flush_consume_queue_least_pages: u32 = 2, "flushConsumeQueueLeastPages"
            [.between(0, 1_000_000).without_effect(QUEUE_FLUSH)];
        /// Milliseconds after which all queues are flushed and the checkpoint is written.
        flush_consume_queue_thorough_interval: u64 = 60_000, "flushConsumeQueueThoroughInterval" [.between(1, 3_600_000).live()];
        /// Checks checksums of bodies when the store is opened.
        check_crc_on_recover: bool = true, "checkCRCOnRecover";
        /// Recovery goes back to the time of the index too.
        message_index_safe: bool = false, "messageIndexSafe"
            [.important().without_effect("recovery does not go by the time of the index")];

        section "Store: reading";
        /// Bytes of an answer to a pull, recent messages.
        max_transfer_bytes_on_message_in_memory: u32 = 262_144, "maxTransferBytesOnMessageInMemory"
            [.between(1, 16_777_216).important().live()];
        /// Messages of an answer to a pull, recent messages.
        max_transfer_count_on_message_in_memory: u32 = 32, "maxTransferCountOnMessageInMemory"
            [.between(1, 65_536).important().live()];
        /// Bytes of an answer to a pull, old messages.
        max_transfer_bytes_on_message_in_disk: u32 = 65_536, "maxTransferBytesOnMessageInDisk"
            [.between(1, 16_777_216).important().live()];
        /// Messages of an answer to a pull, old messages.
        max_transfer_count_on_message_in_disk: u32 = 8, "maxTransferCountOnMessageInDisk"
            [.between(1, 65_536).important().live()];
        /// Messages count as recent while they are within this part of the memory, per cent.
        access_message_in_memory_max_ratio: u32 = 40, "accessMessageInMemoryMaxRatio" [.between(0, 100).important()];
        /// Counts how far groups are behind.
        disk_fall_recorded: bool = true, "diskFallRecorded" [.without_effect("this version does not count it")];

        section "Store: keeping and deleting";
        /// Hours after which a log file may be deleted.
        file_reserved_time: u32 = 72, "fileReservedTime" [.between(0, 876_000).important().live()];
        /// Hours of the day, local time, at which old files are deleted, `;` between them.
        delete_when: String = "04".into(), "deleteWhen" [.important().check(hours).live()];
        /// Use of the disk, per cent, from which old files are deleted at any hour.
        disk_max_used_space_ratio: u32 = 75, "diskMaxUsedSpaceRatio" [.between(10, 95).live()];
        /// Use of the disk from which files are deleted before their time.
        disk_space_clean_forcibly_ratio: f64 = 0.85, "rocketmq.broker.diskSpaceCleanForciblyRatio" [.ratio(0.1, 0.99).live()];
        /// Use of the disk from which sends are refused.
        disk_space_warning_level_ratio: f64 = 0.90, "rocketmq.broker.diskSpaceWarningLevelRatio" [.ratio(0.1, 0.99).live()];
        /// Use of the disk from which the log warns, each hour, that messages will be deleted early or refused.
        disk_space_notice_ratio: f64 = 0.80, "diskSpaceNoticeRatio" [.ratio(0.1, 0.99).live().ours()];
        /// Deletes files before their time when the disk is nearly full.
        clean_file_forcibly_enable: bool = true, "cleanFileForciblyEnable" [.important().live()];
        /// Milliseconds between looks at what may be deleted.
        clean_resource_interval: u64 = 10_000, "cleanResourceInterval" [.between(100, 3_600_000).live()];
        /// Milliseconds between deletions of log files.
        delete_commit_log_files_interval: u64 = 100, "deleteCommitLogFilesInterval" [.between(0, 600_000).live()];
        /// Milliseconds between deletions of queue files.
        delete_consume_queue_files_interval: u64 = 100, "deleteConsumeQueueFilesInterval" [.between(0, 600_000).live()];
        /// Milliseconds that deletion for want of space waits for readers of a deleted file before it takes the next one.
        destroy_maped_file_interval_forcibly: u64 = 120_000, "destroyMapedFileIntervalForcibly"
            [.between(0, 3_600_000).live()];
        /// Milliseconds until deletion of a file that could not be deleted is tried again.
        redelete_hanged_file_interval: u64 = 120_000, "redeleteHangedFileInterval"
            [.without_effect("it is tried again each cleanResourceInterval")];

        section "Store: delayed messages";
        /// The delays that a message can have, shortest first: number and s, m, h or d.
        message_delay_level: String = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h".into(),
            "messageDelayLevel" [.check(delay_levels)];
        /// Milliseconds between savings of how far delivery is.
        flush_delay_offset_interval: u64 = 10_000, "flushDelayOffsetInterval" [.between(100, 3_600_000)];
        /// Counts delayed deliveries.
        enable_schedule_message_stats: bool = true, "enableScheduleMessageStats";
        /// Delivers without waiting for each message.
        enable_schedule_async_deliver: bool = false, "enableScheduleAsyncDeliver"
            [.without_effect("delivery never waits for the disk")];
        /// Deliveries of a level that are under way.
        schedule_async_deliver_max_pending_limit: u32 = 2_000, "scheduleAsyncDeliverMaxPendingLimit"
            [.without_effect("delivery never waits for the disk")];
        /// Attempts until a level stops at a message.
        schedule_async_deliver_max_resend_num2_blocked: u32 = 3, "scheduleAsyncDeliverMaxResendNum2Blocked"
            [.without_effect("delivery never waits for the disk")];

        section "Replication";
        /// Port for slaves. Default: listenPort + 1, which RocketMQ always takes.
        ha_listen_port: u16 = 10_912, "haListenPort" [.between(1, 65_535).shown("listenPort + 1")];
        /// Milliseconds between signs of life to slaves.
        ha_send_heartbeat_interval: u64 = 5_000, "haSendHeartbeatInterval" [.between(100, 3_600_000)];
        /// Milliseconds after which a silent peer is dropped.
        ha_housekeeping_interval: u64 = 20_000, "haHousekeepingInterval" [.between(1_000, 3_600_000)];
        /// Bytes sent to a slave at once.
        ha_transfer_batch_size: u32 = 32_768, "haTransferBatchSize" [.without_effect(AS_MUCH)];
        /// Address of the master, for a slave that should not ask the name server.
        ha_master_address: Option<String> = None, "haMasterAddress" [.important().check(master)];
        /// A slave acknowledges what it has synced, not what it has stored.
        slave_ack_after_flush: bool = false, "slaveAckAfterFlush" [.ours()];
        /// Bytes a slave may be behind and still count for SYNC_MASTER.
        ha_slave_fallbehind_max: u32 = 268_435_456, "haSlaveFallbehindMax" [.live()];
        /// How many slaves must have a message before a SYNC_MASTER answers it with success. Slaves that come from one
        /// address without a link of Gantry's own count as one.
        in_sync_replicas: u32 = 1, "inSyncReplicas" [.between(1, 32).live().ours()];
        /// What a send to a SYNC_MASTER becomes when too few slaves can have it. report: stored, and answered
        /// SLAVE_NOT_AVAILABLE or FLUSH_SLAVE_TIMEOUT. refuse: not stored, answered with 14, so that producers try another
        /// broker. degrade: stored and answered with success, until enough slaves are there again.
        slave_ack_policy: SlaveAckPolicy = SlaveAckPolicy::Report, "slaveAckPolicy" [.live().ours()];
        /// Addresses of slaves, `,` between them, that get the log without being registered under this broker's name; `*`:
        /// whoever connects. Links that are open stay open.
        ha_peers: Option<String> = None, "haPeers" [.check(peers).live().ours()];
        /// A slave corrects a reader's offset that is outside the queue; else it leaves that to the master.
        offset_check_in_slave: bool = false, "offsetCheckInSlave" [.live()];

        section "Store: without effect";
        /// A lock instead of a spin lock.
        use_reentrant_lock_when_put_message: bool = true, "useReentrantLockWhenPutMessage"
            [.without_effect("a lock is always used")];
        /// Milliseconds between copies from the buffer pool.
        commit_interval_commit_log: u64 = 200, "commitIntervalCommitLog" [.important().without_effect(NO_POOL)];
        /// Pages that must wait before they are copied from the buffer pool.
        commit_commit_log_least_pages: u32 = 4, "commitCommitLogLeastPages" [.without_effect(NO_POOL)];
        /// Milliseconds after which fewer pages are copied too.
        commit_commit_log_thorough_interval: u64 = 200, "commitCommitLogThoroughInterval" [.without_effect(NO_POOL)];
        /// Writes through a buffer pool.
        transient_store_pool_enable: bool = false, "transientStorePoolEnable" [.important().without_effect(NO_POOL)];
        /// Buffers of the pool.
        transient_store_pool_size: u32 = 5, "transientStorePoolSize" [.without_effect(NO_POOL)];
        /// Refuses sends when the pool is empty.
        fast_fail_if_no_buffer_in_store_pool: bool = false, "fastFailIfNoBufferInStorePool" [.without_effect(NO_POOL)];
        /// Touches new files before they are used.
        warm_maped_file_enable: bool = false, "warmMapedFileEnable" [.without_effect(NO_WARMING)];
        /// Pages touched between flushes.
        flush_least_pages_when_warm_maped_file: u32 = 4_096, "flushLeastPagesWhenWarmMapedFile"
            [.without_effect(NO_WARMING)];
        /// Once meant for queues that fall behind.
        put_msg_index_hight_water: u32 = 600_000, "putMsgIndexHightWater"
            [.without_effect("RocketMQ 4.9 does not use it either")];
        /// Prints stacks when the log is held long.
        debug_lock_enable: bool = false, "debugLockEnable" [.without_effect("prints stacks of Java threads")];
        /// Two logs in one.
        duplication_enable: bool = false, "duplicationEnable" [.without_effect("unusable in RocketMQ 4.9 too")];

        section "DLedger and LMQ";
        /// Log by consensus.
        enable_dleger_commit_log: bool = false, "enableDLegerCommitLog" [.only("false", NO_DLEDGER)];
        /// Name of the group.
        dleger_group: Option<String> = None, "dLegerGroup" [.without_effect(NO_DLEDGER)];
        /// Members of the group.
        dleger_peers: Option<String> = None, "dLegerPeers" [.without_effect(NO_DLEDGER)];
        /// This member.
        dleger_self_id: Option<String> = None, "dLegerSelfId" [.without_effect(NO_DLEDGER)];
        /// Member that should lead.
        preferred_leader_id: Option<String> = None, "preferredLeaderId" [.without_effect(NO_DLEDGER)];
        /// Sends in batches.
        enable_batch_push: bool = false, "isEnableBatchPush" [.aliases(&["enableBatchPush"]).without_effect(NO_DLEDGER)];
        /// Folder of the log.
        store_path_dledger_commit_log: Option<String> = None, "storePathDLedgerCommitLog"
            [.important().without_effect(NO_DLEDGER)];
        /// Light queues.
        enable_lmq: bool = false, "enableLmq" [.only("false", NO_LMQ)];
        /// One message in several queues.
        enable_multi_dispatch: bool = false, "enableMultiDispatch" [.only("false", NO_LMQ)];
        /// Light queues, at most.
        max_lmq_consume_queue_num: u32 = 20_000, "maxLmqConsumeQueueNum" [.without_effect(NO_LMQ)];
    }
}

fn path(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        Err("the path of a folder")
    } else {
        no_tilde(text)
    }
}

/// Java would make a folder of that name, which nobody wants.
fn no_tilde(text: &str) -> Result<(), &'static str> {
    if text.starts_with('~') || text.contains('\0') {
        return Err("the path of a folder (~ is not understood)");
    }
    Ok(())
}

fn master(text: &str) -> Result<(), &'static str> {
    if text.trim().is_empty() || super::is_host_and_port(text.trim()) {
        Ok(())
    } else {
        Err("host:port, the master's haListenPort (for example 192.168.0.1:10912)")
    }
}

fn peers(text: &str) -> Result<(), &'static str> {
    let peers = text.split([',', ';']).map(str::trim);
    if peers
        .filter(|peer| !peer.is_empty() && *peer != "*")
        .all(|peer| peer.parse::<std::net::IpAddr>().is_ok())
    {
        Ok(())
    } else {
        Err("IP addresses with , between them, or *")
    }
}

fn one_character(text: &str) -> Result<(), &'static str> {
    if text.chars().count() == 1 {
        Ok(())
    } else {
        Err("one character")
    }
}

fn hours(text: &str) -> Result<(), &'static str> {
    // One `;` too many at the end is none, in Java's eyes.
    let good = text
        .trim_end_matches(';')
        .split(';')
        .all(|hour| hour.trim().parse::<u8>().is_ok_and(|hour| hour < 24));
    if good {
        Ok(())
    } else {
        Err("hours from 00 to 23 with ; between them")
    }
}

fn delay_levels(text: &str) -> Result<(), &'static str> {
    match Levels::parse(text) {
        Ok(_) => Ok(()),
        Err(_) => {
            Err("numbers with s, m, h or d, blanks between them (for example 1s 5s 10s 1m 2h)")
        }
    }
}
