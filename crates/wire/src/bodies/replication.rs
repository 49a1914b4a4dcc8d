//! How replication is doing: 46002, which only Gantry knows.

use super::bodies;

bodies! {
    /// One slave, as its master knows it.
    #[derive(Eq)]
    HaSlave "HaSlave" {
        /// Up to where it has the log; -1: it has not said.
        acknowledged: i64 = -1, "acknowledged";
        /// Where it connected from.
        address: String, "address";
        behind_bytes: i64, "behindBytes";
        behind_millis: i64, "behindMillis";
        /// Its id; -1: its link has no place for one.
        id: i64 = -1, "id";
        /// Whether it counts for a SYNC_MASTER.
        in_sync: bool, "inSync";
        /// Whether it is connected.
        is_open: bool, "open";
        /// For how long it has been connected, or not.
        since_millis: i64, "sinceMillis";
        /// Why it is not in sync.
        why: Option<String>, "why";
        /// `plain` is Apache's, `checked` Gantry's.
        wire: String, "wire";
    }

    /// What a slave knows of its master, from asking it every ten seconds.
    #[derive(Eq)]
    HaMaster "HaMaster" {
        /// Where it was asked.
        address: Option<String>, "address";
        /// How long ago it was asked; -1: not since the slave was started.
        asked_millis_ago: i64 = -1, "askedMillisAgo";
        /// Where the slave's own log ended then.
        copy_offset: i64, "copyOffset";
        /// The promotion that made it the master.
        epoch: Option<String>, "epoch";
        /// The slave followed it then: their logs were one.
        followed: bool, "followed";
        in_sync_replicas: i32, "inSyncReplicas";
        /// Bytes of its log that the slave had when it asked before, and has no more: cut off, for the master came back with
        /// less, or gone when it was started.
        lost_bytes: i64, "lostBytes";
        /// Where its log ended.
        max_offset: i64, "maxOffset";
        /// How many slaves without an id were connected at once: Apache's.
        nameless_slaves: i32, "namelessSlaves";
        role: String, "role";
        slave_ack_policy: String, "slaveAckPolicy";
        /// Every slave that has acknowledged something, this one included.
        slave_ids: Vec<i64>, "slaveIds";
    }

    /// What a slave does.
    #[derive(Eq)]
    HaFollowing "HaFollowing" {
        /// How long ago it began to copy the tables that it has from its master; -1: it has not, since it was started.
        copied_millis_ago: i64 = -1, "copiedMillisAgo";
        /// How often a link has ended.
        ended_links: i64, "endedLinks";
        is_following: bool, "following";
        /// How long ago the master was heard; -1: never.
        heard_millis_ago: i64 = -1, "heardMillisAgo";
        /// What it knows of the master, if that is a Gantry.
        known: Option<HaMaster>, "known";
        master: Option<String>, "master";
        /// Why it does not follow.
        why: Option<String>, "why";
        wire: String, "wire";
    }

    /// Answer to 46002.
    #[derive(Eq)]
    HaStatus "HaStatus" {
        broker_id: i64, "brokerId";
        broker_name: String, "brokerName";
        /// The id that its configuration gives a slave; 0: a master.
        configured_id: i64, "configuredId";
        /// Messages are acknowledged without their copies (slaveAckPolicy=degrade).
        degraded: bool, "degraded";
        /// The newest promotion that it knows of; a master's own.
        epoch: Option<String>, "epoch";
        /// It is a master that was replaced.
        is_fenced: bool, "fenced";
        /// Of a slave.
        following: Option<HaFollowing>, "follows";
        /// It was the master until the promotion `epoch` began, in which it was fenced as the master, and has found no master
        /// of that one: its log ends where the master's did. It may be a slave since, as its configuration says.
        gave_way: bool, "gaveWay";
        in_sync_replicas: i32, "inSyncReplicas";
        /// Where the last record of its log begins; -1: there is none.
        last_record: i64 = -1, "lastRecord";
        /// Where its log has something in place of what was lost, for who compares it with a copy.
        made_up: Vec<i64>, "madeUp";
        max_offset: i64, "maxOffset";
        min_offset: i64, "minOffset";
        /// Why no message is taken.
        not_writable: Option<String>, "notWritable";
        read_only: bool, "readOnly";
        /// Up to where as many slaves as are asked for have the log.
        replicated: i64, "replicated";
        role: String, "role";
        slave_ack_policy: String, "slaveAckPolicy";
        /// Of a master.
        slaves: Vec<HaSlave>, "slaves";
    }
}
