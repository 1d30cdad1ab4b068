//! The PROXY protocol, by which a proxy that passes on bytes says whose they are: versions 1 and 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What every header of version 2 begins with; as long as the least that both versions have.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1, with its end (section 2.1).
const MAX_LINE: usize = 107;
/// The most bytes of addresses and extensions that version 2 may send. They are 12 or 36, and extensions (TLVs) that name a
/// certificate or a connection in a cloud, some hundred each.
const MAX_BLOCK: usize = 4_096;

/// Reads a header, and no byte more. Returns the client's address; `None` where the proxy speaks for itself, as to look
/// whether we are well.
///
/// # Errors
/// It is none, it is too long, or the connection ended.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    match start == SIGNATURE {
        true => version_2(stream).await,
        false => version_1(stream, &start).await,
    }
}

fn wrong() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "this is no header of the PROXY protocol",
    )
}

async fn version_1<S: AsyncRead + Unpin>(stream: &mut S, start: &[u8]) -> io::Result<Option<SocketAddr>> {
    if !start.starts_with(b"PROXY ") {
        return Err(wrong());
    }
    // Byte by byte, since what follows is not ours to read. Once for a connection, from the kernel's buffer.
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_LINE {
            return Err(wrong());
        }
        line.push(stream.read_u8().await?);
    }
    let line = str::from_utf8(&line)
        .ok()
        .and_then(|line| line.strip_suffix("\r\n"));
    parse(line.ok_or_else(wrong)?).ok_or_else(wrong)
}

/// The inner `None`: not known, or the proxy's own.
fn parse(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.split(' ');
    let (_, family) = (words.next()?, words.next()?);
    if family == "UNKNOWN" {
        return Some(None);
    }
    let mut next = || words.next();
    let (source, _, port, _) = (next()?, next()?, next()?, next()?.parse::<u16>().ok()?);
    if next().is_some() {
        return None;
    }
    let address: IpAddr = match family {
        "TCP4" => source.parse::<Ipv4Addr>().ok()?.into(),
        "TCP6" => source.parse::<Ipv6Addr>().ok()?.into(),
        _ => return None,
    };
    Some(Some(SocketAddr::new(address, port.parse().ok()?)))
}

async fn version_2<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [version_and_command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if version_and_command >> 4 != 2 || length > MAX_BLOCK {
        return Err(wrong());
    }
    let mut block = vec![0; length];
    stream.read_exact(&mut block).await?;
    match version_and_command & 0xf {
        // LOCAL: whatever the addresses are.
        0 => Ok(None),
        1 => addresses(family, &block).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

/// The inner `None`: a family that has no address of the internet, for which the proxy's own counts.
fn addresses(family: u8, block: &[u8]) -> Option<Option<SocketAddr>> {
    // Source, destination, the ports of both.
    match family {
        0x11 => {
            let source: [u8; 4] = *block.first_chunk()?;
            Some(Some((Ipv4Addr::from(source), port(block.get(8..12)?)?).into()))
        }
        0x21 => {
            let source: [u8; 16] = *block.first_chunk()?;
            Some(Some((Ipv6Addr::from(source), port(block.get(32..36)?)?).into()))
        }
        0x00 | 0x31 => Some(None),
        _ => None,
    }
}

fn port(ports: &[u8]) -> Option<u16> {
    ports.first_chunk().map(|port| u16::from_be_bytes(*port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    /// What is made of the bytes, and how many of them were read.
    fn read_from(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, usize) {
        let mut rest = bytes;
        let read = read(&mut rest).now_or_never().expect("all bytes are there");
        let left = rest.len();
        (read, bytes.len() - left)
    }

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
        bytes.extend(block);
        bytes
    }

    #[test]
    fn both_versions_tell_the_client_and_not_a_byte_more_is_read() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x34, 0, 80];
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        v6[33] = 9;
        let extended = [&v4[..], &[0x20, 0, 3, 1, 2, 3]].concat();
        for (header, client) in [
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.1 4660 80\r\n".to_vec(),
                Some("192.0.2.1:4660"),
            ),
            (
                b"PROXY TCP6 2001:db8:: ::1 9 80\r\n".to_vec(),
                Some("[2001:db8::]:9"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(1, 0x11, &v4), Some("192.0.2.1:4660")),
            (v2(1, 0x11, &extended), Some("192.0.2.1:4660")),
            (v2(1, 0x21, &v6), Some("[2001:db8::]:9")),
            (v2(0, 0x00, &[]), None),
            (v2(0, 0x11, &v4), None),
            (v2(1, 0x31, &[0; 216]), None),
        ] {
            let followed = [&header, &b"GET / HTTP/1.1\r\n"[..]].concat();
            let (read, count) = read_from(&followed);
            let told = String::from_utf8_lossy(&header).into_owned();
            assert_eq!(
                read.unwrap(),
                client.map(|client| client.parse().unwrap()),
                "{told}"
            );
            assert_eq!(count, header.len(), "{told}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_within_its_bounds() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE));
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 4660\r\n",
            b"PROXY TCP4 2001:db8:: ::1 9 80\r\n",
            b"PROXY TCP6 192.0.2.1 ::1 9 80\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 70000 80\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 80 9\r\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.1 1 80\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 80\n",
            b"PROXY TCP4 \xff\xff\xff\xff 198.51.100.1 1 80\r\n",
            long.as_bytes(),
            &v2(2, 0x11, &[0; 12]),
            &v2(1, 0x11, &[0; 11]),
            &v2(1, 0x21, &[0; 35]),
            &v2(1, 0x12, &[0; 12]),
            &v2(1, 0x11, &[0; MAX_BLOCK + 1]),
            &[&SIGNATURE[..], &[0x11, 0x11, 0, 12], &[0; 12]].concat(),
        ] {
            let (read, count) = read_from(bytes);
            assert!(read.is_err(), "{read:?} {}", String::from_utf8_lossy(bytes));
            assert!(count <= MAX_LINE, "{count}");
        }
    }
}
