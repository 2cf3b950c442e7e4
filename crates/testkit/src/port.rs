//! Ports of loopback for servers that tests start.
//!
//! A port that the kernel hands out ("port 0") and that is closed again is anybody's: another test
//! asks in the same moment, or an outgoing connection gets it as its own end while the server is
//! still being made. So ports come from below the range the kernel draws from, and each is held by
//! a name of the machine's network that ends with its holder and leaves no file behind.

use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::Context;

/// Below every usual `net.ipv4.ip_local_port_range`.
const RANGE: Range<u16> = 15_000..31_000;

/// A port that nobody else who asks here gets while this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _hold: UnixListener,
}

impl Port {
    /// A port on which nobody listens now.
    pub fn hold() -> anyhow::Result<Self> {
        let count = u32::from(RANGE.end - RANGE.start);
        // Processes of tests have neighbouring ids: each begins somewhere else.
        let first = std::process::id().wrapping_mul(61) % count;
        for step in 0..count {
            let number = RANGE.start + u16::try_from((first + step) % count)?;
            if let Some(port) = Self::try_hold(number)? {
                return Ok(port);
            }
        }
        anyhow::bail!("every port of {RANGE:?} is in use")
    }

    fn try_hold(number: u16) -> anyhow::Result<Option<Self>> {
        let name = SocketAddr::from_abstract_name(format!("strongroom-test-port-{number}"))?;
        let hold = match UnixListener::bind_addr(&name) {
            Ok(hold) => hold,
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Ok(None),
            Err(error) => return Err(error).context("a port cannot be held"),
        };
        let is_free = TcpListener::bind(("127.0.0.1", number)).is_ok();
        Ok(is_free.then_some(Self { number, _hold: hold }))
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_port_is_one_holders_until_it_lets_go() {
        let held: Vec<Port> = (0..50).map(|_| Port::hold().unwrap()).collect();
        let numbers: BTreeSet<u16> = held.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), held.len());
        let one = held[0].number();
        assert!(Port::try_hold(one).unwrap().is_none(), "{one} is held");
        drop(held);
        let port = Port::try_hold(one).unwrap().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port.number())).unwrap();
        drop(port);
        assert!(Port::try_hold(one).unwrap().is_none(), "somebody listens on {one}");
        drop(listener);
    }

    #[test]
    fn no_outgoing_connection_gets_one() {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let lowest: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
        assert!(RANGE.end <= lowest, "the kernel draws from {range}");
    }
}
