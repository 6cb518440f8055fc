//! One process per case: DPDK starts once per process. Each case runs in a network namespace of
//! its own, as root.

use dpdk::{Eal, EalOptions, Mbuf, Port, PortConfig, Queue};
use stack::device::{Burst, Device};
use stack::packet::{Allocator, Buffer};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

const CASE: &str = "ONWIRE_DPDK_CASE";

/// How long anything may take before a case has failed.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `body` in a fresh process that was started for the test called `name`.
pub fn isolated(name: &str, body: fn()) {
    if std::env::var(CASE).as_deref() == Ok(name) {
        body();
        return;
    }
    let own = std::env::current_exe().expect("the test's own path");
    let mut command = Command::new(own);
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(CASE, name);
    // SAFETY: one system call between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::unshare(libc::CLONE_NEWNET) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let output = command.output().expect("the case starts (these tests run as root)");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{text}\n{errors}", output.status);
}

/// Runs a program that must succeed.
pub fn run(line: &str) {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    let status = Command::new(program).args(words).status().expect(program);
    assert!(status.success(), "{line}: {status}");
}

/// Starts DPDK and one port of it.
pub fn open(config: PortConfig) -> (Eal, Port) {
    let eal = Eal::start(EalOptions::for_ports(&[&config])).unwrap_or_else(|e| panic!("{e:?}"));
    let port = Port::open(&eal, config).unwrap_or_else(|e| panic!("{e}\n{}", e.log));
    port.start().unwrap_or_else(|e| panic!("{e}\n{}", e.log));
    (eal, port)
}

/// Forks; the child runs `body` and ends with its verdict.
pub fn fork(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child is a copy of this thread alone, and leaves by _exit.
    unsafe {
        match libc::fork() {
            0 => {
                let verdict = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
                libc::_exit(i32::from(verdict.is_err()));
            }
            pid if pid > 0 => pid,
            _ => panic!("fork: {}", std::io::Error::last_os_error()),
        }
    }
}

/// The process is killed when the one that forked it is gone.
pub fn die_with_parent() {
    // SAFETY: sets an attribute of this process.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Waits for a child and its good verdict.
pub fn join(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: our own child.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    assert_eq!(status, 0, "the child failed");
}

/// Ends a child.
pub fn kill(pid: libc::pid_t) {
    // SAFETY: our own child.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, core::ptr::null_mut(), 0);
    }
}

/// A frame with this payload behind addresses and an EtherType for experiments.
pub fn frame(queue: &mut Queue, payload: &[u8]) -> Mbuf {
    let mut frame = queue.allocate().expect("a buffer");
    frame.append(14).copy_from_slice(&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x88, 0xb5]);
    frame.append(payload.len()).copy_from_slice(payload);
    frame
}

/// Sends one frame; it must be taken within the time allowed.
pub fn send(queue: &mut Queue, frame: Mbuf) {
    let mut frames = Burst::new();
    frames.push(frame);
    let begun = Instant::now();
    while !frames.is_empty() {
        queue.tx_burst(&mut frames);
        assert!(begun.elapsed() < PATIENCE, "the frame is not taken");
    }
}

/// Polls until a frame satisfies `wanted`; others are dropped.
pub fn receive(queue: &mut Queue, wanted: impl Fn(&[u8]) -> bool) -> Mbuf {
    let begun = Instant::now();
    loop {
        let mut frames = Burst::new();
        queue.rx_burst(&mut frames);
        if let Some(found) = frames.into_iter().find(|frame| wanted(frame.data())) {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "no such frame");
    }
}

/// Sleeps on the port's descriptor as a program would: arm, look again, wait. Returns how many
/// times the wait ran out.
pub fn sleep_until_frames(port: &Port, queue: &mut Queue, frames: &mut Burst<Mbuf>) -> u32 {
    let interrupt = port.rx_interrupt(0).expect("an rx interrupt");
    let mut expired = 0;
    loop {
        assert!(interrupt.arm(), "the interrupt can be armed");
        queue.rx_burst(frames);
        if !frames.is_empty() {
            interrupt.disarm();
            return expired;
        }
        let mut poll = libc::pollfd { fd: interrupt.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry.
        let ready = unsafe { libc::poll(&mut poll, 1, 3000) };
        interrupt.disarm();
        if ready == 0 {
            expired += 1;
            assert!(expired < 3, "nothing wakes the sleeper");
        }
    }
}

/// Whether it is an ARP request for this address.
pub fn is_arp_request(frame: &[u8], target: [u8; 4]) -> bool {
    frame.len() >= 42
        && frame[12..14] == [0x08, 0x06]
        && frame[20..22] == [0, 1]
        && frame[38..42] == target
}

/// Turns an ARP request into the answer that its target is at `mac`.
pub fn answer_arp(frame: &mut [u8], mac: [u8; 6]) {
    let asker: Vec<u8> = frame[22..32].to_vec();
    let target: Vec<u8> = frame[38..42].to_vec();
    frame[0..6].copy_from_slice(&asker[..6]);
    frame[6..12].copy_from_slice(&mac);
    frame[21] = 2;
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&target);
    frame[32..42].copy_from_slice(&asker);
}

/// Makes the kernel resolve and send to `address`; the port must see the ARP request, its answer
/// must reach the kernel, and the datagram must come out.
pub fn exchange_with_kernel(queue: &mut Queue, address: [u8; 4], text: &[u8]) {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.send_to(text, (std::net::Ipv4Addr::from(address), 9)).expect("sent");
    let mut request = receive(queue, |frame| is_arp_request(frame, address));
    request.truncate(42);
    answer_arp(request.data_mut(), queue.mac().0);
    send(queue, request);
    let datagram = receive(queue, |frame| frame.len() > 42 && frame[30..34] == address);
    assert_eq!(&datagram.data()[42..42 + text.len()], text);
}
