//! Random, truncated and mutated frames into a shard with open sockets: nothing panics, no buffer
//! is lost, no table outgrows its bound. `FUZZ_SECONDS` says for how long (default: one second),
//! `FUZZ_SEED` where to start.

use stack::addr::MacAddr;
use stack::config::{Capacity, Config};
use stack::packet::{Buffer, RxChecksum};
use stack::rng::Rng;
use stack::shard::{Shard, SocketId, SocketKind};
use stack::socket::{Family, ReceiveFlags, SendControl, SendFlags};
use stack::testing::TestDevice;
use stack::time::{Duration, Instant};
use stack::wire::checksum::{Sum, checksum, pseudo_header};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const THEM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const BUFFERS: usize = 2_048;

struct Fuzz {
    rng: Rng,
    now: Instant,
    shard: Shard<TestDevice>,
    sockets: Vec<SocketId>,
    frame: Vec<u8>,
    sent: Vec<Vec<u8>>,
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

impl Fuzz {
    fn new(seed: u64) -> Self {
        let capacity = Capacity {
            tcp_sockets: 64,
            time_wait: 16,
            udp_sockets: 32,
            segments: 512,
            neighbors: 8,
            unresolved_packets: 16,
            loopback_frames: 64,
            capture_octets: 1 << 14,
        };
        let addresses = vec![format!("{US}/24").parse().unwrap()];
        let config = Config { addresses, loopback: true, capacity, ..Config::default() };
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let device = TestDevice::new(MACS[0], 1500, BUFFERS);
        let mut shard = Shard::new(&config, device, bytes);
        shard.capture_start(64);
        let now = Instant::from_millis(10);
        let rng = Rng::new(bytes);
        let mut fuzz = Fuzz { rng, now, shard, sockets: vec![], frame: vec![], sent: vec![] };
        fuzz.open();
        fuzz
    }

    /// A listener, a connecting socket, two UDP sockets.
    fn open(&mut self) {
        let (now, shard) = (self.now, &mut self.shard);
        let at = |address: Ipv4Addr, port| SocketAddr::new(address.into(), port);
        for (kind, port) in [(SocketKind::Tcp, 80), (SocketKind::Udp, 7), (SocketKind::Udp, 53)] {
            let Ok(socket) = shard.socket(kind, Family::V4) else { continue };
            let _ = shard.bind(now, socket, at(Ipv4Addr::UNSPECIFIED, port));
            match kind {
                SocketKind::Tcp => drop(shard.listen(now, socket, 8)),
                SocketKind::Udp => {
                    let change = |o: &mut stack::options::Options| o.receive_errors = port == 7;
                    shard.update_options(now, socket, change).unwrap();
                }
            }
            self.sockets.push(socket);
        }
        let Ok(client) = shard.socket(SocketKind::Tcp, Family::V4) else { return };
        let _ = shard.bind(now, client, at(US, 4000));
        let _ = shard.connect(now, client, at(THEM, 80));
        self.sockets.push(client);
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u32) as usize
    }

    fn byte(&mut self) -> u8 {
        self.rng.next_u32() as u8
    }

    /// One frame: noise, or a plausible packet, or something that was sent before; then damaged.
    fn make_frame(&mut self) {
        self.frame.clear();
        match self.below(16) {
            0 => {
                let len = self.below(120);
                for _ in 0..len {
                    let byte = self.byte();
                    self.frame.push(byte);
                }
            }
            1 => self.make_arp(),
            2..=4 if !self.sent.is_empty() => self.reflect(),
            _ => self.make_ip(),
        }
        if self.below(3) == 0 && !self.frame.is_empty() {
            for _ in 0..=self.below(3) {
                let at = self.below(self.frame.len());
                self.frame[at] = self.byte();
            }
        }
        if self.below(8) == 0 {
            let len = self.below(self.frame.len() + 1);
            self.frame.truncate(len);
        }
    }

    fn ethernet(&mut self, ether_type: u16) {
        let to = if self.below(10) == 0 { MacAddr::BROADCAST } else { MACS[0] };
        self.frame.extend(to.0);
        self.frame.extend(MACS[1].0);
        self.frame.extend(ether_type.to_be_bytes());
    }

    fn make_arp(&mut self) {
        self.ethernet(0x0806);
        let operation = 1 + self.byte() % 2;
        self.frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
        self.frame.extend(MACS[1].0);
        let host = self.byte();
        self.frame.extend([10, 0, 0, host]);
        self.frame.extend(MACS[0].0);
        self.frame.extend(US.octets());
    }

    /// A frame of ours turned around: the likeliest to get deep into a connection.
    fn reflect(&mut self) {
        let at = self.below(self.sent.len());
        self.frame.clone_from(&self.sent[at]);
        if self.frame.len() < 38 {
            return;
        }
        self.frame[..6].copy_from_slice(&MACS[0].0);
        for i in 0..4 {
            self.frame.swap(26 + i, 30 + i);
        }
        for i in 0..2 {
            self.frame.swap(34 + i, 36 + i);
        }
        if self.frame[23] == 6 && self.frame.len() >= 54 {
            // Acknowledge what it sent, with any flags.
            let seq = u32::from_be_bytes(self.frame[38..42].try_into().unwrap());
            let ack = seq.wrapping_add(1 + self.rng.below(3));
            let own = self.rng.next_u32();
            if self.below(2) == 0 {
                self.frame.copy_within(42..46, 38);
            } else {
                self.frame[38..42].copy_from_slice(&own.to_be_bytes());
            }
            self.frame[42..46].copy_from_slice(&ack.to_be_bytes());
            self.frame[47] = [0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0x02][self.below(7)];
            self.fix_transport_checksum();
        }
    }

    fn make_ip(&mut self) {
        self.ethernet(0x0800);
        let protocol = [6, 6, 17, 17, 1, 41][self.below(6)];
        let len = [8, 20, 24, 40, 100, 1_000, 1_480][self.below(7)];
        let fragment = [0, 0, 0, 0, 0x2000, 0x2001, 0x00b9, 0x4000][self.below(8)];
        let id = [1, 2, self.byte()][self.below(3)];
        let last = if self.below(20) == 0 { self.byte() } else { 1 };
        let total = (20 + len) as u16;
        self.frame.extend([0x45, self.rng.next_u32() as u8]);
        self.frame.extend(total.to_be_bytes());
        self.frame.extend([0, id]);
        self.frame.extend(u16::to_be_bytes(fragment));
        self.frame.extend([64, protocol, 0, 0]);
        self.frame.extend(THEM.octets());
        self.frame.extend([10, 0, 0, last]);
        for _ in 0..len {
            let byte = self.byte();
            self.frame.push(byte);
        }
        self.shape_transport(protocol);
        let sum = checksum(&self.frame[14..34]);
        self.frame[24..26].copy_from_slice(&sum.to_be_bytes());
        self.fix_transport_checksum();
    }

    fn shape_transport(&mut self, protocol: u8) {
        let ports = [[0u8, 80], [0, 7], [0, 53], [0x0f, 0xa0]];
        let port = ports[self.below(4)];
        let len = self.frame.len() - 34;
        match protocol {
            6 if len >= 20 => {
                self.frame[36..38].copy_from_slice(&port);
                self.frame[34] = 0x40;
                let words = 5 + self.below(len.min(60) / 4 - 4) as u8;
                self.frame[46] = words << 4;
                self.frame[47] = [0x02, 0x10, 0x18, 0x11, 0x04, 0x14, 0x29][self.below(7)];
            }
            17 => {
                self.frame[36..38].copy_from_slice(&port);
                self.frame[38..40].copy_from_slice(&(len as u16).to_be_bytes());
            }
            1 => {
                self.frame[34] = [0, 3, 3, 8, 11, 12][self.below(6)];
                self.frame[35] = self.rng.below(17) as u8;
                if let Some(quote) = self.sent.get(self.rng.below(64) as usize) {
                    let n = quote.len().saturating_sub(14).min(len - 8);
                    self.frame[42..42 + n].copy_from_slice(&quote[14..14 + n]);
                }
            }
            _ => {}
        }
    }

    fn fix_transport_checksum(&mut self) {
        let payload = self.frame.len() - 34;
        let at = match self.frame[23] {
            6 if payload >= 20 => 50,
            17 if payload >= 8 => 40,
            1 if payload >= 8 => 36,
            _ => return,
        };
        self.frame[at..at + 2].fill(0);
        let address = |at: usize| {
            let octets: [u8; 4] = self.frame[at..at + 4].try_into().unwrap();
            IpAddr::V4(octets.into())
        };
        let pseudo = match self.frame[23] {
            1 => Sum::default(),
            protocol => pseudo_header(address(26), address(30), protocol, payload),
        };
        let sum = pseudo.plus(Sum::of(&self.frame[34..])).finish();
        self.frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    fn step(&mut self) {
        self.make_frame();
        self.shard.device_mut().inject(&self.frame, RxChecksum::Unknown);
        let by = [0, 0, 10, 1_000, 300_000][self.below(5)];
        self.now += Duration::from_micros(by);
        self.shard.poll(self.now);
        while let Some(frame) = self.shard.device_mut().sent() {
            if self.sent.len() < 64 {
                self.sent.push(frame.data().to_vec());
            } else {
                let at = self.below(64);
                self.sent[at] = frame.data().to_vec();
            }
        }
        if self.below(4) == 0 {
            self.call();
        }
    }

    /// What a program would do meanwhile.
    fn call(&mut self) {
        while self.shard.poll_event().is_some() {}
        let at = self.below(self.sockets.len());
        let (now, socket) = (self.now, self.sockets[at]);
        let mut data = [0; 4_096];
        match self.below(8) {
            0..=2 => {
                let into = &mut [IoSliceMut::new(&mut data)];
                let _ = self.shard.receive(now, socket, into, ReceiveFlags::default());
                let _ = self.shard.receive_error(socket, &mut []);
            }
            3 | 4 => {
                let to = Some(SocketAddr::new(THEM.into(), 9));
                let slices = [IoSlice::new(&data)];
                let (control, flags) = (SendControl::default(), SendFlags::default());
                let _ = self.shard.send_to(now, socket, &slices, to, &control, flags);
            }
            5 => {
                if let Ok((accepted, _)) = self.shard.accept(now, socket) {
                    if self.sockets.len() < 24 {
                        self.sockets.push(accepted);
                    } else {
                        self.shard.abort(now, accepted);
                    }
                }
            }
            6 => self.shard.capture_read(|_| {}),
            _ if self.below(20) == 0 => {
                self.shard.close(now, socket);
                self.sockets.swap_remove(at);
                if self.sockets.len() < 4 {
                    self.open();
                }
            }
            _ => {}
        }
    }

    /// Everything is closed and given time: every buffer must come home.
    fn finish(mut self) {
        for socket in core::mem::take(&mut self.sockets) {
            self.shard.abort(self.now, socket);
        }
        for _ in 0..100 {
            self.now += Duration::from_secs(10);
            self.shard.poll(self.now);
            while self.shard.device_mut().sent().is_some() {}
        }
        let occupancy = self.shard.occupancy();
        assert_eq!(self.shard.device().buffers_in_use(), 0, "buffers are lost: {occupancy:?}");
        assert_eq!(occupancy.udp, stack::udp::Occupancy::default());
        assert_eq!(occupancy.tcp, stack::tcp::Occupancy::default());
        assert_eq!((occupancy.fragments, occupancy.unresolved_packets), (0, 0));
    }
}

#[test]
fn nothing_that_arrives_hurts() {
    let until = std::time::Instant::now() + Duration::from_secs(from_env("FUZZ_SECONDS", 1));
    let mut seed = from_env("FUZZ_SEED", 1);
    loop {
        println!("FUZZ_SEED={seed}");
        let mut fuzz = Fuzz::new(seed);
        for _ in 0..20_000 {
            fuzz.step();
            let occupancy = fuzz.shard.occupancy();
            assert!(occupancy.neighbors <= 8 && occupancy.unresolved_packets <= 16);
            assert!(occupancy.tcp.sockets <= 64 && occupancy.udp.sockets <= 32);
            assert!(fuzz.shard.device().buffers_in_use() < BUFFERS, "the pool is exhausted");
        }
        fuzz.finish();
        seed += 1;
        if std::time::Instant::now() >= until {
            return;
        }
    }
}
