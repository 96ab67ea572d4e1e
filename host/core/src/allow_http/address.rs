use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address belongs to the public internet: not to this machine or its network, and not a translation of such
/// an address.
///
/// Follows the IANA special-purpose registries (RFC 6890). The standard library's `is_global` is not stable, and
/// accepts translations (NAT64, 6to4) of addresses that it rejects.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = match a {
        0 | 10 | 127 => true,  // this network, private, loopback
        100 => b & 0xc0 == 64, // 100.64/10: carrier-grade NAT
        169 => b == 254,       // link-local, where clouds keep their metadata
        172 => b & 0xf0 == 16, // 172.16/12: private
        192 => match (b, c) {
            (168, _) => true,   // private
            (0, 0 | 2) => true, // protocol assignments, documentation
            (88, 99) => true,   // 6to4 relays
            _ => false,
        },
        198 => b & 0xfe == 18 || (b == 51 && c == 100), // benchmarks, documentation
        203 => b == 0 && c == 113,                      // documentation
        _ => a >= 224,                                  // multicast, reserved, broadcast
    };
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = ip.segments();
    // NAT64 (RFC 6052): the last 32 bits are the IPv4 address that the connection goes to.
    if (s0, s1, s2, s3, s4, s5) == (0x64, 0xff9b, 0, 0, 0, 0) {
        return is_public_v4(embedded_v4(s6, s7));
    }
    // Global unicast is 2000::/3. Other addresses are unspecified, loopback, IPv4-mapped and -compatible, local NAT64,
    // unique-local, link-local, site-local and multicast.
    if s0 & 0xe000 != 0x2000 {
        return false;
    }
    match s0 {
        // 2001::/23: protocol assignments, including Teredo; 2001:db8::/32: documentation.
        0x2001 => s1 >= 0x200 && s1 != 0xdb8,
        // 6to4 (RFC 3056): the 32 bits after the prefix are the IPv4 address that the connection goes to.
        0x2002 => is_public_v4(embedded_v4(s1, s2)),
        // 3fff::/20: documentation.
        0x3fff => s1 & 0xf000 != 0,
        _ => true,
    }
}

fn embedded_v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

    use super::*;

    fn check(expected: bool, addresses: &str) {
        for address in addresses.split(' ') {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn ipv4() {
        check(false, "0.0.0.0 0.1.2.3 0.255.255.255");
        check(true, "1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0");
        check(false, "10.0.0.0 10.255.255.255 127.0.0.1 127.255.255.255");
        check(false, "100.64.0.0 100.127.255.255");
        check(true, "100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0");
        check(false, "169.254.0.0 169.254.169.254 169.254.255.255");
        check(true, "169.253.255.255 169.255.0.0");
        check(false, "172.16.0.0 172.31.255.255");
        check(true, "172.15.255.255 172.32.0.0");
        check(false, "192.0.0.0 192.0.0.170 192.0.2.1 192.88.99.1");
        check(false, "192.168.0.0 192.168.255.255");
        check(true, "192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0");
        check(true, "192.167.255.255 192.169.0.0");
        check(false, "198.18.0.0 198.19.255.255 198.51.100.7 203.0.113.7");
        check(true, "198.17.255.255 198.20.0.0 198.51.99.1 198.51.101.1");
        check(true, "203.0.112.1 203.0.114.1 223.255.255.255");
        check(false, "224.0.0.1 239.255.255.255 240.0.0.0");
        check(false, "255.255.255.254 255.255.255.255");
    }

    #[test]
    fn ipv6() {
        // Unspecified, loopback, IPv4-compatible.
        check(false, ":: ::1 ::7f00:1 ::8.8.8.8");
        // IPv4-mapped (also with a public address), and IPv4-translated.
        check(false, "::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8");
        // NAT64 and 6to4 are public if the embedded address is, except prefixes for local use.
        check(true, "64:ff9b::8.8.8.8 2002:808:808::1");
        check(false, "64:ff9b::127.0.0.1 64:ff9b::10.0.0.1");
        check(false, "64:ff9b::169.254.169.254 64:ff9b::192.0.2.1");
        check(false, "2002:7f00:1:: 2002:a00:1::1 2002:a9fe:a9fe::1 2002:c0a8:1::");
        check(false, "64:ff9b:1::8.8.8.8 64:ff9b:0:1::8.8.8.8 100::1");
        // Unique-local, link-local, site-local, multicast.
        check(false, "fc00::1 fdff:ffff::1 fe80::1 febf::1 fec0::1 feff::1");
        check(false, "ff02::1 ff0e::1");
        // Protocol assignments (including Teredo) and documentation.
        check(false, "2001::1 2001:0:808:808::1 2001:10::1 2001:1ff::1");
        check(false, "2001:db8::1 2001:db8:ffff::1 3fff::1 3fff:fff::1 5f00::1");
        check(true, "2001:200::1 2001:db7::1 2001:db9::1 3fff:1000::1");
        check(true, "2000::1 2606:2800:220:1::1 2a00:1450:4001::1 2620:fe::fe");
        // Outside global unicast.
        check(false, "4000::1 1fff::1 200::1");
    }
}
