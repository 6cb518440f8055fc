//! Programs that call anything in any order, on two shards with a wire between them that drops,
//! repeats, delays, reorders and rewrites (checksums mended) what it carries, under a clock that
//! jumps: nothing panics, no buffer is lost, no table outgrows its bound, and when everything has
//! been closed every table is empty. `FUZZ_SECONDS` says for how long (default: one second),
//! `FUZZ_SEED` where to start.

use stack::addr::MacAddr;
use stack::config::{Capacity, Config, TcpConfig};
use stack::options::{CongestionAlgorithm, Linger, Options, PathMtuDiscovery};
use stack::packet::{Buffer, RxChecksum};
use stack::rng::Rng;
use stack::shard::{Shard, SocketId, SocketKind};
use stack::socket::{Family, ReceiveFlags, SendControl, SendFlags, Shutdown};
use stack::testing::TestDevice;
use stack::time::{Duration, Instant};
use stack::wire::checksum::{Sum, checksum, pseudo_header};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
const PORTS: [u16; 5] = [0, 80, 81, 4_000, 40_000];
const BUFFERS: usize = 2_048;
const SOCKETS: usize = 48;
const SEGMENTS: usize = 640;
/// Each socket has a place for its FIN besides.
const MOST_SEGMENTS: usize = SEGMENTS + SOCKETS;
const TIME_WAIT: usize = 16;
/// Descriptors that a program keeps, stale ones among them.
const HELD: usize = 40;
/// Frames on the wire.
const CARRIED: usize = 64;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One end: a stack, and what its program holds.
struct End {
    shard: Shard<TestDevice>,
    sockets: Vec<SocketId>,
}

struct Fuzz {
    rng: Rng,
    now: Instant,
    ends: [End; 2],
    /// What was sent and has not arrived: where it goes, and its octets.
    wire: Vec<(usize, Vec<u8>)>,
    /// Connections that came to be: a fuzzer that never gets anywhere finds nothing.
    accepted: u64,
}

fn end(which: usize, rng: &mut Rng, seed: [u8; 32]) -> End {
    let capacity = Capacity {
        tcp_sockets: SOCKETS,
        time_wait: TIME_WAIT,
        udp_sockets: 8,
        segments: SEGMENTS,
        neighbors: 8,
        unresolved_packets: 16,
        loopback_frames: 64,
        capture_octets: 1 << 14,
    };
    let mut coin = || rng.below(4) > 0;
    let tcp = TcpConfig {
        timestamps: coin(),
        sack: coin(),
        window_scaling: coin(),
        ..TcpConfig::default()
    };
    let addresses = vec![format!("{}/24", HOSTS[which]).parse().unwrap()];
    let config = Config { addresses, loopback: true, capacity, tcp, ..Config::default() };
    let device = TestDevice::new(MACS[which], 1500, BUFFERS);
    End { shard: Shard::new(&config, device, seed), sockets: Vec::new() }
}

impl Fuzz {
    fn new(seed: u64) -> Self {
        let mut bytes = [3; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = Rng::new(bytes);
        for _ in 0..16 {
            rng.next_u64(); // Seeds that differ in one bit are strangers only after a while.
        }
        let ends = [0, 1].map(|which| {
            bytes[31] = which as u8;
            end(which, &mut rng, bytes)
        });
        Fuzz { rng, now: Instant::from_millis(10), ends, wire: Vec::new(), accepted: 0 }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u32) as usize
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    // -- time and the wire --------------------------------------------------------------------

    fn pass_time(&mut self) {
        let millis = Duration::from_millis;
        let jump = match self.below(100) {
            0..=69 => Duration::from_micros(self.rng.below(2_000).into()),
            70..=89 => millis(self.rng.below(50).into()),
            90..=97 => millis(self.rng.below(3_000).into()),
            98 => millis(self.rng.below(200_000).into()),
            // Nobody looks at a timer that is 24 days (2^31 ms) late.
            _ if self.chance(20) => Duration::from_secs(86_400 * u64::from(self.rng.below(20))),
            _ => Duration::ZERO,
        };
        self.now += jump;
    }

    /// Takes what both ends have sent.
    fn collect(&mut self) {
        for from in 0..2 {
            while let Some(frame) = self.ends[from].shard.device_mut().sent() {
                if self.wire.len() < CARRIED {
                    self.wire.push((1 - from, frame.data().to_vec()));
                }
            }
        }
    }

    /// Some frame arrives: usually the oldest, sometimes another, sometimes twice or changed.
    fn deliver(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let at = if self.chance(8) { self.below(self.wire.len()) } else { 0 };
        if self.chance(25) {
            self.wire.remove(at);
            return;
        }
        let (to, mut frame) =
            if self.chance(20) { self.wire[at].clone() } else { self.wire.remove(at) };
        if self.chance(12) {
            self.rewrite(&mut frame);
        }
        let to = if self.chance(200) { 1 - to } else { to };
        self.ends[to].shard.device_mut().inject(&frame, RxChecksum::Unknown);
        let now = self.now;
        self.ends[to].shard.poll(now);
    }

    /// Changes something in a TCP header that a liar might, and makes the checksums good.
    fn rewrite(&mut self, frame: &mut Vec<u8>) {
        const TCP: usize = 34;
        if frame.len() < TCP + 20 || frame[12..14] != [8, 0] || frame[23] != 6 {
            return;
        }
        let number = |frame: &[u8], at: usize| {
            u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
        };
        let by =
            self.pick(&[1, 2, 100, 1_460, 65_535, 1 << 20, 1 << 31, u32::MAX, u32::MAX - 1_459]);
        match self.below(9) {
            0 => frame[TCP + 13] ^= 1 << self.below(8),
            1 => frame[TCP + 13] = self.pick(&[0x02, 0x04, 0x14, 0x11, 0x12, 0x29, 0x31, 0]),
            2 | 3 => {
                let at = TCP + self.pick(&[4, 8]);
                let changed = number(frame, at).wrapping_add(by);
                frame[at..at + 4].copy_from_slice(&changed.to_be_bytes());
            }
            4 => {
                let window = self.pick(&[0u16, 1, 10, 1_000, u16::MAX]);
                frame[TCP + 14..TCP + 16].copy_from_slice(&window.to_be_bytes());
            }
            5 => {
                frame[TCP + 13] |= 0x20;
                let urgent = self.pick(&[0u16, 1, 2, 500, u16::MAX]);
                frame[TCP + 18..TCP + 20].copy_from_slice(&urgent.to_be_bytes());
            }
            6 => {
                let options = usize::from(frame[TCP + 12] >> 4) * 4;
                if options > 20 && frame.len() >= TCP + options {
                    let at = TCP + 20 + self.below(options - 20);
                    frame[at] = self.rng.next_u32() as u8;
                }
            }
            7 => {
                let len = TCP + 20 + self.below(frame.len() - TCP - 19);
                frame.truncate(len);
            }
            _ => frame[15] = self.pick(&[0, 1, 2, 3, 0xfc]),
        }
        mend(frame);
    }

    // -- the programs -------------------------------------------------------------------------

    fn call(&mut self) {
        let which = self.below(2);
        if self.ends[which].sockets.is_empty() || self.chance(30) {
            return self.open(which);
        }
        let at = self.below(self.ends[which].sockets.len());
        let id = self.ends[which].sockets[at];
        let now = self.now;
        match self.below(20) {
            0 => self.bind_and_listen(which, id),
            1 | 2 => self.connect(which, id),
            3..=5 => self.accept(which, id),
            6..=9 => self.send(which, id),
            10..=13 => self.receive(which, id),
            14 | 15 => {
                let (change, shard) = (self.change(), &mut self.ends[which].shard);
                let _ = shard.update_options(now, id, change);
            }
            16 if self.chance(3) => {
                let how = self.pick(&[Shutdown::Read, Shutdown::Write, Shutdown::Both]);
                let _ = self.ends[which].shard.shutdown(now, id, how);
            }
            17 if self.chance(4) => {
                // Often the handle is kept, and used again.
                let shard = &mut self.ends[which].shard;
                if self.rng.below(2) == 0 {
                    shard.close(now, id)
                } else {
                    shard.abort(now, id)
                }
                if self.rng.below(3) > 0 {
                    self.ends[which].sockets.swap_remove(at);
                }
            }
            18 => self.look(which, id),
            _ => self.errors(which, id),
        }
    }

    fn open(&mut self, which: usize) {
        let kind = if self.chance(12) { SocketKind::Udp } else { SocketKind::Tcp };
        let change = self.change();
        let (now, end) = (self.now, &mut self.ends[which]);
        if end.sockets.len() >= HELD {
            let id = end.sockets.swap_remove(0);
            return end.shard.close(now, id);
        }
        let Ok(id) = end.shard.socket(kind, Family::V4) else { return };
        if self.rng.below(2) == 0 {
            let _ = end.shard.update_options(now, id, change);
        }
        end.shard.set_owner(id, u64::from(self.rng.next_u32()));
        end.sockets.push(id);
        if self.rng.below(2) == 0 {
            self.bind_and_listen(which, id);
        } else {
            self.connect(which, id);
        }
    }

    fn address(&mut self) -> SocketAddr {
        let ip = match self.below(8) {
            0 => Ipv4Addr::UNSPECIFIED,
            1 => Ipv4Addr::LOCALHOST,
            2 => Ipv4Addr::new(10, 0, 0, self.rng.next_u32() as u8),
            n => HOSTS[n % 2],
        };
        SocketAddr::new(ip.into(), self.pick(&PORTS))
    }

    fn bind_and_listen(&mut self, which: usize, id: SocketId) {
        let (at, backlog) = (self.address(), self.pick(&[0, 1, 4, 1_000]));
        let (now, shard) = (self.now, &mut self.ends[which].shard);
        let _ = shard.bind(now, id, at);
        let _ = shard.listen(now, id, backlog);
    }

    fn connect(&mut self, which: usize, id: SocketId) {
        let to = self.address();
        let _ = self.ends[which].shard.connect(self.now, id, to);
    }

    fn accept(&mut self, which: usize, id: SocketId) {
        let end = &mut self.ends[which];
        if let Ok((accepted, _)) = end.shard.accept(self.now, id) {
            self.accepted += 1;
            if end.sockets.len() < HELD {
                end.sockets.push(accepted);
            } else {
                end.shard.close(self.now, accepted);
            }
        }
    }

    fn send(&mut self, which: usize, id: SocketId) {
        let len = self.pick(&[0, 1, 10, 1_000, 20_000, 70_000]);
        let data = vec![5; len];
        let flags = SendFlags {
            more: self.chance(6),
            urgent: self.chance(12),
            end_of_record: self.chance(12),
            ..SendFlags::default()
        };
        let to = self.chance(4).then(|| self.address());
        let slices = [IoSlice::new(&data[..len / 3]), IoSlice::new(&data[len / 3..])];
        let control = SendControl::default();
        let _ = self.ends[which].shard.send_to(self.now, id, &slices, to, &control, flags);
    }

    fn receive(&mut self, which: usize, id: SocketId) {
        let mut data = vec![0; self.pick(&[0, 1, 7, 2_000, 50_000])];
        let flags = ReceiveFlags {
            peek: self.chance(6),
            urgent: self.chance(10),
            truncate: self.chance(8),
        };
        let half = data.len() / 2;
        let (front, back) = data.split_at_mut(half);
        let into = &mut [IoSliceMut::new(front), IoSliceMut::new(back)];
        let _ = self.ends[which].shard.receive(self.now, id, into, flags);
    }

    fn look(&mut self, which: usize, id: SocketId) {
        let shard = &mut self.ends[which].shard;
        let _ = (shard.readiness(id), shard.state(id), shard.receive_available(id));
        let _ = (shard.send_queued(id), shard.send_unsent(id), shard.at_urgent_mark(id));
        let _ = (shard.local_address(id), shard.remote_address(id), shard.info(self.now, id));
        while shard.poll_event().is_some() {}
    }

    fn errors(&mut self, which: usize, id: SocketId) {
        let shard = &mut self.ends[which].shard;
        let _ = shard.take_error(id);
        let _ = shard.receive_error(id, &mut []);
        let _ = shard.disconnect(id);
    }

    /// Some setsockopt(2).
    fn change(&mut self) -> impl FnOnce(&mut Options) + use<> {
        let on = self.chance(2);
        let what = self.below(18);
        let octets = self.pick(&[2_304, 4_608, 30_000, 425_984]);
        let seconds = Duration::from_secs(self.pick(&[0, 1, 5, 600]));
        let small = self.pick(&[1, 2, 255]);
        let algorithm = self.pick(CongestionAlgorithm::ALL);
        move |o| match what {
            0 => o.reuse_address = on,
            1 => o.reuse_port = on,
            2 => (o.keepalive, o.keepalive_count) = (on, small.min(127)),
            3 => o.linger = if on { Linger::Reset } else { Linger::Background },
            4 => (o.send_buffer, o.send_buffer_locked) = (octets.max(4_608), true),
            5 => (o.receive_buffer, o.receive_buffer_locked) = (octets, true),
            6 => o.receive_low_water = octets,
            7 => o.oob_inline = on,
            8 => o.peek_offset = if on { 3 } else { -1 },
            9 => o.no_delay = on,
            10 => o.cork = on,
            11 => o.max_segment = if on { 88 } else { 0 },
            12 => {
                o.keepalive_idle = seconds.max(SECOND).into();
                o.keepalive_interval = SECOND.into();
            }
            13 => o.syn_count = small.min(127),
            14 => {
                o.linger2 = on.then_some(seconds.into());
                o.defer_accept = seconds.into();
            }
            15 => (o.window_clamp, o.congestion) = (octets, algorithm),
            16 => (o.user_timeout, o.not_sent_low_water) = (seconds.into(), octets),
            _ => o.path_mtu_discovery = PathMtuDiscovery::Dont,
        }
    }

    // -- what must always be true -------------------------------------------------------------

    fn step(&mut self) {
        self.pass_time();
        match self.below(3) {
            0 => self.call(),
            1 => {
                let which = self.below(2);
                self.ends[which].shard.poll(self.now);
            }
            _ => self.deliver(),
        }
        self.collect();
        for end in &self.ends {
            let held = end.shard.occupancy().tcp;
            assert!(held.sockets <= SOCKETS && held.connections <= SOCKETS, "{held:?}");
            assert!(held.segments <= MOST_SEGMENTS && held.time_wait <= TIME_WAIT, "{held:?}");
            assert!(end.shard.device().buffers_in_use() <= BUFFERS);
        }
    }

    /// Everything is closed and the wire works: every buffer comes home, every table empties.
    fn finish(mut self) {
        for end in &mut self.ends {
            for id in core::mem::take(&mut end.sockets) {
                end.shard.close(self.now, id);
            }
        }
        // Two thousand seconds: orphans, and those that probe a closed window, are given up.
        for n in 0..4_000 {
            self.now += Duration::from_millis(500);
            self.collect();
            for (to, frame) in core::mem::take(&mut self.wire) {
                // Half of the time nobody is there any more.
                if n < 2_000 {
                    self.ends[to].shard.device_mut().inject(&frame, RxChecksum::Unknown);
                }
            }
            for end in &mut self.ends {
                end.shard.poll(self.now);
            }
        }
        self.collect();
        for end in &mut self.ends {
            let held = end.shard.occupancy();
            assert_eq!(held.tcp, stack::tcp::Occupancy::default());
            assert_eq!(held.udp, stack::udp::Occupancy::default());
            assert_eq!((held.fragments, held.unresolved_packets), (0, 0));
            assert_eq!(end.shard.device().buffers_in_use(), 0, "buffers are lost: {held:?}");
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Lengths and checksums that fit the contents.
fn mend(frame: &mut [u8]) {
    let total = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let address = |at: usize| {
        let octets: [u8; 4] = frame[at..at + 4].try_into().unwrap();
        IpAddr::V4(octets.into())
    };
    let pseudo = pseudo_header(address(26), address(30), 6, frame.len() - 34);
    frame[50..52].fill(0);
    let sum = pseudo.plus(Sum::of(&frame[34..])).finish();
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn nothing_that_programs_do_hurts() {
    let until = std::time::Instant::now() + Duration::from_secs(from_env("FUZZ_SECONDS", 1));
    let mut seed = from_env("FUZZ_SEED", 1);
    let mut accepted = 0;
    loop {
        println!("FUZZ_SEED={seed}");
        let mut fuzz = Fuzz::new(seed);
        for _ in 0..20_000 {
            fuzz.step();
        }
        accepted += fuzz.accepted;
        fuzz.finish();
        seed += 1;
        if std::time::Instant::now() >= until {
            println!("{accepted} connections were accepted");
            assert!(accepted > 0, "no connection was ever accepted");
            return;
        }
    }
}
