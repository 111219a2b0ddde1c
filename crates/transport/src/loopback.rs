//! One more address of the loopback interface, as a container does it that has no `ip`: a message to the kernel over
//! netlink (rtnetlink(7), RTM_NEWADDR).

use std::io::{self, Read, Write};
use std::net::Ipv6Addr;

use socket2::{Domain, Protocol, Socket, Type};

const RTM_NEWADDR: u16 = 20;
const NLMSG_ERROR: u16 = 2;
/// A request, an answer is wanted, make it, or leave the one that is there.
const FLAGS: u16 = 0x1 | 0x4 | 0x400 | 0x100;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Nobody else has it: it is not asked for before it is used.
const IFA_F_NODAD: u8 = 2;
const RT_SCOPE_HOST: u8 = 254;
/// `struct nlmsghdr`.
const HEAD_BYTES: usize = 16;

/// Gives the address to the loopback interface of this network namespace; needs `CAP_NET_ADMIN`. Twice is once.
///
/// # Errors
/// The kernel's.
pub fn add(address: Ipv6Addr) -> io::Result<()> {
    let index: u32 = std::fs::read_to_string("/sys/class/net/lo/ifindex")?.trim().parse().map_err(io::Error::other)?;
    let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
    // Without an address it goes to the kernel.
    socket.write_all(&message(address, index))?;
    let mut answer = [0; 256];
    let length = socket.read(&mut answer)?;
    read(answer.get(..length).unwrap_or_default())
}

fn message(address: Ipv6Addr, index: u32) -> Vec<u8> {
    let mut body = vec![libc::AF_INET6 as u8, 128, IFA_F_NODAD, RT_SCOPE_HOST];
    body.extend(index.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        body.extend(20_u16.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(address.octets());
    }
    let mut all = Vec::with_capacity(HEAD_BYTES + body.len());
    all.extend(((HEAD_BYTES + body.len()) as u32).to_ne_bytes());
    all.extend(RTM_NEWADDR.to_ne_bytes());
    all.extend(FLAGS.to_ne_bytes());
    // Its number, and whose it is: there is only this one.
    all.extend([0; 8]);
    all.extend(body);
    all
}

// An error of 0 is an acknowledgement.
fn read(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(HEAD_BYTES..HEAD_BYTES + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => match -code {
            libc::EEXIST => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        },
        _ => Err(io::Error::other("the kernel's answer cannot be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_messages_have_their_length() {
        let whole = message(Ipv6Addr::LOCALHOST, 1);
        assert_eq!(u32::from_ne_bytes(whole[..4].try_into().unwrap()) as usize, whole.len());
        let answer = |code: i32| [&[0; 4][..], &NLMSG_ERROR.to_ne_bytes(), &[0; 10], &code.to_ne_bytes()].concat();
        assert!(read(&answer(0)).is_ok() && read(&answer(-libc::EEXIST)).is_ok());
        assert_eq!(read(&answer(-libc::EPERM)).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(read(&[]).is_err());
    }
}
