//! Keys that every listening daemon has: sockets, limits, logs. Parts of the tables of broker and name server.
//!
//! The first section is RocketMQ's `NettyServerConfig`; the limits are ours. Each limit is refused politely and
//! counted where it is enforced; this module only states it.

use std::net::{IpAddr, Ipv6Addr};

use crate::{Bounds, Expected, Host, Kind, Setting, Settings, settings};

crate::choices! {
    /// How much is logged.
    pub enum LogLevel {
        /// Faults only.
        Error = "ERROR",
        /// Faults, and what an operator should look at.
        Warn = "WARN",
        /// Life cycle and changes.
        Info = "INFO",
        /// One line for most requests.
        Debug = "DEBUG",
        /// Everything.
        Trace = "TRACE",
    }
}

crate::choices! {
    /// How the headers of our own requests are written; answers follow the request.
    pub enum SerializeType {
        /// A JSON object.
        Json = "JSON",
        /// RocketMQ's binary form.
        Rocketmq = "ROCKETMQ",
    }
}

/// The address that a daemon listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind(pub IpAddr);

impl Bind {
    /// All addresses, IPv4 and IPv6.
    pub const ALL: Self = Self(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
}

impl Setting for Bind {
    const KIND: Kind = Kind::Text;
    const BOUNDS: Bounds = Bounds::Any;

    /// Nothing at all is no address: whoever means all of them says so.
    fn read(text: &str, _: Bounds) -> Result<Self, Expected> {
        match text.trim() {
            "*" => Ok(Self::ALL),
            text => text
                .parse()
                .map(Self)
                .map_err(|_| Expected("an IPv4 or IPv6 address, or * for all".into())),
        }
    }

    fn write(&self) -> String {
        match self {
            &Self::ALL => "*".into(),
            Self(ip) => ip.to_string(),
        }
    }
}

const NETTY: &str = "belongs to the Java implementation's network library";
const NO_POOLS: &str = "requests are served on the I/O threads; there is no pool to size";

settings! {
    /// Sockets, limits and logs of a daemon.
    pub struct ServerSettings |host| {
        section "Listening";
        /// Port for clients. A broker also listens on the port two below (for clients that use the "VIP channel").
        listen_port: u16 = 8888, "listenPort" [.between(1, 65_535).important()];
        /// Address to listen on; `*`: all addresses, IPv4 and IPv6.
        bind_address: Bind = Bind::ALL, "bindAddress" [.ours()];
        /// Length of the queue of connections that were not accepted yet.
        server_socket_backlog: u32 = 1024, "serverSocketBacklog" [.between(1, 65_535)];
        /// Seconds after which a connection without traffic is closed.
        server_channel_max_idle_time_seconds: u32 = 120, "serverChannelMaxIdleTimeSeconds" [.between(1, 86_400)];
        /// Send buffer of a client's socket, bytes; 0: the kernel decides.
        server_socket_snd_buf_size: u32 = 0, "serverSocketSndBufSize";
        /// Receive buffer of a client's socket, bytes; 0: the kernel decides.
        server_socket_rcv_buf_size: u32 = 0, "serverSocketRcvBufSize";
        /// I/O threads, each with its own connections; 0: half of the processors, at least one.
        io_threads: u32 = 0, "ioThreads" [.between(0, 1024).ours()];
        /// Size of the pool that decodes and encodes.
        server_worker_threads: u32 = 8, "serverWorkerThreads" [.without_effect(NO_POOLS)];
        /// Size of the default pool for requests.
        server_callback_executor_threads: u32 = 0, "serverCallbackExecutorThreads" [.without_effect(NO_POOLS)];
        /// Number of threads that wait for sockets.
        server_selector_threads: u32 = 3, "serverSelectorThreads" [.without_effect("ioThreads decides")];
        /// Limit of one-way calls that the server makes.
        server_oneway_semaphore_value: u32 = 256, "serverOnewaySemaphoreValue"
            [.without_effect("notices to clients are bounded by maxOutboundBytesPerConnection")];
        /// Limit of asynchronous calls that the server makes.
        server_async_semaphore_value: u32 = 64, "serverAsyncSemaphoreValue"
            [.without_effect("notices to clients are bounded by maxOutboundBytesPerConnection")];
        /// Outgoing bytes of a connection from which writing pauses.
        write_buffer_high_water_mark: u32 = 0, "writeBufferHighWaterMark"
            [.without_effect("maxOutboundBytesPerConnection decides")];
        /// Outgoing bytes of a connection below which writing goes on.
        write_buffer_low_water_mark: u32 = 0, "writeBufferLowWaterMark"
            [.without_effect("maxOutboundBytesPerConnection decides")];
        /// Pooled buffers.
        server_pooled_byte_buf_allocator_enable: bool = true, "serverPooledByteBufAllocatorEnable"
            [.without_effect(NETTY)];
        /// Native event loop.
        use_epoll_native_selector: bool = false, "useEpollNativeSelector" [.without_effect("it is always native")];

        section "Limits";
        /// Connections, all together. Beyond it a new one is closed at once.
        max_connections: u32 = 50_000, "maxConnections" [.between(1, 10_000_000).ours()];
        /// Connections from one address. Beyond it a new one is closed at once.
        max_connections_per_address: u32 = 10_000, "maxConnectionsPerAddress" [.between(1, 10_000_000).ours()];
        /// Longest request, bytes. A longer one closes its connection.
        frame_max_length: u32 = 16_777_216, "frameMaxLength"
            [.between(4_096, 1_073_741_824).aliases(&["com.rocketmq.remoting.frameMaxLength"]).ours()];
        /// Bytes of requests that have not arrived completely, over all connections. Beyond it the connection that
        /// asks for more is closed.
        max_unparsed_bytes: u64 = 268_435_456, "maxUnparsedBytes" [.between(1_048_576, 1 << 40).ours()];
        /// Requests of one connection that were read and not yet answered. Beyond it nothing more is read from it.
        max_in_flight_per_connection: u32 = 65_535, "maxInFlightPerConnection" [.between(1, 10_000_000).ours()];
        /// Answers and notices that wait for a slow reader, bytes. Beyond it nothing more is read from the connection.
        max_outbound_bytes_per_connection: u64 = 16_777_216, "maxOutboundBytesPerConnection"
            [.between(1_048_576, 1 << 40).ours()];
        /// Memory that answers to slow readers take, bytes, over all connections; parts of log files do not count.
        /// Beyond it the connection that asks for more is closed.
        max_outbound_bytes: u64 = 1_073_741_824, "maxOutboundBytes" [.between(1_048_576, 1 << 40).ours()];

        section "Access and host";
        /// Answers administration requests from everywhere. false: from the loopback address only.
        admin_open: bool = true, "adminOpen" [.reload().ours()];
        /// Installation folder: `conf/` is below it.
        rocketmq_home: String = host.install_dir.clone(), "rocketmqHome"
            [.shown("where the program was unpacked").env(&["ROCKETMQ_HOME"]).without_effect("this version reads nothing below it").aliases(&["rocketmq.home.dir"])];
        /// Least level of log lines.
        log_level: LogLevel = LogLevel::Info, "logLevel" [.live().env(&["GANTRY_LOG_LEVEL"]).ours()];
        /// Folder for log files. Without effect under systemd, where logs go to the journal.
        log_dir: String = format!("{}/logs/rocketmqlogs", host.user_home), "logDir"
            [.shown("~/logs/rocketmqlogs").check(folder).env(&["GANTRY_LOG_DIR"]).ours()];
        /// Header form of our own requests: JSON or ROCKETMQ.
        serialize_type: SerializeType = SerializeType::Json, "rocketmq.serialize.type"
            [.env(&["ROCKETMQ_SERIALIZE_TYPE"]).without_effect("our own requests are written as JSON; answers follow the request")];
        /// Keys that an "update config" request may not change, `;` between them, besides all that it cannot change anyway.
        config_black_list: String = "configBlackList".into(), "configBlackList" [.shown("configBlackList and the path keys")];
    }
}

impl ServerSettings {
    /// Whether strangers may administer the daemon: it listens beyond loopback, and admin requests need no key.
    pub fn is_insecure(&self) -> bool {
        !self.bind_address.0.is_loopback() && self.admin_open
    }

    /// Defaults with the daemon's own port and black list.
    pub fn for_daemon(host: &Host, port: u16, black_list: &str) -> Self {
        Self {
            listen_port: port,
            config_black_list: black_list.into(),
            ..Self::defaults(host)
        }
    }
}

fn folder(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.starts_with('~') || text.contains('\0') {
        return Err("the path of a folder (~ is not understood)");
    }
    Ok(())
}
