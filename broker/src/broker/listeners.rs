//! The sockets that a broker listens on, and the address that others are told.

use std::net::{SocketAddr, TcpListener};

use gantry_net::server;
use gantry_service::{Failure, Sockets};

use crate::config::BrokerConfig;

/// Slaves that connect at once wait here.
const HA_BACKLOG: i32 = 128;

/// Binds the port for slaves.
pub(super) fn bind_ha(
    config: &BrokerConfig,
    sockets: &mut Sockets,
) -> Result<TcpListener, Failure> {
    let address = SocketAddr::new(config.server.bind_address.0, config.store.ha_listen_port);
    let listener = sockets.listen("ha", address, HA_BACKLOG, server::listen);
    listener.map_err(|error| {
        let (ip, port) = (address.ip(), address.port());
        let reason = format!("cannot listen on {ip} port {port}: {error} (haListenPort)");
        Failure::caused(reason, &error)
    })
}

/// Binds the main port and the one two below; nothing was touched before.
pub(super) fn bind(
    config: &mut BrokerConfig,
    sockets: &mut Sockets,
) -> Result<(Vec<TcpListener>, SocketAddr), Failure> {
    let ip = config.server.bind_address.0;
    let backlog = i32::try_from(config.server.server_socket_backlog).unwrap_or(i32::MAX);
    let mut listeners = Vec::new();
    let main = config.server.listen_port;
    for (name, port) in [("remoting", Some(main)), ("vip", config.vip_port())] {
        let Some(port) = port else { continue };
        let address = SocketAddr::new(ip, port);
        let listener = sockets.listen(name, address, backlog, server::listen);
        listeners.push(listener.map_err(|error| {
            let reason = format!("cannot listen on {ip} port {port}: {error} (listenPort {main})");
            Failure::caused(reason, &error)
        })?);
    }
    let address = listeners
        .first()
        .and_then(|listener| listener.local_addr().ok())
        .ok_or_else(|| Failure::other("the listening socket has no address"))?;
    Ok((listeners, address))
}

/// The address in message ids: clients connect to it to view a message. A name takes as long as the resolver does.
pub(super) async fn announced_host(config: &BrokerConfig) -> Result<SocketAddr, Failure> {
    let announced = config.broker_address();
    let found = tokio::net::lookup_host(&announced).await;
    found
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| {
            // A name server of names that is away while the host boots comes back: another try helps.
            Failure::other(format!(
                "brokerIP1: {announced} is no address and no host name known here"
            ))
        })
}
