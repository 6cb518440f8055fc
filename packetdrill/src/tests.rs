//! The adapter without packetdrill: its function pointers, in virtual time.

use crate::interface::{Interface, interface};
use crate::knobs::Flags;
use crate::station::Station;
use core::ffi::{c_int, c_void};
use libc::{sockaddr, sockaddr_in, socklen_t, timeval};

const OURS: [u8; 4] = [192, 168, 0, 1];
const PEER: [u8; 4] = [192, 0, 2, 1];
const PEER_PORT: u16 = 50_000;
const PORT: u16 = 8_080;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// What packetdrill does, by the interface alone.
struct Driver(Interface);

/// A TCP segment that the stack sent.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    at_us: i64,
    seq: u32,
    ack: u32,
    flags: u8,
    options: Vec<u8>,
    payload: Vec<u8>,
}

fn checksum(parts: &[&[u8]]) -> u16 {
    let octets = parts.concat();
    let words = octets
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

impl Driver {
    fn new() -> Self {
        let station = Box::leak(Box::new(Station::new(Flags::parse("sysctl=0"))));
        Driver(interface(station))
    }

    fn inject(&self, seq: u32, ack: u32, flags: u8, options: &[u8], payload: &[u8]) {
        let words = (20 + options.len()) / 4;
        let mut tcp = Vec::new();
        tcp.extend(PEER_PORT.to_be_bytes());
        tcp.extend(PORT.to_be_bytes());
        tcp.extend(seq.to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([(words << 4) as u8, flags, 0x80, 0, 0, 0, 0, 0]);
        tcp.extend(options);
        tcp.extend(payload);
        let pseudo = [&PEER[..], &OURS, &[0, 6], &(tcp.len() as u16).to_be_bytes()].concat();
        let sum = checksum(&[&pseudo, &tcp]);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut ip = vec![0x45, 0];
        ip.extend((20 + tcp.len() as u16).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        ip.extend(PEER);
        ip.extend(OURS);
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip.extend(tcp);
        // SAFETY: a packet of ours.
        let sent = unsafe { (self.0.netdev_send)(self.0.userdata, ip.as_ptr().cast(), ip.len()) };
        assert_eq!(sent, 0);
    }

    fn sniff(&self) -> Segment {
        let (mut room, mut at_us) = ([0u8; 65_536], 0);
        let mut len = room.len();
        // SAFETY: as much room as it is told.
        let got = unsafe {
            (self.0.netdev_receive)(
                self.0.userdata,
                room.as_mut_ptr().cast(),
                &raw mut len,
                &raw mut at_us,
            )
        };
        assert!(got == 0 && len >= 40, "{len}");
        let tcp = &room[20..len];
        let number = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
        let header = usize::from(tcp[12] >> 4) * 4;
        Segment {
            at_us,
            seq: number(4),
            ack: number(8),
            flags: tcp[13],
            options: tcp[20..header].to_vec(),
            payload: tcp[header..].to_vec(),
        }
    }

    fn now_us(&self) -> i64 {
        let mut time = timeval { tv_sec: 0, tv_usec: 0 };
        // SAFETY: room for a time.
        unsafe { (self.0.gettimeofday)(self.0.userdata, &raw mut time, core::ptr::null_mut()) };
        time.tv_sec * 1_000_000 + time.tv_usec
    }

    fn usleep(&self, us: u32) {
        // SAFETY: no pointers.
        unsafe { (self.0.usleep)(self.0.userdata, us) };
    }

    fn listener(&self) -> c_int {
        let address = sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: PORT.to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(OURS) },
            sin_zero: [0; 8],
        };
        let u = self.0.userdata;
        // SAFETY: an address of ours.
        unsafe {
            let fd = (self.0.socket)(u, libc::AF_INET, libc::SOCK_STREAM, 0);
            assert!(fd >= 0);
            let pointer = (&raw const address).cast::<sockaddr>();
            assert_eq!((self.0.bind)(u, fd, pointer, size_of_val(&address) as socklen_t), 0);
            assert_eq!((self.0.listen)(u, fd, 5), 0);
            fd
        }
    }

    /// A connection that a peer began with the options of its SYN; and our first number.
    fn accepted(&self, options: &[u8]) -> (c_int, u32) {
        let listener = self.listener();
        self.inject(0, 0, SYN, options, &[]);
        let syn_ack = self.sniff();
        assert_eq!((syn_ack.flags, syn_ack.ack), (SYN | ACK, 1));
        self.inject(1, syn_ack.seq + 1, ACK, &[], &[]);
        let (null, len) = (core::ptr::null_mut(), core::ptr::null_mut());
        // SAFETY: null is allowed for both.
        let fd = unsafe { (self.0.accept)(self.0.userdata, listener, null, len) };
        assert!(fd >= 0);
        (fd, syn_ack.seq + 1)
    }

    fn write(&self, fd: c_int, data: &[u8]) -> isize {
        // SAFETY: data of ours.
        unsafe { (self.0.write)(self.0.userdata, fd, data.as_ptr().cast(), data.len()) }
    }

    fn read(&self, fd: c_int, room: &mut [u8]) -> isize {
        // SAFETY: room of ours.
        unsafe { (self.0.read)(self.0.userdata, fd, room.as_mut_ptr().cast(), room.len()) }
    }
}

const MSS_1000: [u8; 4] = [2, 4, 3, 232];

#[test]
fn a_handshake_and_data_by_function_pointers() {
    let driver = Driver::new();
    let (fd, first) = driver.accepted(&[2, 4, 3, 232, 4, 2, 1, 1]);
    driver.inject(1, first, ACK, &[], b"hello");
    assert_eq!(driver.sniff().ack, 6);
    let mut room = [0; 16];
    assert_eq!(driver.read(fd, &mut room), 5);
    assert_eq!(&room[..5], b"hello");
    assert_eq!(driver.write(fd, b"world"), 5);
    let sent = driver.sniff();
    assert_eq!((sent.seq, &sent.payload[..]), (first, &b"world"[..]));
    // SAFETY: a descriptor of ours.
    assert_eq!(unsafe { (driver.0.close)(driver.0.userdata, fd) }, 0);
    assert_eq!(driver.sniff().flags & 0x01, 0x01, "FIN");
}

#[test]
fn time_passes_by_sleeping_looking_and_waiting_for_packets() {
    let driver = Driver::new();
    let begun = driver.now_us();
    assert_eq!(driver.now_us(), begun + 1, "a look takes a microsecond");
    driver.usleep(1_000_000);
    assert_eq!(driver.now_us(), begun + 1_000_002);
    let (fd, _) = driver.accepted(&MSS_1000);
    assert_eq!(driver.write(fd, &[0; 100]), 100);
    let sent = driver.sniff();
    let again = driver.sniff();
    assert_eq!(sent.seq, again.seq);
    let waited = again.at_us - sent.at_us;
    assert!((200_000..210_000).contains(&waited), "the retransmission timeout: {waited}");
    assert!(driver.now_us() < again.at_us + 10);
}

#[test]
fn a_blocked_call_ends_when_its_packet_comes() {
    let driver = Driver::new();
    let (fd, first) = driver.accepted(&MSS_1000);
    std::thread::scope(|scope| {
        struct Shared<'a>(&'a Driver);
        // SAFETY: packetdrill calls from two threads too; the station has a lock.
        unsafe impl Send for Shared<'_> {}
        impl Shared<'_> {
            fn read(&self, fd: c_int) -> (isize, i64) {
                let n = self.0.read(fd, &mut [0; 16]);
                (n, self.0.now_us())
            }
        }
        let shared = Shared(&driver);
        let reader = scope.spawn(move || shared.read(fd));
        std::thread::sleep(std::time::Duration::from_millis(20));
        driver.usleep(50_000);
        let before = driver.now_us();
        driver.inject(1, first, ACK, &[], b"late");
        let after = driver.now_us();
        driver.usleep(50_000);
        let (n, at) = reader.join().unwrap();
        assert_eq!(n, 4);
        assert!((before..=after).contains(&at), "{before} {at} {after}");
    });
}

#[test]
fn what_is_not_ours_stays_the_kernels() {
    let mut ends = [0; 2];
    // SAFETY: a pipe of our own, and data of ours.
    unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        assert_eq!(crate::hooks::close(ends[1]), 0);
        let mut octet = 0u8;
        let at = (&raw mut octet).cast::<c_void>();
        assert_eq!(libc::read(ends[0], at, 1), 0, "the other end is closed");
        assert_eq!(crate::hooks::close(ends[0]), 0);
        assert_eq!(crate::hooks::close(ends[0]), -1);
    }
}

#[test]
fn flags_change_the_defaults() {
    let flags = Flags::parse("gateway_ip=10.0.0.2 local_ip=10.0.0.1,mtu=1400 nonsense x=y");
    assert_eq!(flags.local, core::net::Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!((flags.mtu, flags.prefix_len, flags.sysctl), (1400, 16, true));
    assert_eq!(Flags::parse("netmask=255.255.255.0").prefix_len, 24);
}
