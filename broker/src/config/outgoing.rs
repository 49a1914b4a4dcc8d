//! Keys for calls that the broker makes, to name servers and other brokers: RocketMQ's `NettyClientConfig`.

use gantry_config::settings;

const ONE_CALL: &str = "few calls are made, and each waits for its answer";

settings! {
    /// Calls the broker makes.
    pub struct OutgoingSettings |host| {
        section "Outgoing calls";
        /// Milliseconds for establishing a connection.
        connect_timeout_millis: u64 = 3_000, "connectTimeoutMillis"
            [.between(1, 600_000).without_effect("registerBrokerTimeoutMills bounds connecting too")];
        /// Seconds after which an unused connection is closed.
        client_channel_max_idle_time_seconds: u32 = 120, "clientChannelMaxIdleTimeSeconds"
            [.between(1, 86_400).without_effect("connections to name servers stay open between registrations")];
        /// Closes the connection when a call times out.
        client_close_socket_if_timeout: bool = true, "clientCloseSocketIfTimeout"
            [.without_effect("a connection that does not answer in time is always closed")];
        /// Send buffer, bytes; 0: the kernel decides.
        client_socket_snd_buf_size: u32 = 0, "clientSocketSndBufSize" [.without_effect("the kernel decides")];
        /// Receive buffer, bytes; 0: the kernel decides.
        client_socket_rcv_buf_size: u32 = 0, "clientSocketRcvBufSize" [.without_effect("the kernel decides")];
        /// Encrypts calls.
        use_tls: bool = false, "useTLS" [.only("false", "this version speaks no TLS")];
        /// Limit of one-way calls.
        client_oneway_semaphore_value: u32 = 65_535, "clientOnewaySemaphoreValue" [.without_effect(ONE_CALL)];
        /// Limit of asynchronous calls.
        client_async_semaphore_value: u32 = 65_535, "clientAsyncSemaphoreValue" [.without_effect(ONE_CALL)];
        /// Threads that encode and decode.
        client_worker_threads: u32 = 4, "clientWorkerThreads" [.without_effect("there is no such pool")];
        /// Threads for answers.
        client_callback_executor_threads: u32 = host.cpus, "clientCallbackExecutorThreads"
            [.without_effect("there is no such pool").shown("processors")];
        /// Once meant for connections that are not active.
        channel_not_active_interval: u64 = 60_000, "channelNotActiveInterval"
            [.without_effect("RocketMQ 4.9 does not use it either")];
        /// Pooled buffers.
        client_pooled_byte_buf_allocator_enable: bool = false, "clientPooledByteBufAllocatorEnable"
            [.without_effect("belongs to the Java implementation's network library")];
    }
}
