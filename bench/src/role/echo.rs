//! The server of a latency measurement: plain libc sockets, one peer.

use super::{Echoed, Protocol, Ready, Waiting, say};
use anyhow::{Context, Result, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

/// A datagram of this length ends the server. (Messages are longer.)
pub const STOP_LEN: usize = 1;

/// Serves one connection, or datagrams until it is told to stop.
pub fn run(protocol: Protocol, waiting: Waiting, address: SocketAddr, size: usize) -> Result<()> {
    let echoed = match protocol {
        Protocol::Tcp => {
            let listener = TcpListener::bind(address)
                .with_context(|| format!("cannot listen on {address}"))?;
            say(&Ready { ready: address.to_string() })?;
            let (stream, _) = listener.accept().context("cannot accept")?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(waiting == Waiting::Spin)?;
            serve_stream(&stream, size)?
        }
        Protocol::Udp => {
            let socket =
                UdpSocket::bind(address).with_context(|| format!("cannot bind {address}"))?;
            socket.set_nonblocking(waiting == Waiting::Spin)?;
            say(&Ready { ready: address.to_string() })?;
            serve_datagrams(&socket)?
        }
    };
    say(&Echoed { echoed })
}

/// Sends back every message of `size` octets until the other end closes; how many.
pub fn serve_stream(mut stream: &TcpStream, size: usize) -> Result<u64> {
    let mut message = vec![0; size];
    let mut filled = 0;
    let mut echoed = 0;
    loop {
        match stream.read(&mut message[filled..]) {
            Ok(0) => {
                ensure!(filled == 0, "the stream ended inside a message");
                return Ok(echoed);
            }
            Ok(n) => filled += n,
            Err(e) if again(e.kind()) => continue,
            // The client resets the connection, to leave no TIME-WAIT behind.
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(echoed),
            Err(e) => return Err(e).context("cannot receive"),
        }
        if filled == size {
            send_all(stream, &message)?;
            filled = 0;
            echoed += 1;
        }
    }
}

/// Writes the whole of `message`, whether or not the socket blocks.
pub fn send_all(mut stream: &TcpStream, mut message: &[u8]) -> Result<()> {
    while !message.is_empty() {
        match stream.write(message) {
            Ok(n) => message = &message[n..],
            Err(e) if again(e.kind()) => {}
            Err(e) => return Err(e).context("cannot send"),
        }
    }
    Ok(())
}

fn serve_datagrams(socket: &UdpSocket) -> Result<u64> {
    let mut message = vec![0; 65_536];
    let mut echoed = 0;
    loop {
        let (len, peer) = match socket.recv_from(&mut message) {
            Ok(received) => received,
            Err(e) if again(e.kind()) => continue,
            Err(e) => return Err(e).context("cannot receive"),
        };
        if len == STOP_LEN {
            return Ok(echoed);
        }
        while let Err(e) = socket.send_to(&message[..len], peer) {
            if !again(e.kind()) {
                return Err(e).context("cannot send");
            }
        }
        echoed += 1;
    }
}

/// Whether a failed call is to be repeated.
pub fn again(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
