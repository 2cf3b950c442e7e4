//! Which addresses a source may have. The address is resolved here, once, and the connection is
//! made to what was judged, so that a name cannot change its meaning in between (faults.md A18).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

use strongroom_core::{Error, ErrorKind, Field, Result};

/// Judges a host. Names are resolved; every address they have must be allowed.
pub(crate) fn check_host(host: &str, port: u16, allow_loopback: bool) -> Result<()> {
    let plain = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:_%[]".contains(&b));
    if !plain {
        return Err(Error::parameter(Field::Host, "host: must be a host name or an IP address"));
    }
    let addresses: Vec<IpAddr> = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .map_err(|error| {
            Error::new(
                ErrorKind::SourceUnreachable,
                format!("The host {host} has no address ({error}). Nothing was saved."),
            )
            .with_hint("check the name with `getent hosts`, or give an IP address")
        })?
        .map(|address| address.ip())
        .collect();
    match addresses.into_iter().find(|address| !allowed(*address, allow_loopback)) {
        None => Ok(()),
        Some(address) => Err(Error::parameter(
            Field::Host,
            format!("host: the address {address} is not one a database may have here"),
        )),
    }
}

fn allowed(address: IpAddr, allow_loopback: bool) -> bool {
    match address {
        IpAddr::V4(v4) => allowed_v4(v4, allow_loopback),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => allowed_v4(v4, allow_loopback),
            None => allowed_v6(v6, allow_loopback),
        },
    }
}

fn allowed_v4(address: Ipv4Addr, allow_loopback: bool) -> bool {
    if address.is_loopback() {
        return allow_loopback;
    }
    // 0.0.0.0/8 reaches this machine; link-local holds the clouds' metadata addresses.
    !(address.octets()[0] == 0 || address.is_link_local() || address.is_multicast() || address.is_broadcast())
}

fn allowed_v6(address: Ipv6Addr, allow_loopback: bool) -> bool {
    if address.is_loopback() {
        return allow_loopback;
    }
    let metadata = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    !(address.is_unspecified()
        || address.is_multicast()
        || address.is_unicast_link_local()
        || address == metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a18_addresses_that_are_no_database() {
        for bad in [
            "0",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "255.255.255.255",
            "/run/postgresql",
            "a b",
            "",
            "user@host",
            "2852039166",
            "0xa9fea9fe",
        ] {
            assert!(check_host(bad, 5432, true).is_err(), "{bad}");
        }
        assert!(check_host("127.0.0.1", 5432, true).is_ok());
        assert!(check_host("127.0.0.1", 5432, false).is_err());
        assert!(check_host("::1", 5432, false).is_err());
        assert!(check_host("10.0.0.9", 5432, false).is_ok());
    }
}
