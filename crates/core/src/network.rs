//! Which addresses a source database may have (faults.md A18).
//!
//! A host name is text of a tenant: what it resolves to decides whom this server talks to. Public
//! addresses may be asked for; this machine and private networks only where the operator says so;
//! addresses where no database can be, such as the metadata services of clouds, never.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// What stands for 127.0.0.0/8 and ::1.
const LOOPBACK: &str = "loopback";
/// What stands for every private network.
const PRIVATE: &str = "private";

/// Networks beyond the public ones that sources may be in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceNetworks {
    loopback: bool,
    private: bool,
    listed: Vec<IpNet>,
}

impl SourceNetworks {
    /// What a set-up on one machine needs: this machine, nothing private.
    pub fn loopback() -> Self {
        Self { loopback: true, ..Self::default() }
    }

    /// Whether a source may have this address.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = plain(address);
        if is_never_a_database(address) {
            return false;
        }
        if self.listed.iter().any(|network| network.contains(&address)) {
            return true;
        }
        if address.is_loopback() {
            return self.loopback;
        }
        self.private || !is_private(address)
    }
}

/// A list in words: `loopback`, `private`, networks such as `10.1.0.0/16`, single addresses.
impl FromStr for SourceNetworks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut networks = Self::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                LOOPBACK => networks.loopback = true,
                PRIVATE => networks.private = true,
                other => networks.listed.push(network(other).ok_or_else(|| other.to_owned())?),
            }
        }
        Ok(networks)
    }
}

impl Display for SourceNetworks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.loopback, LOOPBACK), (self.private, PRIVATE)];
        let words = words.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word.to_owned());
        let listed = self.listed.iter().map(ToString::to_string);
        f.write_str(&words.chain(listed).collect::<Vec<_>>().join(","))
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// An IPv6 address that only carries an IPv4 one reaches the latter: it is judged as such.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let bits = u128::from(v6);
    let (upper, lowest) = (bits >> 32, u32::try_from(bits & 0xffff_ffff).expect("32 bits"));
    let carried = match upper {
        // Mapped; NAT64 (RFC 6052); "compatible", of which :: and ::1 are no part.
        0xffff | 0x0064_ff9b_0000_0000_0000_0000 => Some(lowest),
        0 if lowest > 0xffff => Some(lowest),
        // 6to4 (RFC 3056).
        _ if bits >> 112 == 0x2002 => u32::try_from((bits >> 80) & 0xffff_ffff).ok(),
        _ => None,
    };
    carried.map_or(address, |v4| IpAddr::V4(Ipv4Addr::from(v4)))
}

fn is_never_a_database(address: IpAddr) -> bool {
    match address {
        // 0.0.0.0/8 reaches this machine; link-local holds the clouds' metadata addresses.
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => {
            let metadata = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
            v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local() || v6 == metadata
        }
    }
}

/// RFC 1918, the shared space of RFC 6598, unique local IPv6.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn allows(networks: &str, address: &str) -> bool {
        networks.parse::<SourceNetworks>().unwrap().allow(address.parse().unwrap())
    }

    #[test]
    fn a18_some_addresses_are_never_a_database() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(!allows("loopback,private,0.0.0.0/0,::/0", address), "{address}");
        }
    }

    #[test]
    fn a18_this_machine_and_private_networks_only_where_the_operator_says_so() {
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "2002:7f00:1::"] {
            assert!(!allows("", address) && !allows("private", address), "{address}");
            assert!(allows("loopback", address), "{address}");
        }
        for address in [
            "10.0.0.9",
            "172.31.255.1",
            "192.168.1.1",
            "100.64.0.1",
            "fd12::1",
            "::ffff:10.0.0.9",
            "64:ff9b::a00:9",
        ] {
            assert!(!allows("loopback", address), "{address}");
            assert!(allows("private", address), "{address}");
        }
        assert!(allows("10.0.0.0/24", "10.0.0.9") && !allows("10.0.0.0/24", "10.0.1.9"));
        assert!(allows("10.0.0.9", "::ffff:10.0.0.9") && !allows("10.0.0.9", "10.0.0.8"));
        assert!(allows("", "203.0.113.7") && allows("", "2001:db8::7") && allows("", "100.128.0.1"));
    }

    #[test]
    fn networks_are_read_and_shown_in_the_same_words() {
        for text in ["", "loopback", "private", "loopback,private,10.0.0.0/8,fd12::/16"] {
            assert_eq!(text.parse::<SourceNetworks>().unwrap().to_string(), text);
        }
        assert_eq!(
            " loopback , 10.0.0.9 ".parse::<SourceNetworks>().unwrap().to_string(),
            "loopback,10.0.0.9/32"
        );
        assert_eq!("loopback,10.0.0.0/33".parse::<SourceNetworks>(), Err("10.0.0.0/33".to_owned()));
    }
}
