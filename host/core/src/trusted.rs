//! The clients whose request ids and trace context are believed: `trusted` in `[server]`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ValueError;

/// The most entries of `trusted`: each request of a client that is not trusted is compared with all of them.
pub const MAX_TRUSTED: usize = 64;

/// One entry of `trusted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrustedPeer {
    /// The IPv4 addresses with this prefix.
    V4 {
        /// Its bits after the prefix are 0.
        network: Ipv4Addr,
        /// The bits of the prefix.
        bits: u8,
    },
    /// The IPv6 addresses with this prefix.
    V6 {
        /// Its bits after the prefix are 0.
        network: Ipv6Addr,
        /// The bits of the prefix.
        bits: u8,
    },
    /// Every client of a Unix socket.
    Unix,
}

/// Whether `trusted` has the client with this address; `None` is a client of a Unix socket. An IPv4 address must not be
/// mapped to IPv6.
pub fn trusts(trusted: &[TrustedPeer], client: Option<IpAddr>) -> bool {
    trusted.iter().any(|peer| peer.contains(client))
}

impl TrustedPeer {
    fn contains(self, client: Option<IpAddr>) -> bool {
        match (self, client) {
            (Self::V4 { network, bits }, Some(IpAddr::V4(ip))) => {
                (network.to_bits() ^ ip.to_bits()).leading_zeros() >= u32::from(bits)
            }
            (Self::V6 { network, bits }, Some(IpAddr::V6(ip))) => {
                (network.to_bits() ^ ip.to_bits()).leading_zeros() >= u32::from(bits)
            }
            (Self::Unix, None) => true,
            _ => false,
        }
    }
}

impl fmt::Display for TrustedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4 { network, bits } => write!(f, "{network}/{bits}"),
            Self::V6 { network, bits } => write!(f, "{network}/{bits}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl FromStr for TrustedPeer {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let invalid = |help: String| ValueError::new(format!("invalid network {text:?}")).help(help);
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| {
            invalid("write an address, a network such as \"10.0.0.0/8\" or \"fd00::/8\", or \"unix\"".to_owned())
        })?;
        if let IpAddr::V6(v6) = address
            && v6.to_ipv4_mapped().is_some()
        {
            return Err(invalid("write the IPv4 network: clients with IPv4 addresses are compared as such".to_owned()));
        }
        let max_bits = if address.is_ipv4() { 32 } else { 128 };
        let bits = match prefix {
            None => max_bits,
            // No sign, and no zero before other digits.
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|bits: &u8| *bits <= max_bits && bits.to_string() == prefix)
                .ok_or_else(|| invalid(format!("after the `/` comes a number from 0 to {max_bits}")))?,
        };
        let network = match address {
            IpAddr::V4(v4) => Self::V4 {
                network: Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.unbounded_shl(u32::from(32 - bits))),
                bits,
            },
            IpAddr::V6(v6) => Self::V6 {
                network: Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.unbounded_shl(u32::from(128 - bits))),
                bits,
            },
        };
        // Otherwise `192.168.0.1/16` would trust more addresses than its author may have meant.
        let is_network = match network {
            Self::V4 { network, .. } => address == network,
            Self::V6 { network, .. } => address == network,
            Self::Unix => true,
        };
        if !is_network {
            return Err(invalid(format!("write \"{network}\" for the network, or \"{address}\" for the address")));
        }
        Ok(network)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Overrides, parse};

    /// `inside` and `outside` are addresses with spaces between them; `unix` is a client of a Unix socket.
    fn check(peer: &str, inside: &str, outside: &str) {
        let peer: TrustedPeer = peer.parse().unwrap_or_else(|error| panic!("{peer}: {error}"));
        assert_eq!(peer.to_string().parse(), Ok(peer));
        for (clients, expected) in [(inside, true), (outside, false)] {
            for client in clients.split_whitespace() {
                let address = (client != "unix").then(|| client.parse().unwrap_or_else(|_| panic!("{client}")));
                assert_eq!(trusts(&[peer], address), expected, "{peer} {client}");
                assert!(!trusts(&[], address));
            }
        }
    }

    #[test]
    fn networks() {
        check("10.0.0.0/8", "10.0.0.0 10.255.255.255", "9.255.255.255 11.0.0.0 ::1 unix");
        check("192.168.4.0/22", "192.168.4.0 192.168.7.255", "192.168.3.255 192.168.8.0");
        check("127.0.0.1", "127.0.0.1", "127.0.0.0 127.0.0.2 ::1");
        check("127.0.0.1/32", "127.0.0.1", "127.0.0.2");
        check("128.0.0.0/1", "128.0.0.0 255.255.255.255", "127.255.255.255 ::");
        check("0.0.0.0/0", "0.0.0.0 255.255.255.255", ":: unix");
        check("::1", "::1", "::2 :: 127.0.0.1 unix");
        check("fd00::/8", "fd00:: fdff:ffff::1", "fc00:: fe00:: 10.0.0.1");
        check("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::");
        check("::/0", ":: ffff::", "0.0.0.0 unix");
        check("unix", "unix", "127.0.0.1 ::1");
    }

    #[test]
    fn there_are_at_most_64() {
        fn check(count: usize, expected: Option<&str>) {
            let listed: Vec<_> = (0..count).map(|number| format!("\"10.0.0.{number}\"")).collect();
            let text = format!("[server]\ntrusted = [{}]\n[[route]]\ncomponent = \"a.wasm\"", listed.join(", "));
            let parsed = parse(Path::new("daylily.toml"), &text, &Overrides::default());
            let error = parsed.err().map(|error| error.to_string());
            assert_eq!(error.as_deref().and_then(|error| error.lines().next()), expected, "{count}");
        }
        check(64, None);
        check(65, Some("error: `trusted` has more than 64"));
    }

    #[test]
    fn refusals() {
        #[track_caller]
        fn check(text: &str, help: &str) {
            let (message, actual) = text.parse::<TrustedPeer>().expect_err(text).into_parts();
            assert_eq!(message, format!("invalid network {text:?}"));
            let actual = actual.unwrap_or_default();
            assert!(actual.contains(help), "{text}: {actual}");
        }
        for text in
            ["", "/8", "localhost", "10.0.0", "10.0.0.0.0/8", "[::1]", "::1%lo", "Unix", "unix:/run/x", "010.0.0.1"]
        {
            check(text, "write an address, a network");
        }
        for text in ["10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0.0/8/8", "10.0.0.0/255.0.0.0"] {
            check(text, "a number from 0 to 32");
        }
        check("::/129", "a number from 0 to 128");
        check("10.1.0.0/8", "write \"10.0.0.0/8\" for the network, or \"10.1.0.0\" for the address");
        check("fd00::1/8", "write \"fd00::/8\" for the network");
        check("1.0.0.0/0", "write \"0.0.0.0/0\"");
        check("::ffff:10.0.0.0/104", "write the IPv4 network");
        check("::ffff:10.0.0.1", "write the IPv4 network");
    }
}
