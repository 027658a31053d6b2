//! The sockets of this machine, and whose they are: what proc(5) tells of `/proc/net/tcp`.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Whether it listens; else it is connected, or was.
    pub listens: bool,
    /// Its user's number.
    pub user: u32,
    /// By this number a process has it open.
    pub inode: u64,
}

/// A process that has a socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// What it was started with, or calls itself.
    pub title: String,
}

/// All that listen, and all connections.
pub fn all() -> Vec<Socket> {
    let read = |table| fs::read_to_string(table).unwrap_or_default();
    let tables = [read("/proc/net/tcp"), read("/proc/net/tcp6")];
    tables.iter().flat_map(|table| table.lines().skip(1).filter_map(parse)).collect()
}

/// The processes whose descriptors may be read: by the sockets that they have open. One may be open in
/// several.
pub fn owners() -> HashMap<u64, Vec<Process>> {
    let mut owners = HashMap::<_, Vec<Process>>::new();
    for process in processes() {
        let Ok(open) = fs::read_dir(format!("/proc/{}/fd", process.pid)) else { continue };
        let links = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        let inode = |link: std::path::PathBuf| {
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
        };
        for inode in links.filter_map(inode) {
            owners.entry(inode).or_default().push(process.clone());
        }
    }
    owners
}

/// All processes that can be seen.
pub fn processes() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        let title = fs::read(entry.path().join("cmdline")).ok()?;
        let title = String::from_utf8_lossy(&title).replace('\0', " ");
        Some(Process { pid, name: name.trim_end().to_owned(), title: title.trim_end().to_owned() })
    })
}

/// One line: `0: 0100007F:08AE 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 12345 …`.
fn parse(line: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
    // 0A: TCP_LISTEN.
    let listens = fields.next()? == "0A";
    let user = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(Socket { local, remote, listens, user, inode })
}

/// Each 32 bits of an address are a number in the machine's own order, and the port is one in the
/// network's.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_is_read() {
        let line = "   3: 0100007F:08AE 00000000:0000 0A 00000000:00000000 00:00000000 00000000  \
                    1000        0 54321 1 0000000000000000 100 0 0 10 0";
        let socket = parse(line).unwrap();
        assert_eq!(socket.local, "127.0.0.1:2222".parse().unwrap());
        assert_eq!((socket.listens, socket.user, socket.inode), (true, 1000, 54321));
        let line = "   0: 00000000000000000000000001000000:0016 \
                    B80D0120000000000000000002000000:C350 01 00000000:00000000 02:000A7214 00000000 \
                    0 0 777 4 0000000000000000 20 4 30 10 -1";
        let socket = parse(line).unwrap();
        assert_eq!(socket.local, "[::1]:22".parse().unwrap());
        assert_eq!(socket.remote, "[2001:db8::2]:50000".parse().unwrap());
        assert!(!socket.listens);
        for not_one in ["", "  sl  local_address", "0: 0100007F 0A", "0: 01:1 02:2 0A 0 0 0 0 0 0"]
        {
            assert_eq!(parse(not_one), None, "{not_one}");
        }
    }

    #[test]
    fn our_own_are_found() {
        let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
        let at = listener.local_addr().unwrap();
        let its = |socket: &Socket| socket.listens && socket.local == at;
        let socket = all().into_iter().find(its).unwrap();
        let owners = owners();
        assert!(owners[&socket.inode].iter().any(|process| process.pid == std::process::id()));
    }
}
