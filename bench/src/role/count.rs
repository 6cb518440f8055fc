//! Echoes of 64 octets whose instructions are counted (`onwire bench instructions`, under valgrind's
//! callgrind): by libc's sockets, or by smoltcp over a port of its own.

use super::raw;
use super::{meet, say, wait_for_harness};
use anyhow::{Context, Result, ensure};
use dpdk::Queue;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use stack::device::{Burst, Device};
use stack::packet::{Allocator, Buffer};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

/// Octets of a message.
pub const SIZE: usize = 64;
/// Messages before those that are counted.
const WARM_UP: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose instructions are counted.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The echo.
    address: SocketAddrV4,
    /// Messages that are counted.
    count: u32,
    /// smoltcp, on this device and with this address; else libc.
    #[arg(long, num_args = 2, value_names = ["DEVICE", "ADDRESS"])]
    smoltcp: Option<Vec<String>>,
}

/// Makes the echoes.
pub fn run(args: &Args) -> Result<()> {
    match args.smoltcp.as_deref() {
        Some([device, own]) => {
            // The server waits for the other end of its link.
            let port = raw::open(device)?;
            meet()?;
            let mut smoltcp = Smoltcp::connect(port, own.parse()?, args.address)?;
            exchanges(args.count, |message| smoltcp.exchange(message))?;
            finish(args)?;
            smoltcp.close()
        }
        _ => {
            meet()?;
            let mut stream = TcpStream::connect(args.address)?;
            stream.set_nodelay(true)?;
            exchanges(args.count, |message| {
                stream.write_all(message)?;
                stream.read_exact(message).context("the echo ended")
            })?;
            finish(args)
        }
    }
}

/// Before the connection ends, for the server ends with it.
fn finish(args: &Args) -> Result<()> {
    say(&super::Echoed { echoed: args.count.into() })?;
    wait_for_harness()
}

fn exchanges(count: u32, mut exchange: impl FnMut(&mut [u8; SIZE]) -> Result<()>) -> Result<()> {
    for number in 0..WARM_UP + count {
        let mut message = [0x5a; SIZE];
        message[..4].copy_from_slice(&number.to_be_bytes());
        let sent = message;
        let counted = if number < WARM_UP {
            exchange(&mut message)
        } else {
            counted_exchange(&mut exchange, &mut message)
        };
        counted?;
        ensure!(message == sent, "another message came back");
    }
    Ok(())
}

/// What callgrind counts.
#[inline(never)]
fn counted_exchange(
    exchange: &mut impl FnMut(&mut [u8; SIZE]) -> Result<()>,
    message: &mut [u8; SIZE],
) -> Result<()> {
    exchange(message)
}

/// A port as smoltcp sees it.
struct Wire(Queue);

struct Rx(<Queue as Allocator>::Buffer);
struct Tx<'a>(&'a mut Queue);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0.data())
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Some(mut frame) = self.0.allocate() else { return f(&mut vec![0; len]) };
        let result = f(frame.append(len));
        let mut burst = Burst::new();
        burst.push(frame);
        self.0.tx_burst(&mut burst); // What the port does not take is lost, and sent again.
        result
    }
}

impl phy::Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let mut frames = Burst::new();
        self.0.rx_burst(&mut frames);
        // One frame is under way at a time; of more, all but one are sent again.
        Some((Rx(frames.pop()?), Tx(&mut self.0)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1_514;
        // What comes has been verified, as far as such a link does.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

/// A connection of smoltcp's.
struct Smoltcp {
    _port: dpdk::Port,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    connection: SocketHandle,
}

impl Smoltcp {
    fn connect(
        (port, queue): (dpdk::Port, Queue),
        own: Ipv4Addr,
        to: SocketAddrV4,
    ) -> Result<Self> {
        let mac = EthernetAddress(queue.mac().0);
        let mut wire = Wire(queue);
        let config = Config::new(HardwareAddress::Ethernet(mac));
        let mut interface = Interface::new(config, &mut wire, Instant::now());
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(own.into(), 24)).expect("room for one");
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; 65_536]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.connect(interface.context(), to, 40_000).context("smoltcp cannot connect")?;
        let mut sockets = SocketSet::new(Vec::new());
        let connection = sockets.add(socket);
        let mut this = Smoltcp { _port: port, wire, interface, sockets, connection };
        let since = std::time::Instant::now();
        while !this.socket().may_send() {
            ensure!(since.elapsed() < PATIENCE, "nobody answers smoltcp");
            this.poll();
        }
        Ok(this)
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.connection)
    }

    fn poll(&mut self) {
        self.interface.poll(Instant::now(), &mut self.wire, &mut self.sockets);
    }

    fn exchange(&mut self, message: &mut [u8; SIZE]) -> Result<()> {
        let sent = self.socket().send_slice(message)?;
        ensure!(sent == SIZE, "no room for a message");
        let mut got = 0;
        while got < SIZE {
            self.poll();
            let socket = self.socket();
            if socket.can_recv() {
                got += socket.recv_slice(&mut message[got..])?;
            }
            ensure!(socket.may_recv(), "the echo ended");
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        self.socket().close();
        let since = std::time::Instant::now();
        while self.socket().is_active() && since.elapsed() < Duration::from_secs(2) {
            self.poll();
        }
        Ok(())
    }
}
