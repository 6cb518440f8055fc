//! What is tried; see `live.rs`.

use engine::{Engine, FileId, Kind, Path, Reason, Wait};
use stack::error::Error;
use stack::readiness::Readiness;
use stack::socket::{Family, ReceiveFlags, SendFlags};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

macro_rules! scenarios {
    ($($name:ident,)*) => {
        /// Every scenario.
        pub const NAMES: &[&str] = &[$(stringify!($name),)*];

        /// Runs one, in this process.
        pub fn run(name: &str) -> ExitCode {
            match name {
                $(stringify!($name) => $name(),)*
                _ => panic!("no scenario {name}"),
            }
            ExitCode::SUCCESS
        }
    };
}

scenarios! {
    starts_and_leaves,
    udp_echo_with_the_kernel,
    tcp_echo_from_the_kernel,
    tcp_echo_to_the_kernel,
    a_forked_child_drives,
}

const OURS: &str = "10.78.0.2";

fn begin() -> &'static Engine {
    let mut settings = engine::Settings::default();
    settings.run_dir = std::env::var_os("ONWIRE_TEST_RUN_DIR").map(Into::into);
    settings.tcp.time_wait = Duration::from_millis(200);
    settings.memory.mbufs =
        std::env::var("MBUFS").ok().and_then(|n| n.parse().ok()).unwrap_or(16_384);
    settings.verbose = std::env::var("VERBOSE").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    engine::start(&settings).unwrap_or_else(|error| panic!("{error}"))
}

fn ours(port: u16) -> SocketAddr {
    SocketAddr::new(OURS.parse().unwrap(), port)
}

fn end() {
    engine::exiting();
}

fn listener(engine: &Engine, port: u16) -> FileId {
    let file = engine.create(Kind::Tcp, Family::V4).unwrap();
    engine
        .with(file, |shard, socket, now| {
            shard.bind(now, socket, ours(port))?;
            shard.listen(now, socket, 16)
        })
        .unwrap();
    engine.file(file).unwrap().set_path(Path::Stack, Reason::Routed);
    file
}

fn receive(engine: &Engine, file: FileId, into: &mut [u8], wait: Wait) -> Result<usize, Error> {
    engine.blocking(file, Readiness::READABLE, wait, |shard, socket, now| {
        let mut parts = [IoSliceMut::new(into)];
        shard.receive(now, socket, &mut parts, ReceiveFlags::default()).map(|got| got.len)
    })
}

fn send_all(engine: &Engine, file: FileId, mut data: &[u8]) {
    while !data.is_empty() {
        let sent = engine
            .blocking(file, Readiness::WRITABLE, Wait::Forever, |shard, socket, now| {
                shard.send(now, socket, &[IoSlice::new(data)], SendFlags::default())
            })
            .unwrap();
        data = &data[sent..];
    }
}

fn starts_and_leaves() {
    let engine = begin();
    assert!(std::path::Path::new("/sys/class/net/onwire0").exists() || true);
    assert!(engine.with_shard(|shard, _| Ok(shard.is_local(OURS.parse().unwrap()))).unwrap());
    assert_eq!(engine.settings().addresses.len(), 1);
    end();
}

fn udp_echo_with_the_kernel() {
    let engine = begin();
    let file = engine.create(Kind::Udp, Family::V4).unwrap();
    engine.with(file, |shard, socket, now| shard.bind(now, socket, ours(7))).unwrap();
    let peer = std::thread::spawn(|| {
        let socket = UdpSocket::bind("10.78.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut times = Vec::new();
        for round in 0..1_000_u32 {
            let begun = Instant::now();
            socket.send_to(&round.to_le_bytes(), ours(7)).unwrap();
            let mut answer = [0; 8];
            let (len, _) = socket.recv_from(&mut answer).expect("an answer");
            assert_eq!(answer[..len], round.to_le_bytes());
            times.push(begun.elapsed());
        }
        times.sort();
        println!("    udp round trip: median {:?}, 99 % {:?}", times[500], times[990]);
    });
    for _ in 0..1_000 {
        let mut data = [0_u8; 64];
        let (len, from) = engine
            .blocking(file, Readiness::READABLE, Wait::Forever, |shard, socket, now| {
                let mut parts = [IoSliceMut::new(&mut data)];
                let got = shard.receive(now, socket, &mut parts, ReceiveFlags::default())?;
                Ok((got.len, got.source))
            })
            .unwrap();
        engine
            .with(file, |shard, socket, now| {
                let parts = [IoSlice::new(&data[..len])];
                let control = Default::default();
                shard.send_to(now, socket, &parts, from, &control, SendFlags::default())
            })
            .unwrap();
    }
    peer.join().unwrap();
    engine.release(file);
    end();
}

fn echo_one(engine: &Engine, connection: FileId) -> usize {
    let mut total = 0;
    let mut data = vec![0_u8; 16_384];
    loop {
        match receive(engine, connection, &mut data, Wait::Forever).unwrap() {
            0 => return total,
            len => {
                send_all(engine, connection, &data[..len]);
                total += len;
            }
        }
    }
}

fn kernel_client(port: u16, rounds: usize, octets: usize) {
    let mut stream = TcpStream::connect(ours(port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_nodelay(true).unwrap();
    let data: Vec<u8> = (0..octets).map(|at| (at * 7) as u8).collect();
    let mut times = Vec::new();
    for _ in 0..rounds {
        let begun = Instant::now();
        stream.write_all(&data).unwrap();
        let mut answer = vec![0; octets];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer == data);
        times.push(begun.elapsed());
    }
    times.sort();
    println!("    tcp {octets} octets: median {:?}", times[rounds / 2]);
}

fn tcp_echo_from_the_kernel() {
    let engine = begin();
    let listening = listener(engine, 80);
    let peer = std::thread::spawn(|| {
        kernel_client(80, 1_000, 64);
        kernel_client(80, 20, 60_000);
    });
    for _ in 0..2 {
        let (connection, _) = engine.accept(listening, Wait::Forever).unwrap();
        echo_one(engine, connection);
        engine.release(connection);
    }
    peer.join().unwrap();
    engine.release(listening);
    end();
}

fn tcp_echo_to_the_kernel() {
    let engine = begin();
    let server = TcpListener::bind("10.78.0.1:81").unwrap();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut data = [0; 4_096];
        loop {
            match stream.read(&mut data).unwrap() {
                0 => return,
                len => stream.write_all(&data[..len]).unwrap(),
            }
        }
    });
    let file = engine.create(Kind::Tcp, Family::V4).unwrap();
    let remote = "10.78.0.1:81".parse().unwrap();
    engine.with(file, |shard, socket, now| shard.connect(now, socket, remote)).unwrap();
    let writable = Readiness::WRITABLE;
    engine
        .blocking(file, writable, Wait::Forever, |shard, socket, _| {
            match shard.take_error(socket) {
                Some(error) => Err(error),
                None if shard.readiness(socket).contains(writable) => Ok(()),
                None => Err(Error::WouldBlock),
            }
        })
        .unwrap();
    send_all(engine, file, b"hello");
    let mut answer = [0; 16];
    let len = receive(engine, file, &mut answer, Wait::Forever).unwrap();
    assert_eq!(&answer[..len], b"hello");
    engine.release(file);
    peer.join().unwrap();
    end();
}

/// Forks as the library does, runs `child` in the child, and returns its pid.
fn fork(child: impl FnOnce()) -> libc::pid_t {
    let token = engine::prepare_fork();
    // SAFETY: the other threads of this process hold no lock that the child uses.
    match unsafe { libc::fork() } {
        0 => {
            engine::fork_child(token);
            child();
            engine::exiting();
            // SAFETY: ends the process without running the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
        pid => {
            engine::fork_parent(token, (pid > 0).then_some(pid));
            assert!(pid > 0);
            pid
        }
    }
}

fn wait_for(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: the status is valid.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    status
}

fn a_forked_child_drives() {
    let engine = begin();
    let listening = listener(engine, 80);
    let peer = std::thread::spawn(|| {
        for _ in 0..5 {
            kernel_client(80, 50, 64);
        }
    });
    for _ in 0..5 {
        let (connection, _) = engine.accept(listening, Wait::Forever).unwrap();
        let pid = fork(|| {
            engine.release(listening);
            assert_eq!(echo_one(engine, connection), 50 * 64);
        });
        engine.release(connection);
        assert_eq!(wait_for(pid), 0);
    }
    peer.join().unwrap();
    engine.release(listening);
    end();
}
