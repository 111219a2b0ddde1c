//! What is captured of a pod: ports, address ranges and interfaces, as lists with commas. One grammar for annotations, for
//! flags and for the rules that are made of them.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::str::FromStr;

/// Longest name of a network interface, `IFNAMSIZ - 1` of Linux.
const INTERFACE_BYTES_MAX: usize = 15;

/// A list of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ports {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// These.
    These(Vec<u16>),
}

/// A list of address ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ranges {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// These: address and length.
    These(Vec<(IpAddr, u8)>),
}

/// A list of interfaces' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces(pub Vec<String>);

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |one: &str| one.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{one:?} is no port"));
        match parts(text).as_slice() {
            [] => Ok(Ports::None),
            ["*"] => Ok(Ports::All),
            all => all.iter().map(|one| port(one)).collect::<Result<_, _>>().map(Ports::These),
        }
    }
}

impl FromStr for Ranges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = |one: &str| range(one).ok_or_else(|| format!("{one:?} is no address range such as 10.0.0.0/8"));
        match parts(text).as_slice() {
            [] => Ok(Ranges::None),
            ["*"] => Ok(Ranges::All),
            all => all.iter().map(|one| known(one)).collect::<Result<_, _>>().map(Ranges::These),
        }
    }
}

impl FromStr for Interfaces {
    type Err = String;

    // Narrower than the kernel: they end up in a line of rules.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |one: &str| {
            one.len() <= INTERFACE_BYTES_MAX
                && one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
        };
        let all = parts(text);
        match all.iter().find(|one| !is_name(one)) {
            Some(bad) => Err(format!("{bad:?} is no network interface")),
            None => Ok(Self(all.into_iter().map(str::to_owned).collect())),
        }
    }
}

impl Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ports::None => Ok(()),
            Ports::All => f.write_str("*"),
            Ports::These(all) => f.write_str(&joined(all)),
        }
    }
}

impl Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ranges::None => Ok(()),
            Ranges::All => f.write_str("*"),
            Ranges::These(all) => {
                let words = all.iter().map(|(address, length)| match *length == bits(address) {
                    true => address.to_string(),
                    false => format!("{address}/{length}"),
                });
                f.write_str(&words.collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl Display for Interfaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

fn parts(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|one| !one.is_empty()).collect()
}

fn joined(all: &[u16]) -> String {
    all.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

fn range(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let length = length.map_or(Some(bits(&address)), |length| length.parse().ok())?;
    (length <= bits(&address)).then_some((address, length))
}

fn bits(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_the_same_way() {
        let again = |text: &str| text.parse::<Ports>().map(|ports| ports.to_string());
        assert_eq!(again(" 80, 443,"), Ok("80,443".into()));
        assert_eq!(again("*"), Ok("*".into()));
        assert_eq!(again(""), Ok(String::new()));
        assert_eq!(again("80,http"), Err("\"http\" is no port".into()));
        assert!(again("0").is_err() && again("65536").is_err() && again("80,*").is_err());
        let again = |text: &str| text.parse::<Ranges>().map(|ranges| ranges.to_string());
        assert_eq!(again("10.0.0.0/8, fd00::/8,1.2.3.4,::1/128"), Ok("10.0.0.0/8,fd00::/8,1.2.3.4,::1".into()));
        assert_eq!(again("10.0.0.0/33"), Err("\"10.0.0.0/33\" is no address range such as 10.0.0.0/8".into()));
        let again = |text: &str| text.parse::<Interfaces>().map(|names| names.to_string());
        assert_eq!(again("net1, eth0.5"), Ok("net1,eth0.5".into()));
        assert!(again("a b").is_err() && again("sixteen-letters-").is_err() && again("a\"b").is_err());
    }
}
