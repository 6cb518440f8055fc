//! The floor: frames over the link with no stack above it. What remains is the driver, the shared
//! memory and the two cores' caches.

use super::ping::{LOST_AFTER, Plan, Reply, SEQUENCE_LEN, measure};
use super::{Echoed, Ready, say, wait_for_harness};
use anyhow::{Context, Result, bail, ensure};
use dpdk::{Eal, EalOptions, MemifRole, Port, PortConfig, Queue};
use stack::device::{Burst, Device};
use stack::packet::Buffer;
use std::time::{Duration, Instant};

/// Destination, source, type.
const HEADER_LEN: usize = 14;
/// IEEE 802 local experimental Ethertype 1: nobody else's frames carry it.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// Local experimental Ethertype 2: the echo is to end.
const STOP_ETHERTYPE: [u8; 2] = [0x88, 0xb6];
/// Ethernet's configuration testing protocol, which is what a probe is.
const PROBE_ETHERTYPE: [u8; 2] = [0x90, 0x00];
/// How long the link may take to come up.
const LINK_PATIENCE: Duration = Duration::from_secs(5);

/// The port that a device string of [`crate::bench::Wire`] names, and its queue.
pub fn open(device: &str) -> Result<(Port, Queue)> {
    let config = match device.split_once(':') {
        Some(("vhost", path)) => PortConfig::vhost(path),
        Some(("virtio-user", path)) => PortConfig::virtio_user(path),
        Some(("af_packet", interface)) => PortConfig::af_packet(interface),
        Some(("memif", words)) => match words.split_once(",role=") {
            Some((path, "server")) => PortConfig::memif(path, MemifRole::Server),
            Some((path, "client")) => PortConfig::memif(path, MemifRole::Client),
            _ => bail!("{device}: a memif needs a role"),
        },
        _ => bail!("{device}: no such kind of device"),
    };
    let eal = Eal::start(EalOptions::for_ports(&[&config]))?;
    let port = Port::open(&eal, config)?;
    port.start()?;
    let queue = port.queue(0)?;
    Ok((port, queue))
}

/// Sends every experimental frame back until a stop frame comes.
pub fn echo(device: &str) -> Result<()> {
    let (_port, mut queue) = open(device)?;
    say(&Ready { ready: device.to_owned() })?;
    let mut received = Burst::new();
    let mut echoed = 0;
    loop {
        queue.rx_burst(&mut received);
        let mut answers = Burst::new();
        for mut frame in received.drain(..) {
            match kind_of(frame.data()) {
                ETHERTYPE => echoed += 1,
                PROBE_ETHERTYPE => {}
                STOP_ETHERTYPE => return say(&Echoed { echoed }),
                _ => continue,
            }
            let (destination, rest) = frame.data_mut().split_at_mut(6);
            destination.swap_with_slice(&mut rest[..6]);
            answers.push(frame);
        }
        while !answers.is_empty() {
            queue.tx_burst(&mut answers);
        }
    }
}

/// Measures round trips of frames with `plan.size` octets behind the Ethernet header.
pub fn ping(device: &str, plan: &Plan) -> Result<()> {
    let (port, mut queue) = open(device)?;
    let mut received = Burst::new();
    wait_for_link(&mut queue, &mut received)?;
    let mut outcome = measure(plan, |sent, back| exchange(&mut queue, &mut received, sent, back))?;
    outcome.on = Some(description(&port));
    say(&outcome)?;
    wait_for_harness()?;
    for _ in 0..3 {
        send(&mut queue, STOP_ETHERTYPE, &[0; SEQUENCE_LEN])?;
    }
    // The link goes down with its first end, and some drivers do not survive that while they are
    // polled: not before the server has ended.
    wait_for_harness()
}

/// What a report says of a port.
fn description(port: &Port) -> String {
    let used: Vec<&str> = port.offloads().names().collect();
    let used = if used.is_empty() { "none".to_owned() } else { used.join(", ") };
    format!("driver {}, {}, offloads used: {used}", port.driver(), dpdk::version())
}

/// Sends probes until one comes back. Probes are not experimental frames of the measurement: the
/// echo returns them uncounted.
fn wait_for_link<D: Device>(queue: &mut D, received: &mut Burst<D::Buffer>) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < LINK_PATIENCE {
        send(queue, PROBE_ETHERTYPE, &[0; 50])?;
        std::thread::sleep(Duration::from_millis(5));
        queue.rx_burst(received);
        let answered = received.drain(..).any(|frame| kind_of(frame.data()) == PROBE_ETHERTYPE);
        if answered {
            return Ok(());
        }
    }
    bail!("the other end of the link does not answer")
}

/// The Ethertype, or zeroes if the frame is too short to have one.
fn kind_of(frame: &[u8]) -> [u8; 2] {
    frame.get(12..HEADER_LEN).and_then(|kind| kind.try_into().ok()).unwrap_or_default()
}

fn send<D: Device>(queue: &mut D, kind: [u8; 2], payload: &[u8]) -> Result<()> {
    let mut frame = queue.allocate().context("the pool is empty")?;
    let bytes = frame.append(HEADER_LEN + payload.len());
    bytes[..6].copy_from_slice(&[0x02, 0, 0, 0, 0, 1]);
    bytes[6..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 2]);
    bytes[12..HEADER_LEN].copy_from_slice(&kind);
    bytes[HEADER_LEN..].copy_from_slice(payload);
    let mut burst = Burst::new();
    burst.push(frame);
    let since = Instant::now();
    loop {
        queue.tx_burst(&mut burst);
        if burst.is_empty() {
            return Ok(());
        }
        ensure!(since.elapsed() < LINK_PATIENCE, "the port takes no frame");
    }
}

fn exchange<D: Device>(
    queue: &mut D,
    received: &mut Burst<D::Buffer>,
    sent: &[u8],
    back: &mut [u8],
) -> Result<Reply> {
    send(queue, ETHERTYPE, sent)?;
    let mut tries = 0u32;
    let mut since = None;
    loop {
        queue.rx_burst(received);
        for frame in received.drain(..) {
            let bytes = frame.data();
            // A link may pad short frames.
            let Some(payload) = bytes.get(HEADER_LEN..HEADER_LEN + sent.len()) else { continue };
            if kind_of(bytes) == ETHERTYPE && payload[..SEQUENCE_LEN] == sent[..SEQUENCE_LEN] {
                back.copy_from_slice(payload);
                return Ok(Reply::Came);
            }
        }
        tries += 1;
        if tries.is_multiple_of(4096)
            && since.get_or_insert_with(Instant::now).elapsed() > LOST_AFTER
        {
            return Ok(Reply::Lost);
        }
    }
}
