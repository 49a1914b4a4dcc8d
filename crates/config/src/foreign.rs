//! Keys that are found in configuration files of RocketMQ users but are not keys of this program or of RocketMQ 4.9.
//! They are accepted with the reason why nothing comes of them.

const DERIVED: &str = "its place follows from storePathRootDir, also in RocketMQ 4.x";
const SERVER_KEYS: &str = "use the keys that begin with server";
const CLIENT_KEYS: &str = "use the keys that begin with client, and connectTimeoutMillis";
const NETTY: &str = "belongs to the Java implementation's network library";
const NO_DLEDGER: &str = "this version has no DLedger";
const UNUSED: &str = "RocketMQ 4.x does not use it either";

/// Name and reason, sorted as they are documented.
pub const KEYS: &[(&str, &str)] = &[
    ("storePathConsumeQueue", DERIVED),
    ("storePathConsumerQueue", DERIVED),
    ("storePathIndex", DERIVED),
    ("storeCheckpoint", DERIVED),
    ("storePathCheckpoint", DERIVED),
    ("abortFile", DERIVED),
    ("storePathAbort", DERIVED),
    ("checkTransactionMessageEnable", UNUSED),
    ("rocketmqRole", UNUSED),
    (
        "brokerConfigPath",
        "it names the file itself; RocketMQ 4.x ignores it in a file",
    ),
    ("com.rocketmq.remoting.socket.sndbuf.size", SERVER_KEYS),
    ("com.rocketmq.remoting.socket.rcvbuf.size", SERVER_KEYS),
    ("com.rocketmq.remoting.socket.backlog", SERVER_KEYS),
    (
        "com.rocketmq.remoting.clientAsyncSemaphoreValue",
        CLIENT_KEYS,
    ),
    (
        "com.rocketmq.remoting.clientOnewaySemaphoreValue",
        CLIENT_KEYS,
    ),
    ("com.rocketmq.remoting.client.worker.size", CLIENT_KEYS),
    ("com.rocketmq.remoting.client.connect.timeout", CLIENT_KEYS),
    (
        "com.rocketmq.remoting.client.channel.maxIdleTimeSeconds",
        CLIENT_KEYS,
    ),
    (
        "com.rocketmq.remoting.client.closeSocketIfTimeout",
        CLIENT_KEYS,
    ),
    (
        "com.rocketmq.remoting.write.buffer.high.water.mark",
        "maxOutboundBytesPerConnection decides",
    ),
    (
        "com.rocketmq.remoting.write.buffer.low.water.mark",
        "maxOutboundBytesPerConnection decides",
    ),
    (
        "com.rocketmq.remoting.nettyPooledByteBufAllocatorEnable",
        NETTY,
    ),
    ("dledger.disk.ratio.check", NO_DLEDGER),
    ("dledger.disk.ratio.clean", NO_DLEDGER),
];

/// Why nothing comes of this key, if it is one of them.
pub fn reason(key: &str) -> Option<&'static str> {
    KEYS.iter()
        .find(|(name, _)| *name == key)
        .map(|(_, reason)| *reason)
}
