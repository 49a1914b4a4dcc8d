//! Which address of this machine to announce when `brokerIP1` is not given.
//!
//! Pure choice, tested with made-up machines; [`Network::of_this_host`] is the shell that looks. Behind a bridge or
//! a VPN no rule is always right, so the candidates are always listed for the operator.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::name_server_list;

/// A port for sockets that never send.
const DISCARD: u16 = 9;
/// Addresses of documentation: nobody's, so that only a default route leads to them.
const FAR_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// What can be seen of the network without sending anything.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Interfaces that are up, in the kernel's order.
    pub interfaces: Vec<Interface>,
    /// The address that packets to the name server would leave from, if it is given by address and not this host.
    pub towards_name_server: Option<IpAddr>,
    /// The address that packets to the default gateway would leave from.
    pub towards_gateway: Option<IpAddr>,
}

/// An interface with its addresses.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<IpAddr>,
}

/// The address to announce, and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// As it is announced: IPv6 in brackets.
    pub address: String,
    /// How it was found.
    pub reason: &'static str,
}

impl Network {
    /// Looks at this machine. Asking for a route sends nothing.
    pub fn of_this_host(name_servers: Option<&str>) -> Self {
        let towards_name_server = name_servers
            .into_iter()
            .flat_map(name_server_list)
            .filter_map(|address| address.parse::<SocketAddr>().ok())
            .filter(|address| !address.ip().is_loopback())
            .find_map(route_to);
        let towards_gateway = std::fs::read_to_string("/proc/net/route")
            .ok()
            .and_then(|routes| default_gateway(&routes))
            .and_then(|gateway| route_to(SocketAddr::new(gateway.into(), DISCARD)))
            .or_else(|| route_to(SocketAddr::new(FAR_V6.into(), DISCARD)));
        Self {
            interfaces: interfaces(),
            towards_name_server,
            towards_gateway,
        }
    }

    /// The address to announce: towards the name server, else towards the gateway, else as RocketMQ chooses.
    pub fn choose(&self) -> Announced {
        let routes = [
            (
                self.towards_name_server,
                "found: the route to the name server leaves from it",
            ),
            (
                self.towards_gateway,
                "found: the route to the default gateway leaves from it",
            ),
        ];
        let by_route = routes
            .into_iter()
            .find_map(|(address, reason)| Some((address?, reason)));
        let (address, reason) = by_route.unwrap_or_else(|| self.as_rocketmq());
        Announced {
            address: announced(address),
            reason,
        }
    }

    /// First IPv4 that is neither loopback nor 192.168, else the last IPv4, else the first IPv6.
    fn as_rocketmq(&self) -> (IpAddr, &'static str) {
        const REASON: &str = "found: chosen among the interfaces as RocketMQ does";
        let all = || self.candidates().map(|(_, address)| address);
        let v4 = all()
            .filter(IpAddr::is_ipv4)
            .find(|address| !address.to_string().starts_with("192.168"));
        let found = v4
            .or_else(|| all().filter(IpAddr::is_ipv4).last())
            .or_else(|| all().find(IpAddr::is_ipv6));
        match found {
            Some(address) => (address, REASON),
            None => (
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                "found: this machine has no other address",
            ),
        }
    }

    /// Whether an interface has this address.
    pub fn has(&self, address: IpAddr) -> bool {
        let mut all = self
            .interfaces
            .iter()
            .flat_map(|interface| &interface.addresses);
        all.any(|found| *found == address)
    }

    fn candidates(&self) -> impl Iterator<Item = (&str, IpAddr)> {
        self.interfaces
            .iter()
            .flat_map(|interface| {
                interface
                    .addresses
                    .iter()
                    .map(|address| (interface.name.as_str(), *address))
            })
            .filter(|(_, address)| !address.is_loopback() && !is_link_local(*address))
    }
}

/// The candidates, for the log.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, address)) in self.candidates().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{address} ({name})")?;
        }
        Ok(())
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// An address as it is announced.
pub fn announced(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The gateway of the default route with the lowest metric, from `/proc/net/route`; where packets go out without a
/// gateway, an address far away stands for it.
fn default_gateway(routes: &str) -> Option<Ipv4Addr> {
    let defaults = routes.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "00000000", gateway, _, _, _, metric, "00000000", ..] = fields.as_slice() else {
            return None;
        };
        // The kernel prints the address as a number in the byte order of the machine.
        let gateway = u32::from_str_radix(gateway, 16).ok()?.to_ne_bytes();
        Some((metric.parse::<u32>().ok()?, Ipv4Addr::from(gateway)))
    });
    let (_, gateway) = defaults.min()?;
    Some(if gateway.is_unspecified() {
        FAR_V4
    } else {
        gateway
    })
}

fn route_to(peer: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if peer.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

fn interfaces() -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = Vec::new();
    let Ok(found) = nix::ifaddrs::getifaddrs() else {
        return interfaces;
    };
    for entry in found.filter(|entry| entry.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP)) {
        let address = entry.address.and_then(|address| {
            let v4 = address
                .as_sockaddr_in()
                .map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| {
                address
                    .as_sockaddr_in6()
                    .map(|address| IpAddr::V6(address.ip()))
            })
        });
        let Some(address) = address else { continue };
        match interfaces
            .iter_mut()
            .find(|interface| interface.name == entry.interface_name)
        {
            Some(interface) => interface.addresses.push(address),
            None => interfaces.push(Interface {
                name: entry.interface_name,
                addresses: vec![address],
            }),
        }
    }
    interfaces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(
        interfaces: &[(&str, &[&str])],
        name_server: Option<&str>,
        gateway: Option<&str>,
    ) -> Network {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        Network {
            interfaces: interfaces
                .iter()
                .map(|(name, addresses)| Interface {
                    name: (*name).into(),
                    addresses: addresses.iter().map(|address| parse(address)).collect(),
                })
                .collect(),
            towards_name_server: name_server.map(parse),
            towards_gateway: gateway.map(parse),
        }
    }

    #[test]
    fn the_announced_address_is_the_one_that_others_can_reach() {
        let docker: &[(&str, &[&str])] = &[
            ("lo", &["127.0.0.1", "::1"]),
            ("docker0", &["172.17.0.1"]),
            ("eth0", &["192.168.1.2", "fe80::1"]),
        ];
        let lone: &[(&str, &[&str])] = &[
            ("lo", &["127.0.0.1"]),
            ("eth0", &["192.168.1.2"]),
            ("eth1", &["192.168.2.2"]),
        ];
        let six: &[(&str, &[&str])] = &[("lo", &["::1"]), ("eth0", &["fe80::1", "2001:db8::5"])];
        let cases: &[(Network, &str)] = &[
            (machine(docker, None, Some("192.168.1.2")), "192.168.1.2"),
            (
                machine(docker, Some("10.8.0.3"), Some("192.168.1.2")),
                "10.8.0.3",
            ),
            (machine(docker, None, None), "172.17.0.1"),
            (machine(lone, None, None), "192.168.2.2"),
            (machine(six, None, None), "[2001:db8::5]"),
            (machine(six, None, Some("2001:db8::5")), "[2001:db8::5]"),
            (machine(&[("lo", &["127.0.0.1"])], None, None), "127.0.0.1"),
        ];
        for (network, expected) in cases {
            assert_eq!(network.choose().address, *expected, "{network:?}");
        }
    }

    #[test]
    fn the_gateway_is_read_from_the_routes_of_the_kernel() {
        let head =
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
        let line = |destination: &str, gateway: Ipv4Addr, metric: u32, mask: &str| {
            let gateway = u32::from_ne_bytes(gateway.octets());
            format!("eth0\t{destination}\t{gateway:08X}\t0003\t0\t0\t{metric}\t{mask}\t0\t0\t0\n")
        };
        let (near, far, none) = (
            Ipv4Addr::new(10, 0, 0, 1),
            Ipv4Addr::new(192, 168, 1, 1),
            Ipv4Addr::UNSPECIFIED,
        );
        let local = line("0000A8C0", none, 0, "00FFFFFF");
        let cases = [
            (head.to_owned() + &local, None),
            (
                head.to_owned()
                    + &line("00000000", far, 200, "00000000")
                    + &line("00000000", near, 100, "00000000"),
                Some(near),
            ),
            (
                head.to_owned() + &local + &line("00000000", none, 0, "00000000"),
                Some(FAR_V4),
            ),
            (String::from("nonsense\nmore nonsense"), None),
        ];
        for (routes, expected) in cases {
            assert_eq!(default_gateway(&routes), expected, "{routes}");
        }
    }

    #[test]
    fn candidates_are_listed_with_their_interfaces() {
        let network = machine(
            &[
                ("lo", &["127.0.0.1"]),
                ("docker0", &["172.17.0.1"]),
                ("eth0", &["10.0.0.5", "fe80::1"]),
            ],
            None,
            None,
        );
        assert_eq!(network.to_string(), "172.17.0.1 (docker0), 10.0.0.5 (eth0)");
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let network = Network::of_this_host(Some("127.0.0.1:9876;localhost:9876"));
        assert_eq!(
            network.towards_name_server, None,
            "a name server on this host says nothing about the address"
        );
        assert!(
            network
                .interfaces
                .iter()
                .any(|interface| interface.addresses.iter().any(IpAddr::is_loopback))
        );
    }
}
