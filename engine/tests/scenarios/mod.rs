//! What is tried; see `live.rs`.

mod changes;

use changes::{groups_are_taken_and_shown, our_ethernet_address_changes_under_connections};
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
            if let Some(arguments) = name.strip_prefix("client ") {
                let numbers: Vec<usize> =
                    arguments.split(' ').map(|number| number.parse().unwrap()).collect();
                for _ in 0..numbers[1] {
                    kernel_client(numbers[0] as u16, numbers[2], numbers[3]);
                }
                return ExitCode::SUCCESS;
            }
            if let Some(arguments) = name.strip_prefix("link ") {
                let mut words = arguments.split(' ');
                let mut word = || words.next().unwrap();
                link_client(word(), word(), word().parse().unwrap());
                return ExitCode::SUCCESS;
            }
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
    many_short_lived_children_leave_no_reference,
    epoll_is_as_linux_has_it,
    an_exposed_epfd_is_readable_for_the_kernel,
    what_a_killed_process_held_is_reset,
    unsent_data_survives_the_exit,
    waiting_costs_nothing,
    a_handler_interrupts_a_sleeper,
    the_death_of_a_driver_is_repaired,
    workers_share_a_listener,
    a_dead_keeper_is_missed_once,
    a_reset_by_the_cards_host_ends_its_connections,
    our_ethernet_address_changes_under_connections,
    groups_are_taken_and_shown,
    a_vhost_link_between_two_programs,
    a_memif_link_between_two_programs,
    the_peer_of_a_vhost_link_goes_and_comes_back,
    the_peer_of_a_memif_link_goes_and_comes_back,
}

const OURS: &str = "10.78.0.2";

fn begin() -> &'static Engine {
    begin_on("tap", None, "balanced")
}

fn begin_on(device: &str, address: Option<&str>, profile: &str) -> &'static Engine {
    let mut settings = engine::Settings {
        device: device.parse().unwrap(),
        profile: profile.parse().unwrap(),
        run_dir: std::env::var_os("ONWIRE_TEST_RUN_DIR").map(Into::into),
        ..engine::Settings::default()
    };
    settings.addresses.extend(address.map(|address| address.parse::<stack::addr::Cidr>().unwrap()));
    settings.tcp.time_wait = Duration::from_millis(200);
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

/// Clients of the kernel in a process of their own, one after another: a forked child of ours must
/// not inherit their sockets.
fn clients(port: u16, count: usize, rounds: usize, octets: usize) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .env("ONWIRE_SCENARIO", format!("client {port} {count} {rounds} {octets}"))
        .spawn()
        .unwrap()
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

/// Connects, waiting until that has ended.
fn connect(engine: &Engine, remote: &str) -> FileId {
    let file = engine.create(Kind::Tcp, Family::V4).unwrap();
    let remote = remote.parse().unwrap();
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
    file
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
    let file = connect(engine, "10.78.0.1:81");
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
    let mut peer = clients(80, 5, 50, 64);
    for _ in 0..5 {
        let (connection, _) = engine.accept(listening, Wait::Forever).unwrap();
        let pid = fork(|| {
            engine.release(listening);
            assert_eq!(echo_one(engine, connection), 50 * 64);
        });
        engine.release(connection);
        assert_eq!(wait_for(pid), 0);
    }
    assert!(peer.wait().unwrap().success());
    engine.release(listening);
    end();
}

/// The keeper's ear.
fn keeper() -> control::Client {
    let run_dir = control::RunDir::at(std::env::var_os("ONWIRE_TEST_RUN_DIR").unwrap());
    control::Client::connect(&run_dir.control_socket(std::process::id())).unwrap()
}

/// A table's size or a counter, as `onwire stats` reads it from the keeper.
fn stat(group: &str, name: &str) -> u64 {
    keeper().stats().unwrap().get(group, name).unwrap_or_else(|| panic!("no {group}.{name}"))
}

/// Waits until `condition`, for at most ten seconds: the machine may be busy.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn many_short_lived_children_leave_no_reference() {
    let engine = begin();
    let listening = listener(engine, 80);
    let mut peer = clients(80, 300, 1, 64);
    for _ in 0..300 {
        let (connection, _) = engine.accept(listening, Wait::Forever).unwrap();
        let pid = fork(|| {
            engine.release(listening);
            echo_one(engine, connection);
        });
        engine.release(connection);
        wait_for(pid);
    }
    assert!(peer.wait().unwrap().success());
    engine.release(listening);
    until("processes remain", || stat("table", "processes") == 1);
    until("connections remain", || stat("table", "tcp_sockets") == 0);
    for table in ["files", "references", "epoll_sets", "sleepers", "tcp_segments"] {
        assert_eq!(stat("table", table), 0, "{table}");
    }
    assert_eq!(stat("engine", "recoveries"), 0);
    end();
}

struct Epoll {
    set: engine::EpollId,
    fd: i32,
}

impl Epoll {
    fn new(engine: &Engine) -> Self {
        // SAFETY: no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        Epoll { set: engine.epoll_create().unwrap(), fd }
    }

    fn ctl(
        &self,
        engine: &Engine,
        op: engine::EpollOp,
        (fd, file): (i32, FileId),
        events: i32,
    ) -> Result<(), engine::EpollError> {
        let (events, data) = (events as u32, fd as u64);
        engine.epoll_ctl(self.set, engine::EpollChange { op, fd, file, events, data })
    }

    /// What is ready, as descriptor and events.
    fn wait(&self, engine: &Engine, patience: Duration) -> Vec<(u64, u32)> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        let wait = if patience.is_zero() { Wait::No } else { Wait::Until(engine.now() + patience) };
        let found = engine.epoll_wait(self.set, self.fd, &mut events, wait, None).unwrap();
        events[..found].iter().map(|event| (event.u64, event.events)).collect()
    }
}

/// A connection with the kernel: our end and the kernel's.
fn connection(engine: &Engine, listening: FileId) -> (FileId, TcpStream) {
    let peer = std::thread::spawn(|| TcpStream::connect(ours(80)).unwrap());
    let (file, _) = engine.accept(listening, Wait::Forever).unwrap();
    (file, peer.join().unwrap())
}

fn epoll_is_as_linux_has_it() {
    use engine::{EpollError, EpollOp};
    const IN: u32 = libc::EPOLLIN as u32;
    const OUT: u32 = libc::EPOLLOUT as u32;
    const SOON: Duration = Duration::from_secs(2);
    const NOW: Duration = Duration::ZERO;
    let engine = begin();
    let listening = listener(engine, 80);
    let (file, mut peer) = connection(engine, listening);
    let set = Epoll::new(engine);
    let key = (7, file);
    assert_eq!(set.ctl(engine, EpollOp::Modify, key, libc::EPOLLIN), Err(EpollError::NotFound));
    assert_eq!(set.ctl(engine, EpollOp::Add, key, libc::EPOLLIN), Ok(()));
    assert_eq!(set.ctl(engine, EpollOp::Add, key, libc::EPOLLIN), Err(EpollError::Exists));
    assert_eq!(set.ctl(engine, EpollOp::Add, (8, file), libc::EPOLLOUT), Ok(()));
    assert_eq!(set.ctl(engine, EpollOp::Delete, (8, file), 0), Ok(()));
    assert_eq!(set.wait(engine, NOW), []);
    let begun = Instant::now();
    assert_eq!(set.wait(engine, Duration::from_millis(30)), []);
    assert!(begun.elapsed() >= Duration::from_millis(30));

    // Level-triggered: reported until it is read.
    peer.write_all(b"one").unwrap();
    assert_eq!(set.wait(engine, SOON), [(7, IN)]);
    assert_eq!(set.wait(engine, NOW), [(7, IN)]);
    let mut data = [0; 64];
    assert_eq!(receive(engine, file, &mut data, Wait::No), Ok(3));
    assert_eq!(set.wait(engine, NOW), []);

    // Edge-triggered: once for each arrival, with all that is ready then.
    let both = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET;
    assert_eq!(set.ctl(engine, EpollOp::Modify, key, both), Ok(()));
    assert_eq!(set.wait(engine, NOW), [(7, OUT)]);
    assert_eq!(set.wait(engine, NOW), []);
    peer.write_all(b"two").unwrap();
    assert_eq!(set.wait(engine, SOON), [(7, IN | OUT)]);
    assert_eq!(set.wait(engine, NOW), []);
    peer.write_all(b"three").unwrap();
    assert_eq!(set.wait(engine, SOON), [(7, IN | OUT)]);
    assert_eq!(receive(engine, file, &mut data, Wait::No), Ok(8));

    // One shot: silent after its report until it is modified.
    let once = libc::EPOLLIN | libc::EPOLLONESHOT;
    assert_eq!(set.ctl(engine, EpollOp::Modify, key, once), Ok(()));
    peer.write_all(b"four").unwrap();
    assert_eq!(set.wait(engine, SOON), [(7, IN)]);
    assert_eq!(set.wait(engine, NOW), []);
    assert_eq!(set.ctl(engine, EpollOp::Modify, key, once), Ok(()));
    assert_eq!(set.wait(engine, NOW), [(7, IN)]);
    assert_eq!(receive(engine, file, &mut data, Wait::No), Ok(4));

    // EPOLLEXCLUSIVE has its own rules; a kernel descriptor is merged; the peer's end is seen.
    let exclusive = libc::EPOLLIN | libc::EPOLLEXCLUSIVE;
    assert_eq!(set.ctl(engine, EpollOp::Modify, key, exclusive), Err(EpollError::Invalid));
    let refused = exclusive | libc::EPOLLONESHOT;
    assert_eq!(set.ctl(engine, EpollOp::Add, (9, file), refused), Err(EpollError::Invalid));
    let mut pipe = [0; 2];
    let mut event = libc::epoll_event { events: IN, u64: 99 };
    // SAFETY: the array has room for both, the event is valid.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        assert_eq!(libc::epoll_ctl(set.fd, libc::EPOLL_CTL_ADD, pipe[0], &mut event), 0);
        engine.epoll_kernel_count(set.set, 1);
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(libc::write(pipe[1], b"x".as_ptr().cast(), 1), 1);
        });
        assert_eq!(set.wait(engine, SOON), [(99, IN)]);
        writer.join().unwrap();
    }
    let hangup = libc::EPOLLIN | libc::EPOLLRDHUP;
    assert_eq!(set.ctl(engine, EpollOp::Modify, key, hangup), Ok(()));
    drop(peer);
    until("no hang-up", || set.wait(engine, NOW).contains(&(7, hangup as u32)));

    // Closing takes the socket out of the set.
    engine.release(file);
    assert_eq!(set.wait(engine, NOW), [(99, IN)]);
    assert_eq!(stat("table", "epoll_entries"), 0);
    engine.epoll_release(set.set);
    assert_eq!(stat("table", "epoll_sets"), 0);
    end();
}

fn an_exposed_epfd_is_readable_for_the_kernel() {
    let engine = begin();
    let listening = listener(engine, 80);
    let (file, mut peer) = connection(engine, listening);
    let set = Epoll::new(engine);
    set.ctl(engine, engine::EpollOp::Add, (7, file), libc::EPOLLIN).unwrap();
    engine.epoll_expose(set.set, set.fd).unwrap();
    engine.epoll_expose(set.set, set.fd).unwrap();
    let poll = |patience: Duration| {
        let mut fds = [libc::pollfd { fd: set.fd, events: libc::POLLIN, revents: 0 }];
        let wait = Wait::Until(engine.now() + patience);
        engine.poll(&mut [], &mut fds, wait, None).unwrap()
    };
    assert_eq!(poll(Duration::from_millis(20)), 0);
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        peer.write_all(b"x").unwrap();
        peer
    });
    let begun = Instant::now();
    assert_eq!(poll(Duration::from_secs(2)), 1);
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(set.wait(engine, Duration::ZERO), [(7, libc::EPOLLIN as u32)]);
    assert_eq!(receive(engine, file, &mut [0; 8], Wait::No), Ok(1));
    assert_eq!(poll(Duration::from_millis(50)), 0);
    drop(writer.join().unwrap());
    engine.epoll_release(set.set);
    end();
}

/// A client of the kernel that says how its connection ended: `R` by reset, `F` by the end.
fn what_a_killed_process_held_is_reset() {
    let engine = begin();
    let listening = listener(engine, 80);
    for gently in [false, true] {
        let peer = std::thread::spawn(|| TcpStream::connect(ours(80)).unwrap());
        until("no connection", || {
            engine.readiness(listening).unwrap().contains(Readiness::READABLE)
        });
        let pid = fork(|| {
            let _ = engine.accept(listening, Wait::Forever).unwrap();
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        let mut peer = peer.join().unwrap();
        until("not accepted", || stat("table", "files") == 2);
        peer.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        // SAFETY: the child is ours.
        unsafe { libc::kill(pid, if gently { libc::SIGTERM } else { libc::SIGKILL }) };
        let begun = Instant::now();
        let outcome = peer.read(&mut [0; 8]).map_err(|error| error.kind());
        let expected = if gently { Ok(0) } else { Err(std::io::ErrorKind::ConnectionReset) };
        assert_eq!(outcome, expected, "gently: {gently}");
        assert!(begun.elapsed() < Duration::from_secs(1));
        wait_for(pid);
    }
    engine.release(listening);
    end();
}

fn unsent_data_survives_the_exit() {
    const OCTETS: usize = 3_000_000;
    let engine = begin();
    let listening = listener(engine, 80);
    let reader = std::thread::spawn(|| {
        let mut stream = TcpStream::connect(ours(80)).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.len()
    });
    until("no connection", || engine.readiness(listening).unwrap().contains(Readiness::READABLE));
    let pid = fork(|| {
        let (file, _) = engine.accept(listening, Wait::Forever).unwrap();
        engine
            .with(file, |shard, socket, now| {
                shard.update_options(now, socket, |options| options.send_buffer = 8 << 20)
            })
            .unwrap();
        send_all(engine, file, &vec![7; OCTETS]);
    });
    wait_for(pid);
    assert_eq!(reader.join().unwrap(), OCTETS);
    engine.release(listening);
    end();
}

/// The time that a process has used, in milliseconds.
fn cpu_ms(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

fn waiting_costs_nothing() {
    let engine = begin();
    let listening = listener(engine, 80);
    let set = Epoll::new(engine);
    set.ctl(engine, engine::EpollOp::Add, (7, listening), libc::EPOLLIN).unwrap();
    let run_dir = control::RunDir::at(std::env::var_os("ONWIRE_TEST_RUN_DIR").unwrap());
    let mut client = control::Client::connect(&run_dir.control_socket(std::process::id())).unwrap();
    let mut keeper_clock = 0;
    let keeper = client.info().unwrap().keeper;
    // SAFETY: the clock is valid.
    assert_eq!(unsafe { libc::clock_getcpuclockid(keeper as i32, &mut keeper_clock) }, 0);
    let own = libc::CLOCK_PROCESS_CPUTIME_ID;
    let before = (cpu_ms(own), cpu_ms(keeper_clock));
    assert_eq!(set.wait(engine, Duration::from_secs(5)), []);
    let used = (cpu_ms(own) - before.0, cpu_ms(keeper_clock) - before.1);
    println!("    waiting for 5 s: program {} ms, keeper {} ms", used.0, used.1);
    assert!(used.0 + used.1 < 50, "{used:?}");
    end();
}

unsafe extern "C" fn on_alarm(_: i32) {
    engine::thread::handler_ran(engine::thread::Restart::No);
}

fn a_handler_interrupts_a_sleeper() {
    let engine = begin();
    let listening = listener(engine, 80);
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: 0, tv_usec: 20_000 },
    };
    // SAFETY: the handler does what a handler may.
    unsafe { libc::signal(libc::SIGALRM, on_alarm as *const () as usize) };
    for round in 0..20 {
        // SAFETY: the timer is valid.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, core::ptr::null_mut()) };
        let begun = Instant::now();
        let outcome = match round % 2 {
            0 => engine.accept(listening, Wait::Forever).map(drop),
            _ => engine.poll(&mut [], &mut [], Wait::Forever, None).map(drop),
        };
        assert_eq!(outcome, Err(Error::Interrupted));
        assert!(begun.elapsed() < Duration::from_millis(500));
    }
    end();
}

fn the_death_of_a_driver_is_repaired() {
    let engine = begin();
    let listening = listener(engine, 80);
    let (file, mut peer) = connection(engine, listening);
    let pid = fork(|| {
        let _ = engine.with(file, |_, _, _| -> Result<(), Error> {
            // SAFETY: ends this process, which holds the lock.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            Ok(())
        });
    });
    wait_for(pid);
    // The next taker notices, and resets what cannot be trusted.
    let mut data = [0; 8];
    let outcome =
        receive(engine, file, &mut data, Wait::Until(engine.now() + Duration::from_secs(2)));
    assert_eq!(outcome, Err(Error::ConnectionReset));
    peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert!(peer.read(&mut data).is_err());
    until("not repaired", || stat("engine", "recoveries") == 1);
    let (file, mut peer) = connection(engine, listening);
    peer.write_all(b"again").unwrap();
    assert_eq!(receive(engine, file, &mut data, Wait::Forever), Ok(5));
    end();
}

fn workers_share_a_listener() {
    let engine = begin();
    let listening = listener(engine, 80);
    let workers: Vec<i32> = (0..3)
        .map(|_| {
            fork(|| {
                loop {
                    let (connection, _) = engine.accept(listening, Wait::Forever).unwrap();
                    echo_one(engine, connection);
                    engine.release(connection);
                }
            })
        })
        .collect();
    let mut peers: Vec<_> = (0..3).map(|_| clients(80, 20, 20, 200)).collect();
    for peer in &mut peers {
        assert!(peer.wait().unwrap().success());
    }
    // A worker that dies while it handles a frame costs all connections: let the last ones pass.
    until("connections remain", || stat("table", "tcp_sockets") == 1);
    std::thread::sleep(Duration::from_millis(300));
    for worker in workers {
        // SAFETY: the child is ours.
        unsafe { libc::kill(worker, libc::SIGKILL) };
        wait_for(worker);
    }
    until("workers remain", || stat("table", "processes") == 1);
    until("sleepers remain", || stat("table", "sleepers") == 0);
    assert_eq!(stat("engine", "recoveries"), 0);
    engine.release(listening);
    end();
}

fn a_dead_keeper_is_missed_once() {
    let engine = begin();
    let listening = listener(engine, 80);
    let run_dir = control::RunDir::at(std::env::var_os("ONWIRE_TEST_RUN_DIR").unwrap());
    let path = run_dir.control_socket(std::process::id());
    let keeper = control::Client::connect(&path).unwrap().info().unwrap().keeper;
    // SAFETY: the keeper is ours.
    unsafe { libc::kill(keeper as i32, libc::SIGKILL) };
    std::thread::sleep(Duration::from_millis(50));
    let (file, mut peer) = connection(engine, listening);
    peer.write_all(b"alone").unwrap();
    assert_eq!(receive(engine, file, &mut [0; 8], Wait::Forever), Ok(5));
    engine.release(file);
    engine.release(listening);
    std::fs::remove_file(path).unwrap();
    end();
}

/// No card that can be emulated says so: its driver's word is made up, all else is real.
fn a_reset_by_the_cards_host_ends_its_connections() {
    let engine = begin();
    let listening = listener(engine, 80);
    let (file, mut peer) = connection(engine, listening);
    let link = || keeper().info().unwrap().link;
    assert_eq!((link().as_str(), stat("port", "resets")), ("up", 0));
    dpdk::pretend_reset(0);
    let result = receive(engine, file, &mut [0; 8], Wait::Forever);
    assert_eq!(result, Err(Error::NetworkDown));
    assert_eq!(peer.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    until("the link to be what it is", || link() == "reset");
    assert_eq!(stat("port", "resets"), 1);
    // Nothing more comes of another.
    dpdk::pretend_reset(0);
    assert_eq!(stat("port", "resets"), 2);
    engine.release(file);
    engine.release(listening);
    end();
}

fn a_vhost_link_between_two_programs() {
    let path = std::env::var("ONWIRE_TEST_RUN_DIR").unwrap() + "/link.vhost";
    link(&format!("vhost:{path}"), &format!("virtio-user:{path}"), &path);
}

fn a_memif_link_between_two_programs() {
    let path = std::env::var("ONWIRE_TEST_RUN_DIR").unwrap() + "/link.memif";
    link(&format!("memif:{path},role=server"), &format!("memif:{path}"), &path);
}

fn the_peer_of_a_vhost_link_goes_and_comes_back() {
    let path = std::env::var("ONWIRE_TEST_RUN_DIR").unwrap() + "/link.vhost";
    peer_comes_back(&format!("vhost:{path}"), &format!("virtio-user:{path}"), &path);
}

fn the_peer_of_a_memif_link_goes_and_comes_back() {
    let path = std::env::var("ONWIRE_TEST_RUN_DIR").unwrap() + "/link.memif";
    peer_comes_back(&format!("memif:{path},role=server"), &format!("memif:{path}"), &path);
}

/// A program on the other end of a link.
fn link_peer(client: &str, profile: &str) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .env("ONWIRE_SCENARIO", format!("link {client} {profile} 20"))
        .spawn()
        .unwrap()
}

/// A peer is killed while two processes poll the link; the first process goes on with the next
/// peer, the other one, to which the driver maps nothing, is left without a link and in one piece.
fn peer_comes_back(server: &str, client: &str, path: &str) {
    let first = {
        let (client, path) = (client.to_owned(), path.to_owned());
        std::thread::spawn(move || {
            until("no socket", || std::path::Path::new(&path).exists());
            link_peer(&client, "latency")
        })
    };
    let engine = begin_on(server, Some("10.9.0.1/24"), "balanced");
    let listening = engine.create(Kind::Tcp, Family::V4).unwrap();
    engine
        .with(listening, |shard, socket, now| {
            shard.bind(now, socket, "10.9.0.1:80".parse().unwrap())?;
            shard.listen(now, socket, 16)
        })
        .unwrap();
    let child = fork(|| {
        loop {
            // Polls and sleeps in turn, and leads at times.
            let wait = Wait::Until(engine.now() + Duration::from_millis(5));
            let _ = engine.poll(&mut [], &mut [], wait, None);
        }
    });
    std::fs::write(link_listens(), []).unwrap();
    let patience = || Wait::Until(engine.now() + Duration::from_secs(20));
    let (connection, _) = engine.accept(listening, patience()).unwrap();
    let mut data = [0; 4_096];
    assert!(receive(engine, connection, &mut data, patience()).unwrap() > 0);
    let mut peer = first.join().unwrap();
    peer.kill().unwrap();
    // Driven all the time in which the driver takes the link apart.
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        let _ = engine.readiness(listening).unwrap();
    }
    peer.wait().unwrap();
    // Nobody will ever acknowledge an end of this one.
    engine
        .with(connection, |shard, socket, now| {
            let reset = stack::options::Linger::Reset;
            shard.update_options(now, socket, |options| options.linger = reset)
        })
        .unwrap();
    engine.release(connection);
    let mut peer = link_peer(client, "balanced");
    for _ in 0..2 {
        let (connection, _) = engine.accept(listening, patience()).unwrap();
        assert_eq!(echo_one(engine, connection) % 32, 0);
        engine.release(connection);
    }
    assert!(peer.wait().unwrap().success());
    // SAFETY: signal 0 asks whether the child, which is ours, is there; then it is ended.
    unsafe {
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, libc::WNOHANG), 0, "the child has died");
        libc::kill(child, libc::SIGTERM);
    }
    wait_for(child);
    engine.release(listening);
    end_in_a_hurry(engine);
}

/// As [`end`], where the keeper cannot finish what it has: it has no link.
fn end_in_a_hurry(engine: &Engine) {
    until("connections remain", || {
        let _ = engine.poll(&mut [], &mut [], Wait::No, None);
        engine.with_shard(|shard, _| Ok(shard.occupancy().tcp.sockets)).unwrap() == 0
    });
    end();
}

/// The file that says that the server of a link listens. Its start waits for the client's, so the
/// client is up before that: a connection then would rightly be refused.
fn link_listens() -> std::path::PathBuf {
    std::path::Path::new(&std::env::var_os("ONWIRE_TEST_RUN_DIR").unwrap()).join("listens")
}

/// A server on one end of a link, whose child serves, and a client in another program.
fn link(server: &str, client: &str, path: &str) {
    let client = format!("link {client} balanced 500");
    let path = path.to_owned();
    let peer = std::thread::spawn(move || {
        until("no socket", || std::path::Path::new(&path).exists());
        std::process::Command::new(std::env::current_exe().unwrap())
            .env("ONWIRE_SCENARIO", client)
            .status()
            .unwrap()
    });
    let engine = begin_on(server, Some("10.9.0.1/24"), "balanced");
    let file = engine.create(Kind::Tcp, Family::V4).unwrap();
    engine
        .with(file, |shard, socket, now| {
            shard.bind(now, socket, "10.9.0.1:80".parse().unwrap())?;
            shard.listen(now, socket, 16)
        })
        .unwrap();
    std::fs::write(link_listens(), []).unwrap();
    for _ in 0..2 {
        let patience = Wait::Until(engine.now() + Duration::from_secs(20));
        let (connection, _) = engine.accept(file, patience).unwrap();
        let pid = fork(|| assert_eq!(echo_one(engine, connection) % 32, 0));
        engine.release(connection);
        assert_eq!(wait_for(pid), 0);
    }
    assert!(peer.join().unwrap().success());
    engine.release(file);
    end();
}

fn link_client(device: &str, profile: &str, rounds: usize) {
    let engine = begin_on(device, Some("10.9.0.2/24"), profile);
    until("nobody listens", || link_listens().exists());
    for octets in [64, 20_000] {
        let file = connect(engine, "10.9.0.1:80");
        engine
            .with(file, |shard, socket, now| {
                shard.update_options(now, socket, |options| options.no_delay = true)
            })
            .unwrap();
        let data = vec![5; octets];
        let mut times = Vec::new();
        for _ in 0..rounds {
            let begun = Instant::now();
            send_all(engine, file, &data);
            let mut got = 0;
            let mut answer = vec![0; octets];
            while got < octets {
                got += receive(engine, file, &mut answer[got..], Wait::Forever).unwrap();
            }
            assert!(answer == data);
            times.push(begun.elapsed());
        }
        times.sort();
        println!("    {device} {octets} octets: median {:?}", times[rounds / 2]);
        engine.release(file);
    }
    end();
}
