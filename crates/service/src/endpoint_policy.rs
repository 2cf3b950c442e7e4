//! Where a source may be: judged when an instance is registered, so that the answer names the field.
//! An engine judges again whenever it connects, and connects to nothing but what it judged: a name
//! that changes its meaning later gains nothing (faults.md A18).

use std::net::ToSocketAddrs;

use strongroom_core::network::SourceNetworks;
use strongroom_core::{Error, ErrorKind, Field, Result, limits};

/// Judges host and port. Names are resolved; every address they have must be allowed.
pub(crate) fn check_endpoint(host: &str, port: u16, networks: &SourceNetworks) -> Result<()> {
    let plain = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:_%[]".contains(&b));
    if !plain {
        return Err(Error::parameter(Field::Host, "host: must be a host name or an IP address"));
    }
    if port < limits::SOURCE_PORT_MIN {
        let least = limits::SOURCE_PORT_MIN;
        return Err(Error::parameter(
            Field::Port,
            format!("port: must be {least} or higher, no database listens below"),
        ));
    }
    let addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs().map_err(|error| {
        Error::new(
            ErrorKind::SourceUnreachable,
            format!("The host {host} has no address ({error}). Nothing was saved."),
        )
        .with_hint("check the name with `getent hosts`, or give an IP address")
    })?;
    match addresses.map(|address| address.ip()).find(|address| !networks.allow(*address)) {
        None => Ok(()),
        Some(address) => Err(Error::parameter(
            Field::Host,
            format!("host: the address {address} is not one a database may have here"),
        )
        .with_hint(
            "this machine and private networks are for the operator to allow: `serve --source-networks`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a18_hosts_and_ports_that_are_no_database() {
        let all: SourceNetworks = "loopback,private".parse().unwrap();
        for bad in [
            "0",
            "0.0.0.0",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "/run/postgresql",
            "a b",
            "",
            "user@host",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
        ] {
            assert!(check_endpoint(bad, 5432, &all).is_err(), "{bad}");
        }
        for port in [0, 1, 22, 25, 443, limits::SOURCE_PORT_MIN - 1] {
            assert!(check_endpoint("127.0.0.1", port, &all).is_err(), "{port}");
        }
        assert!(check_endpoint("127.0.0.1", 5432, &all).is_ok());
        assert!(check_endpoint("10.0.0.9", 5432, &all).is_ok());
        let refused = check_endpoint("10.0.0.9", 5432, &SourceNetworks::loopback()).unwrap_err();
        assert!(refused.hint().is_some_and(|hint| hint.contains("--source-networks")), "{refused:?}");
        assert!(check_endpoint("localhost", 5432, &SourceNetworks::default()).is_err());
    }
}
