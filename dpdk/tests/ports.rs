//! Frames through every device that needs no hardware, across processes, asleep and awake.

mod common;

use common::*;
use dpdk::{DeviceKind, Eal, EalOptions, Hugepages, MemifRole, Port, PortConfig};
use stack::device::{Burst, Device};
use stack::packet::{Allocator, Buffer, HEADROOM, L4Checksum, RxChecksum, TxOffload};
use std::time::{Duration, Instant};

/// A path for a socket that only this process uses.
fn socket_path(name: &str) -> String {
    let path = format!("/tmp/onwire-test-{}-{name}.sock", std::process::id());
    let _ = std::fs::remove_file(&path);
    path
}

fn wait_for_file(path: &str) {
    let begun = Instant::now();
    while !std::path::Path::new(path).exists() {
        assert!(begun.elapsed() < PATIENCE, "{path} does not appear");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns frames; a frame whose payload starts with 'z' a little later, so that its sender sleeps.
fn echo(port: &Port, asleep: bool) {
    let mut queue = port.queue(0).expect("queue 0");
    assert!(port.wait_for_link(PATIENCE), "the peer comes");
    let mut frames = Burst::new();
    loop {
        if asleep {
            assert_eq!(sleep_until_frames(port, &mut queue, &mut frames), 0);
        } else {
            queue.rx_burst(&mut frames);
        }
        if frames.iter().any(|frame| frame.data().get(14) == Some(&b'z')) {
            std::thread::sleep(Duration::from_millis(60));
        }
        while !frames.is_empty() {
            queue.tx_burst(&mut frames);
        }
    }
}

/// Sends frames of many sizes and expects them back; then nothing is missing from the pool.
fn ask(port: &Port) {
    let mut queue = port.queue(0).expect("queue 0");
    assert!(port.wait_for_link(PATIENCE), "the peer is there");
    let idle = queue.buffers_in_use();
    for round in 0..300usize {
        let payload: Vec<u8> = (0..46 + round * 4).map(|i| (i + round) as u8 & 0x7f).collect();
        let request = frame(&mut queue, &payload);
        send(&mut queue, request);
        let answer = receive(&mut queue, |frame| frame.get(12..14) == Some(&[0x88, 0xb5]));
        assert_eq!(&answer.data()[14..14 + payload.len()], payload);
        assert_eq!(answer.data().len(), 14 + payload.len());
    }
    // What the driver still holds is bounded by its rings.
    let most = idle + usize::from(port.config().tx_descriptors) * 2;
    assert!(queue.buffers_in_use() <= most, "{} buffers leaked", queue.buffers_in_use() - idle);
}

#[test]
fn virtio_user_and_vhost_pass_frames_and_wake_each_other() {
    isolated("virtio_user_and_vhost_pass_frames_and_wake_each_other", || {
        let path = socket_path("vhost");
        let server = path.clone();
        let peer = fork(move || {
            let (_eal, port) = open(PortConfig::vhost(&server));
            echo(&port, true);
        });
        wait_for_file(&path);
        let (_eal, port) = open(PortConfig::virtio_user(&path));
        ask(&port);
        let mut queue = port.queue(0).expect("queue 0");
        for _ in 0..5 {
            let late = frame(&mut queue, b"zzz and fourteen octets, and more, to fill a frame");
            send(&mut queue, late);
            let begun = Instant::now();
            let mut frames = Burst::new();
            assert_eq!(sleep_until_frames(&port, &mut queue, &mut frames), 0);
            assert!(begun.elapsed() > Duration::from_millis(30), "it slept");
            assert!(begun.elapsed() < Duration::from_millis(1000), "it was woken");
        }
        kill(peer);
        let _ = std::fs::remove_file(&path);
    });
}

/// Sends a frame on each queue pair and expects it on the same one of the peer, and back.
fn ask_on_each(port: &Port, queues: u16) {
    assert!(port.wait_for_link(PATIENCE), "the peer is there");
    for index in 0..queues {
        let mut queue = port.queue(index).expect("a queue");
        let request = frame(&mut queue, &[index as u8; 60]);
        send(&mut queue, request);
        let answer = receive(&mut queue, |frame| frame.get(12..14) == Some(&[0x88, 0xb5]));
        assert_eq!(answer.data()[14..74], [index as u8 + 100; 60]);
    }
}

#[test]
fn the_queues_of_a_virtio_link_are_paired() {
    isolated("the_queues_of_a_virtio_link_are_paired", || {
        const QUEUES: u16 = 4;
        let path = socket_path("paired");
        let server = path.clone();
        let peer = fork(move || {
            let (_eal, port) = open(PortConfig::vhost(&server).with_queues(QUEUES));
            assert!(port.wait_for_link(PATIENCE), "the peer comes");
            let mut frames = Burst::new();
            loop {
                for index in 0..QUEUES {
                    port.queue(index).expect("a queue").rx_burst(&mut frames);
                    for mut frame in frames.drain(..) {
                        assert_eq!(frame.data()[14], index as u8);
                        frame.data_mut()[14..].fill(index as u8 + 100);
                        send(&mut port.queue(index).expect("a queue"), frame);
                    }
                }
            }
        });
        wait_for_file(&path);
        let (_eal, port) = open(PortConfig::virtio_user(&path).with_queues(QUEUES));
        ask_on_each(&port, QUEUES);
        kill(peer);
        let _ = std::fs::remove_file(&path);
    });
}

#[test]
fn memif_passes_frames() {
    isolated("memif_passes_frames", || {
        let path = socket_path("memif");
        let server = path.clone();
        let peer = fork(move || {
            let (_eal, port) = open(PortConfig::memif(&server, MemifRole::Server));
            echo(&port, false);
        });
        wait_for_file(&path);
        let (_eal, port) = open(PortConfig::memif(&path, MemifRole::Client));
        assert!(port.rx_interrupt(0).is_none());
        ask(&port);
        kill(peer);
        let _ = std::fs::remove_file(&path);
    });
}

fn open_tap() -> (Eal, Port) {
    let opened = open(PortConfig::tap(Some("wire0")));
    run("ip address add 10.9.0.1/24 dev wire0");
    run("ip link set wire0 up");
    opened
}

#[test]
fn tap_speaks_with_the_kernel_and_its_descriptor_wakes() {
    isolated("tap_speaks_with_the_kernel_and_its_descriptor_wakes", || {
        let (_eal, port) = open_tap();
        assert_eq!(port.driver(), "net_tap");
        let mut queue = port.queue(0).expect("queue 0");
        exchange_with_kernel(&mut queue, [10, 9, 0, 2], b"hello");
        wakes(&port);
        port.close();
    });
}

/// The kernel sends a while after we fell asleep.
fn wakes(port: &Port) {
    let mut queue = port.queue(0).expect("queue 0");
    let mut frames = Burst::new();
    loop {
        // What the kernel says of itself (router solicitations, ...) is not what we wait for.
        frames.clear();
        queue.rx_burst(&mut frames);
        if frames.is_empty() {
            break;
        }
    }
    let begun = Instant::now();
    let sender = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(60));
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.send_to(b"wake", "10.9.0.77:9").expect("sent");
    });
    loop {
        frames.clear();
        assert_eq!(sleep_until_frames(port, &mut queue, &mut frames), 0);
        if frames.iter().any(|frame| is_arp_request(frame.data(), [10, 9, 0, 77])) {
            break;
        }
    }
    assert!(begun.elapsed() > Duration::from_millis(50), "it slept");
    assert!(begun.elapsed() < Duration::from_millis(1000), "it was woken");
    sender.join().expect("the sender");
}

fn veth() {
    run("ip link add wire0 type veth peer name wire1");
    run("ip address add 10.9.0.1/24 dev wire1");
    run("ip link set wire0 up");
    run("ip link set wire1 up");
    run("sysctl -q -w net.ipv6.conf.all.disable_ipv6=1");
}

#[test]
fn af_packet_speaks_with_the_kernel_and_its_descriptor_wakes() {
    isolated("af_packet_speaks_with_the_kernel_and_its_descriptor_wakes", || {
        veth();
        let (_eal, port) = open(PortConfig::af_packet("wire0"));
        let mut queue = port.queue(0).expect("queue 0");
        exchange_with_kernel(&mut queue, [10, 9, 0, 2], b"hello");
        wakes(&port);
        port.close();
    });
}

#[test]
fn af_xdp_speaks_with_the_kernel_and_its_descriptor_wakes() {
    isolated("af_xdp_speaks_with_the_kernel_and_its_descriptor_wakes", || {
        veth();
        let (_eal, port) = open(PortConfig::af_xdp("wire0"));
        let mut queue = port.queue(0).expect("queue 0");
        exchange_with_kernel(&mut queue, [10, 9, 0, 2], b"hello");
        wakes(&port);
        port.close();
    });
}

/// Parent, child, parent, a grandchild without its parent: each drives the same queue.
fn drive_in_turn(port: &Port) {
    let done = format!("/tmp/onwire-test-{}-done", std::process::id());
    let mut queue = port.queue(0).expect("queue 0");
    exchange_with_kernel(&mut queue, [10, 9, 0, 2], b"parent");
    let child = fork(|| {
        let mut queue = port.queue(0).expect("queue 0");
        exchange_with_kernel(&mut queue, [10, 9, 0, 3], b"child");
        wakes(port);
    });
    join(child);
    exchange_with_kernel(&mut queue, [10, 9, 0, 4], b"parent again");
    let child = fork(|| {
        let grandchild = fork(|| {
            std::thread::sleep(Duration::from_millis(20));
            let mut queue = port.queue(0).expect("queue 0");
            exchange_with_kernel(&mut queue, [10, 9, 0, 5], b"grandchild");
            std::fs::write(&done, "").expect("written");
        });
        assert!(grandchild > 0);
    });
    join(child);
    wait_for_file(&done);
    std::fs::remove_file(&done).expect("removed");
    exchange_with_kernel(&mut queue, [10, 9, 0, 6], b"parent at last");
}

#[test]
fn relatives_drive_a_tap_in_turn() {
    isolated("relatives_drive_a_tap_in_turn", || {
        let (_eal, port) = open_tap();
        drive_in_turn(&port);
        port.close();
    });
}

#[test]
fn relatives_drive_af_packet_in_turn() {
    isolated("relatives_drive_af_packet_in_turn", || {
        veth();
        let (_eal, port) = open(PortConfig::af_packet("wire0"));
        drive_in_turn(&port);
        port.close();
    });
}

#[test]
fn relatives_drive_virtio_user_in_turn() {
    isolated("relatives_drive_virtio_user_in_turn", || {
        let path = socket_path("vhost-fork");
        let server = path.clone();
        let peer = fork(move || {
            let (_eal, port) = open(PortConfig::vhost(&server));
            // The peer, too, is driven by a child of the process that opened it.
            assert!(port.wait_for_link(PATIENCE), "the peer comes");
            std::thread::sleep(Duration::from_millis(100));
            join(fork(|| {
                die_with_parent();
                echo(&port, false);
            }));
        });
        wait_for_file(&path);
        let (_eal, port) = open(PortConfig::virtio_user(&path));
        join(fork(|| ask(&port)));
        ask(&port);
        join(fork(|| ask(&port)));
        kill(peer);
        let _ = std::fs::remove_file(&path);
    });
}

#[test]
fn relatives_drive_memif_in_turn() {
    isolated("relatives_drive_memif_in_turn", || {
        let path = socket_path("memif-fork");
        let server = path.clone();
        let peer = fork(move || {
            let (_eal, port) = open(PortConfig::memif(&server, MemifRole::Server));
            echo(&port, false);
        });
        wait_for_file(&path);
        let (_eal, port) = open(PortConfig::memif(&path, MemifRole::Client));
        assert!(port.wait_for_link(PATIENCE));
        join(fork(|| ask(&port)));
        ask(&port);
        kill(peer);
        let _ = std::fs::remove_file(&path);
    });
}

#[test]
fn null_and_ring_and_the_buffers_window() {
    isolated("null_and_ring_and_the_buffers_window", || {
        let null = PortConfig::vdev("net_null0,size=100");
        let ring = PortConfig { mbufs: 1023, reserve: 23, ..PortConfig::vdev("net_ring0") };
        assert_eq!(null.kind, DeviceKind::Other);
        let eal = Eal::start(EalOptions::for_ports(&[&null, &ring])).expect("starts");
        let null = Port::open(&eal, null).expect("opens");
        let ring = Port::open(&eal, ring).expect("opens");
        null.start().expect("starts");
        ring.start().expect("starts");

        let mut source = null.queue(0).expect("queue 0");
        let mut frames = Burst::new();
        source.rx_burst(&mut frames);
        assert_eq!(frames.len(), frames.capacity());
        assert!(frames.iter().all(|frame| frame.data().len() == 100));
        source.rx_burst(&mut frames);
        assert_eq!(source.counters().rx_frames, 32, "a full burst takes no more");
        source.tx_burst(&mut frames);
        assert!(frames.is_empty());
        assert_eq!(null.stats().tx_frames, 32);

        let mut loopback = ring.queue(0).expect("queue 0");
        window(&mut loopback);
        let kept = {
            let frame = frame(&mut loopback, b"kept while it is on its way");
            let kept = frame.share();
            assert!(kept.is_shared());
            send(&mut loopback, frame);
            kept
        };
        let arrived = receive(&mut loopback, |_| true);
        assert_eq!(arrived.data(), kept.data());
        drop(arrived);
        assert!(!kept.is_shared());
        drop(kept);
        assert_eq!(loopback.buffers_in_use(), 0);

        let held: Vec<_> = std::iter::from_fn(|| loopback.allocate()).collect();
        assert_eq!(held.len(), 1000, "the reserve stays");
        assert_eq!(loopback.available(), 0);
        assert_eq!(loopback.counters().allocations_refused, 1);
        drop(held);
        assert_eq!(loopback.available(), 1000);
        ring.close();
        null.close();
    });
}

/// The window moves as [`Buffer`] says.
fn window(queue: &mut dpdk::Queue) {
    let mut buffer = queue.allocate().expect("a buffer");
    assert_eq!((buffer.headroom(), buffer.data().len()), (HEADROOM, 0));
    assert_eq!(buffer.tailroom(), 2048);
    buffer.append(4).copy_from_slice(b"data");
    buffer.prepend(3).copy_from_slice(b"ip ");
    assert_eq!(buffer.data(), b"ip data");
    assert_eq!(buffer.headroom(), HEADROOM - 3);
    buffer.trim_front(3);
    buffer.truncate(2);
    buffer.truncate(9);
    assert_eq!(buffer.data(), b"da");
    assert_eq!(buffer.rx_checksum(), RxChecksum::Unknown);
    buffer.set_tx_offload(TxOffload {
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        ipv4_checksum: true,
        l4_checksum: L4Checksum::Tcp,
        segment_size: 0,
    });
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        buffer.prepend(HEADROOM + 1);
    }));
    assert!(refused.is_err(), "no more than the headroom");
}

#[test]
fn hugepages_are_used_when_there_and_shared_by_relatives() {
    isolated("hugepages_are_used_when_there_and_shared_by_relatives", || {
        let knob = "/proc/sys/vm/nr_hugepages";
        let before = std::fs::read_to_string(knob).expect("readable");
        std::fs::write(knob, "40").expect("writable");
        let verdict = std::panic::catch_unwind(|| {
            let config = PortConfig { mbufs: 2047, ..PortConfig::tap(Some("wire0")) };
            let options =
                EalOptions { hugepages: Hugepages::Require, ..EalOptions::for_ports(&[&config]) };
            let Ok(eal) = Eal::start(options) else {
                eprintln!("no hugepages to be had on this machine: {}", Eal::log());
                return;
            };
            assert!(eal.memory().hugepages);
            let port = Port::open(&eal, config).expect("opens");
            port.start().expect("starts");
            run("ip address add 10.9.0.1/24 dev wire0");
            run("ip link set wire0 up");
            drive_in_turn(&port);
            port.close();
        });
        std::fs::write(knob, before.trim()).expect("writable");
        assert!(verdict.is_ok());
    });
}

#[test]
fn what_is_computed_to_be_needed_is_enough_for_large_pools() {
    isolated("what_is_computed_to_be_needed_is_enough_for_large_pools", || {
        let config = |name: &str, mbufs, mtu| PortConfig { mbufs, mtu, ..PortConfig::vdev(name) };
        let ports = [config("net_ring0", 40_000, 1500), config("net_ring1", 7000, 9000)];
        let eal = Eal::start(EalOptions::for_ports(&[&ports[0], &ports[1]])).expect("starts");
        for config in ports {
            let mbufs = config.mbufs as usize;
            let port = Port::open(&eal, config).unwrap_or_else(|e| panic!("{e}\n{}", e.log));
            assert_eq!(port.pool(0).expect("a pool").available(), mbufs);
        }
    });
}

/// What of the process a start could disturb.
#[derive(Debug, PartialEq)]
struct Belongings {
    affinity: Vec<u8>,
    mask: u64,
    handlers: Vec<usize>,
    low_descriptors: Vec<(i32, String)>,
    environment: Vec<(String, String)>,
    limits: Vec<(u64, u64)>,
}

fn belongings() -> Belongings {
    // SAFETY: every call fills what it is given.
    unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&set), &mut set);
        let mut mask: libc::sigset_t = core::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, core::ptr::null(), &mut mask);
        let handlers = (1..=libc::SIGRTMAX()).map(|signal| {
            let mut action: libc::sigaction = core::mem::zeroed();
            libc::sigaction(signal, core::ptr::null(), &mut action);
            action.sa_sigaction
        });
        let limits = (0..16).map(|resource| {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::getrlimit(resource, &mut limit);
            (limit.rlim_cur, limit.rlim_max)
        });
        let low = (0..600).filter_map(|fd| {
            let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
            Some((fd, target.display().to_string()))
        });
        Belongings {
            affinity: core::slice::from_raw_parts((&raw const set).cast(), 128).to_vec(),
            mask: (&raw const mask).cast::<u64>().read(),
            handlers: handlers.collect(),
            low_descriptors: low.collect(),
            environment: std::env::vars().collect(),
            limits: limits.collect(),
        }
    }
}

#[test]
fn a_start_disturbs_nothing() {
    isolated("a_start_disturbs_nothing", || {
        let capture = format!("/tmp/onwire-test-{}-output", std::process::id());
        let file = std::fs::File::create(&capture).expect("a file");
        // SAFETY: the process's own descriptors 1 and 2, put back below.
        let (out, err) = unsafe {
            use std::os::fd::AsRawFd;
            let saved = (libc::dup(1), libc::dup(2));
            libc::dup2(file.as_raw_fd(), 1);
            libc::dup2(file.as_raw_fd(), 2);
            saved
        };
        let before = belongings();
        let begun = Instant::now();
        let (eal, port) = open(PortConfig::tap(Some("wire0")));
        let took = begun.elapsed();
        let after = belongings();
        // SAFETY: as above.
        unsafe {
            libc::dup2(out, 1);
            libc::dup2(err, 2);
        }
        let printed = std::fs::read_to_string(&capture).expect("readable");
        std::fs::remove_file(&capture).expect("removed");
        println!("started in {took:?}, {:?}", eal.memory());
        assert_eq!(before, after);
        assert_eq!(printed, "");

        let held = dpdk::descriptors();
        assert!(!held.is_empty());
        for fd in &held {
            assert!(*fd >= 700 && dpdk::owns_descriptor(*fd), "{fd} is in the program's way");
            // SAFETY: reads a flag.
            let flags = unsafe { libc::fcntl(*fd, libc::F_GETFD) };
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC, "{fd} survives exec");
        }
        let tasks = std::fs::read_dir("/proc/self/task").expect("readable");
        for task in tasks.flatten() {
            let status = std::fs::read_to_string(task.path().join("status")).expect("readable");
            let driver = status.contains("eal-") || status.contains("rte_");
            assert!(!driver || status.contains("SigBlk:\tfffffff"), "{status}");
        }
        port.close();
        let second = Eal::start(EalOptions::default()).expect_err("only once");
        assert!(second.to_string().contains("already started"), "{second}");
    });
}

#[test]
fn a_wrong_device_is_named_with_the_reason_and_leaves_nothing() {
    isolated("a_wrong_device_is_named_with_the_reason_and_leaves_nothing", || {
        let wrong = [
            (PortConfig::af_packet("nosuch0"), "af_packet:nosuch0"),
            (PortConfig::virtio_user("/tmp/onwire-no-such.sock"), "/tmp/onwire-no-such.sock"),
            (PortConfig::vdev("net_nosuch0"), "vdev:net_nosuch0"),
            (PortConfig { queues: 9000, ..PortConfig::tap(Some("wire1")) }, "queue pairs"),
            (PortConfig { mtu: 20, ..PortConfig::tap(Some("wire2")) }, "mtu 20"),
            (PortConfig::tap(Some("a-name-that-is-much-too-long")), "tap:a-name-that-is"),
        ];
        let eal = Eal::start(EalOptions { memory_bytes: 64 << 20, ..EalOptions::default() });
        let eal = eal.expect("starts");
        let before = dpdk::descriptors();
        for (config, names) in wrong {
            let error = Port::open(&eal, config).expect_err("refused");
            println!("{error}");
            assert!(error.to_string().contains(names), "{error}\n{}", error.log);
            assert_eq!(error.to_string().lines().count(), 1);
        }
        assert_eq!(dpdk::descriptors(), before);
        let links = std::process::Command::new("ip").args(["-o", "link"]).output().expect("ip");
        assert_eq!(String::from_utf8_lossy(&links.stdout).lines().count(), 1, "only lo is left");
        // And a right one still opens.
        Port::open(&eal, PortConfig::tap(Some("wire3"))).expect("opens").close();
    });
}

#[test]
fn what_is_missing_is_said_before_the_start() {
    let config = PortConfig::pci("0000:ff:1f.7");
    let options = EalOptions::for_ports(&[&config]);
    let problems = dpdk::check(&options, &[&config]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].to_string().starts_with("device pci:0000:ff:1f.7: there is no card"));
    let huge = EalOptions {
        memory_bytes: 1 << 50,
        hugepages: Hugepages::Require,
        ..EalOptions::default()
    };
    let problems = dpdk::check(&huge, &[]);
    assert!(problems.iter().any(|p| p.setting == "hugepages" && p.remedy.contains("sysctl")));
    assert!(dpdk::check(&EalOptions::default(), &[&PortConfig::tap(None)]).is_empty());
}

#[test]
fn checksum_offloads_agree_across_a_virtio_link() {
    isolated("checksum_offloads_agree_across_a_virtio_link", || {
        let path = socket_path("vhost-sums");
        let server = path.clone();
        let peer = fork(move || {
            let (_eal, port) = open(PortConfig::vhost(&server));
            echo(&port, false);
        });
        wait_for_file(&path);
        let (_eal, port) = open(PortConfig::virtio_user(&path));
        println!("{:?} of {:?}", port.offloads(), port.capabilities());
        ask(&port);
        kill(peer);
        let _ = std::fs::remove_file(&path);
    });
}
