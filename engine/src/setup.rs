//! The start: from settings to an engine that runs, or one line that says why not.
//!
//! Order: run directory and lease, the driver's environment, the port, the region with the shard,
//! the keeper, the banner. What has been made is undone when a later step fails.

use crate::control_server::ControlServer;
use crate::doorbell::{DOORBELLS, Doorbells};
use crate::engine::Engine;
use crate::handover::{Handover, Ring, rings_of};
use crate::keeper::{self, Keeping};
use crate::lane::Lane;
use crate::link::{self, Link};
use crate::lock::SharedLock;
use crate::process::{Process, Stage};
use crate::replicas::ReplicaSet;
use crate::rx_watch::RxWatch;
use crate::shard::{Nic, Shard};
use crate::shared::{Parts, Shared};
use crate::tap::{self, DefaultTap};
use crate::wait::Spinning;
use crate::world::{REPLICA_SETS, WAITERS, World};
use crate::{clock, doorbell, fds, fork, probe, region, sys, thread};
use control::settings::{Banner, Hugepages, Profile};
use control::{DeviceSpec, LeaseError, LeaseHolder, RunDir, Settings};
use core::fmt;
use dpdk::{Eal, EalOptions, MemifRole, OffloadPolicy, Port, PortConfig};
use stack::addr::Cidr;
use stack::config::{Config, FastOpenKey};
use stack::steering::Share;
use std::fs::File as LeaseFile;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

/// Held during a start, and across a fork, so that neither happens within the other.
pub(crate) static START: SharedLock = SharedLock::new();
static ENGINE: OnceLock<Engine> = OnceLock::new();
static FAILURE: OnceLock<StartError> = OnceLock::new();

/// How long the other end of a link may take to appear.
const PEER_PATIENCE: Duration = Duration::from_secs(60);
/// How long a card's link may take before the program goes on without.
const CABLE_PATIENCE: Duration = Duration::from_secs(5);
/// After how long it is said that we wait for it.
const PEER_NOTICE: Duration = Duration::from_millis(1_000);
/// Descriptions beside those of the stack's sockets: sockets that the kernel carries.
const KERNEL_FILES: usize = 65_536;
/// What the region needs at least, in octets.
const LEAST_REGION: usize = 512 << 20;

/// Why the engine did not start: one line that names the setting and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// The engine, if it has been started (in this process or before the fork).
#[inline]
#[must_use]
pub fn get() -> Option<&'static Engine> {
    ENGINE.get()
}

/// Brings the engine up: device, region, shard, keeper. Idempotent; a second caller waits for the
/// first. A failed start is remembered and returned again.
///
/// # Errors
/// One line that names the setting and the remedy; nothing is left behind.
pub fn start(settings: &Settings) -> Result<&'static Engine, StartError> {
    if let Some(engine) = ENGINE.get() {
        return Ok(engine);
    }
    // Nothing of the program's runs on this thread meanwhile, and the driver's threads are born
    // with every signal blocked.
    let mask = sys::set_signal_mask(sys::ALL_SIGNALS);
    START.lock_quietly(thread::tid());
    let result = match (ENGINE.get(), FAILURE.get()) {
        (Some(engine), _) => Ok(engine),
        (None, Some(failure)) => Err(failure.clone()),
        (None, None) => start_first(settings),
    };
    START.unlock();
    sys::set_signal_mask(mask);
    result
}

fn start_first(settings: &Settings) -> Result<&'static Engine, StartError> {
    let _bypass = thread::bypass();
    thread::begin_start();
    crate::clock::use_counter();
    let result = build(settings);
    thread::end_start();
    match result {
        Ok(engine) => {
            let engine = ENGINE.get_or_init(|| engine);
            link::watch(engine);
            Ok(engine)
        }
        Err(line) => {
            let error = StartError(line.replace(['\n', '\r'], " "));
            Err(FAILURE.get_or_init(|| error).clone())
        }
    }
}

/// What a start has made so far and takes back unless it succeeds.
struct Undo {
    port: Option<&'static Port>,
    socket: Option<PathBuf>,
    paths: Vec<PathBuf>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(port) = self.port.take() {
            // SAFETY: the start has failed: nobody else uses the port, and its memory, which is
            // the region's, is never given back.
            unsafe { core::ptr::read(port) }.close();
        }
        for path in self.socket.iter().chain(&self.paths) {
            // It may not have been made.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn build(settings: &Settings) -> Result<Engine, String> {
    settings.validate().map_err(|error| error.to_string())?;
    let run_dir = RunDir::of(settings);
    run_dir.create().map_err(|error| {
        let path = run_dir.path().display();
        format!("run_dir {path}: {error}; set run_dir to a folder that you may write")
    })?;
    let plan = Plan::make(settings, &run_dir)?;
    let mut undo = Undo { port: None, socket: None, paths: plan.paths() };
    let eal = start_driver(settings, &plan)?;
    map_region(settings)?;
    let port = region::construct(|| Port::open(&eal, plan.config.clone()))
        .map_err(|error| error.to_string())?;
    let port: &'static Port = region::construct(|| &*Box::leak(Box::new(port)));
    undo.port = Some(port);
    port.start().map_err(|error| error.to_string())?;
    plan.configure_host(port.mtu())?;
    wait_for_peer(port)?;
    wait_for_cable(port);

    let pid = std::process::id();
    let control_path = run_dir.control_socket(pid);
    let server = ControlServer::bind(&control_path).map_err(|error| {
        let path = control_path.display();
        format!("run_dir: cannot make {path}: {error}; set run_dir to a folder that you may write")
    })?;
    undo.socket = Some(control_path);

    let mut stack = settings.to_stack_config();
    stack.addresses.clone_from(&plan.addresses);
    stack.mtu = settings.mtu.unwrap_or(port.mtu()).min(port.mtu());
    let shared = build_shared(settings, &stack, port)?;
    let rx = RxWatch::new(port, shared.link);
    let engine = Engine {
        shared,
        settings: region::construct(|| &*Box::leak(Box::new(plan.effective(settings)))),
        spinning: spinning(settings, &rx),
        rx,
    };
    add_first_process(&engine)?;
    let (way, cable) = (engine.rx.way(), engine.rx.look_at_cable());
    let banner = plan.banner(settings, port, way);
    if cable {
        engine.shared.link.carrier.quiet(); // It has been said a moment ago.
    }
    let keeping = Keeping {
        info: plan.info(settings, port, stack.mtu),
        paths: plan.paths(),
        stats_file: settings.stats_file.clone(),
        // The lock is on the open file: it stays when its number changes.
        lease: sys::move_high(plan.lease.into_raw_fd()),
        server,
        program: pid,
        huge_pages: settings.memory.hugepages != Hugepages::Never,
        removal: if engine.rx.is_card() {
            dpdk::watch_removal().map_or(-1, sys::move_high)
        } else {
            -1
        },
    };
    fds::protect_fd(keeping.lease);
    fds::protect_fd(keeping.removal);
    keeper::spawn(&engine, keeping)
        .map_err(|error| format!("keeper: it cannot be started: {error}; free some processes"))?;
    // From here on the keeper undoes things.
    undo.port = None;
    undo.socket = None;
    undo.paths.clear();
    if let Some(line) = banner {
        sys::complain(&line);
    }
    Ok(engine)
}

/// The program's name, for messages.
pub(crate) fn program_name() -> String {
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let comm = comm.trim();
    if comm.is_empty() { "a program".to_owned() } else { comm.to_owned() }
}

/// What is going to be made.
struct Plan {
    config: PortConfig,
    addresses: Vec<Cidr>,
    /// The kernel's end, where it is ours to address: interface and address.
    host: Option<(String, Option<Cidr>)>,
    lease: LeaseFile,
    sockets: Vec<PathBuf>,
}

impl Plan {
    fn make(settings: &Settings, run_dir: &RunDir) -> Result<Plan, String> {
        let program = program_name();
        let mut plan = match &settings.device {
            DeviceSpec::Tap { name: None } => {
                let tap = DefaultTap::acquire(run_dir, &program)?;
                let name = tap.interface();
                let default = settings.addresses.is_empty();
                let addresses =
                    if default { vec![tap.stack_address()] } else { settings.addresses.clone() };
                let host = if default {
                    Some(tap.host_address())
                } else {
                    host_address(settings, &addresses)
                };
                Plan {
                    config: PortConfig::tap(Some(&name)),
                    addresses,
                    host: Some((name, host)),
                    lease: tap.lease.into_file(),
                    sockets: Vec::new(),
                }
            }
            device => {
                let lease = lease_device(settings, run_dir, &program)?;
                let addresses = settings.addresses.clone();
                let host = match device {
                    DeviceSpec::Tap { name: Some(name) } => {
                        if tap::interface_exists(name) {
                            return Err(format!(
                                "device tap:{name}: an interface of this name exists; choose \
                                 another name, or remove it with: ip link delete {name}"
                            ));
                        }
                        Some((name.clone(), host_address(settings, &addresses)))
                    }
                    _ => None,
                };
                if let Some(interface) = device.kernel_interface()
                    && !tap::interface_exists(interface)
                {
                    return Err(format!(
                        "device {device}: there is no interface {interface}; ip link lists them"
                    ));
                }
                Plan {
                    config: port_config(device),
                    addresses,
                    host,
                    lease,
                    sockets: sockets(device),
                }
            }
        };
        let memory = &settings.memory;
        plan.config.setting = settings.device.to_string();
        plan.config.mtu = settings.mtu.unwrap_or(plan.config.mtu);
        let (checksum, segmentation, coalescing) = settings.offloads.wanted();
        plan.config.offloads = OffloadPolicy { checksum, segmentation, coalescing };
        plan.config = plan.config.with_queues(settings.queues);
        plan.config.mbufs = memory.mbufs;
        plan.config.reserve = memory.receive_reserve();
        plan.config.rx_descriptors = memory.rx_descriptors;
        plan.config.tx_descriptors = memory.tx_descriptors;
        plan.config.mac = settings.mac.map(|mac| mac.0);
        Ok(plan)
    }

    /// Files that the device makes and that are to be removed at the end.
    fn paths(&self) -> Vec<PathBuf> {
        self.sockets.clone()
    }

    fn configure_host(&self, mtu: u16) -> Result<(), String> {
        match &self.host {
            Some((name, Some(address))) => tap::configure_interface(name, *address, mtu),
            _ => Ok(()),
        }
    }

    /// The settings with what was chosen for the user filled in.
    fn effective(&self, settings: &Settings) -> Settings {
        Settings { addresses: self.addresses.clone(), ..settings.clone() }
    }

    fn banner(&self, settings: &Settings, port: &Port, way: &str) -> Option<String> {
        // SAFETY: no pointers.
        let terminal = unsafe { libc::isatty(2) } == 1;
        let launched = std::env::var_os(control::settings::SETTINGS_VARIABLE).is_some();
        if settings.banner == Banner::Off || !(terminal || launched) {
            return None;
        }
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let mut line =
            format!("onwire: {} ({}) {}", settings.device, port.driver(), addresses.join(" "));
        match &self.host {
            Some((name, Some(host))) => line += &format!(", kernel side {name} {}", host.address()),
            Some((name, None)) => line += &format!(", kernel side {name}"),
            None => {}
        }
        if let Some(gateway) = settings.gateway {
            line += &format!(", gateway {gateway}");
        }
        if settings.queues > 1 {
            line += &format!(", {} queues", settings.queues);
        }
        let offloads: Vec<&str> = port.offloads().names().collect();
        if !offloads.is_empty() {
            line += &format!(", offloads {}", offloads.join(" "));
        }
        if port.config().kind == dpdk::DeviceKind::Pci && way == "clock" {
            line += ", no receive interrupt: looked at every millisecond";
        }
        Some(line)
    }

    fn info(&self, settings: &Settings, port: &Port, mtu: u16) -> control::message::EngineInfo {
        control::message::EngineInfo {
            id: std::process::id(),
            keeper: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            programs: Vec::new(),
            device: settings.device.to_string(),
            interface: self
                .host
                .as_ref()
                .map(|(name, _)| name.clone())
                .or_else(|| settings.device.kernel_interface().map(ToOwned::to_owned)),
            driver: port.driver().to_owned(),
            mac: port.mac(),
            addresses: self.addresses.clone(),
            gateway: settings.gateway,
            mtu,
            profile: settings.profile.name().to_owned(),
            loopback: settings.loopback.name().to_owned(),
            offloads: port.offloads().names().map(ToOwned::to_owned).collect(),
            wakes_by: String::new(),
            link: String::new(),
            promiscuous: false,
            multicast: Vec::new(),
            allmulticast: false,
            uptime_ms: 0,
        }
    }
}

/// The kernel's address on a TAP whose stack address the user gave: the gateway, or else the first
/// host of the network that is not ours.
fn host_address(settings: &Settings, addresses: &[Cidr]) -> Option<Cidr> {
    let ours = addresses.iter().find(|network| network.address().is_ipv4())?;
    let IpAddr::V4(own) = ours.address() else { return None };
    let gateway = settings.gateway.filter(|gateway| ours.contains(*gateway));
    let prefix = ours.prefix_len();
    if gateway.is_none() && prefix > 30 {
        return None;
    }
    let network = own.to_bits() & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    let first = if network + 1 == own.to_bits() { network + 2 } else { network + 1 };
    let host = gateway.unwrap_or(IpAddr::V4(Ipv4Addr::from_bits(first)));
    Cidr::new(host, prefix)
}

fn lease_device(settings: &Settings, run_dir: &RunDir, program: &str) -> Result<LeaseFile, String> {
    let device = &settings.device;
    let path = run_dir.device_lease(device).ok_or("device: it has no lease")?;
    let holder = LeaseHolder {
        pid: std::process::id(),
        program: program.to_owned(),
        device: device.to_string(),
        addresses: settings.addresses.iter().map(ToString::to_string).collect(),
    };
    match tap::acquire(run_dir, &path, &holder) {
        Ok(lease) => Ok(lease.into_file()),
        Err(error @ LeaseError::Held(_)) => {
            Err(format!("device {device}: {error}; end that program first, or give another device"))
        }
        Err(LeaseError::Io(error)) => Err(format!(
            "device {device}: cannot lease {}: {error}; set run_dir to a folder that you may write",
            path.display()
        )),
    }
}

fn port_config(device: &DeviceSpec) -> PortConfig {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    match device {
        DeviceSpec::Tap { name } => PortConfig::tap(name.as_deref()),
        DeviceSpec::AfPacket { interface } => PortConfig::af_packet(interface),
        DeviceSpec::AfXdp { interface } => PortConfig::af_xdp(interface),
        DeviceSpec::Memif { path, role, id } => {
            let role = match role {
                control::MemifRole::Server => MemifRole::Server,
                control::MemifRole::Client => MemifRole::Client,
            };
            let mut config = PortConfig::memif(&text(path), role);
            if *id != 0 {
                config.devargs += &format!(",id={id}");
            }
            config
        }
        DeviceSpec::Vhost { path } => PortConfig::vhost(&text(path)),
        DeviceSpec::VirtioUser { path } => PortConfig::virtio_user(&text(path)),
        DeviceSpec::Pci { address } => PortConfig::pci(address),
        DeviceSpec::Vdev { arguments } => PortConfig::vdev(arguments),
    }
}

/// The sockets that a device makes.
fn sockets(device: &DeviceSpec) -> Vec<PathBuf> {
    match device {
        DeviceSpec::Vhost { path }
        | DeviceSpec::Memif { path, role: control::MemifRole::Server, .. } => vec![path.clone()],
        _ => Vec::new(),
    }
}

fn start_driver(settings: &Settings, plan: &Plan) -> Result<Eal, String> {
    let mut options = EalOptions::for_ports(&[&plan.config]);
    // Pools want contiguous memory, of which alignment and the heap itself cost some; what is not
    // touched costs nothing.
    options.memory_bytes += options.memory_bytes / 2;
    options.hugepages = match settings.memory.hugepages {
        Hugepages::Auto => dpdk::Hugepages::Auto,
        Hugepages::Never => dpdk::Hugepages::Never,
        Hugepages::Require => dpdk::Hugepages::Require,
    };
    options.verbose = settings.verbose >= 2;
    if let Some(problem) = dpdk::check(&options, &[&plan.config]).first() {
        return Err(problem.to_string());
    }
    Eal::start(options).map_err(|error| error.to_string())
}

fn map_region(settings: &Settings) -> Result<(), String> {
    // Each shard has tables of its own, which are reserved, not touched.
    let wanted = settings.memory.region_octets.saturating_mul(settings.queues.into());
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX >> 1);
    match region::map(wanted, LEAST_REGION.min(wanted)) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "memory.region_octets {wanted}: {}; raise ulimit -v, or lower it together with the \
             capacities",
            std::io::Error::from(error)
        )),
    }
}

fn wait_for_peer(port: &Port) -> Result<(), String> {
    if !port.config().kind.waits_for_peer() || port.wait_for_link(PEER_NOTICE) {
        return Ok(());
    }
    let setting = &port.config().setting;
    sys::complain(&format!("onwire: {setting}: waiting for the other end"));
    if port.wait_for_link(PEER_PATIENCE) {
        return Ok(());
    }
    Err(format!(
        "device {setting}: no other end appeared within {} s; start it",
        PEER_PATIENCE.as_secs()
    ))
}

/// A card's link takes a moment after its start, or has no cable yet: that is no failure.
fn wait_for_cable(port: &Port) {
    if port.config().has_cable() && !port.wait_for_link(CABLE_PATIENCE) {
        let setting = &port.config().setting;
        sys::complain(&format!("onwire: {setting}: no link yet; is the cable in?"));
    }
}

/// Whether others than the one other end may be on the device's link.
fn has_strangers(device: &DeviceSpec) -> bool {
    matches!(
        device,
        DeviceSpec::AfPacket { .. } | DeviceSpec::AfXdp { .. } | DeviceSpec::Pci { .. }
    )
}

fn build_shared(
    settings: &Settings,
    stack: &Config,
    port: &Port,
) -> Result<&'static Shared, String> {
    let seed = clock::seed().map_err(|error| format!("entropy: {error}; getrandom is needed"))?;
    let id = u64::from_le_bytes(clock::seed().unwrap_or(seed)[..8].try_into().unwrap_or([0; 8]));
    let files = settings.capacity.tcp_sockets + settings.capacity.udp_sockets + KERNEL_FILES;
    let too_small = || {
        let octets = region::used();
        format!(
            "memory.region_octets: {octets} octets are not enough; raise it, or lower the capacities"
        )
    };
    let shards = usize::from(settings.queues.max(1));
    let mut queues = Vec::with_capacity(shards);
    for index in 0..shards {
        queues.push(port.queue(index as u16).map_err(|error| error.to_string())?);
    }
    if has_strangers(&settings.device)
        && let Some((address, mac)) = probe::holder(&mut queues, &stack.addresses)
    {
        return Err(format!("address {address}: {mac} on the link already has it; choose another"));
    }
    // SAFETY: all of these are atomics, for which zero is a value.
    let (locks, rings, replicas, words, bells, file_table, passing, spread) = unsafe {
        (
            region::zeroed_slice::<SharedLock>(shards + 1).ok_or_else(too_small)?,
            region::zeroed_slice::<Ring>(rings_of(shards)).ok_or_else(too_small)?,
            region::zeroed_slice::<ReplicaSet>(REPLICA_SETS).ok_or_else(too_small)?,
            region::zeroed_slice(WAITERS).ok_or_else(too_small)?,
            region::zeroed_slice(DOORBELLS).ok_or_else(too_small)?,
            region::zeroed_slice(files).ok_or_else(too_small)?,
            region::zeroed_slice(files).ok_or_else(too_small)?,
            region::zeroed_slice(if shards > 1 { files } else { 0 }).ok_or_else(too_small)?,
        )
    };
    let mut stack = stack.clone();
    if shards > 1 && stack.tcp.fast_open_key.is_none() {
        // A cookie is good in every shard.
        let primary = *seed.first_chunk::<16>().unwrap_or(&[0; 16]);
        stack.tcp.fast_open_key = Some(FastOpenKey { primary, backup: None });
    }
    let mut seeds = Vec::with_capacity(shards);
    for _ in 0..shards {
        seeds.push(clock::seed().map_err(|error| format!("entropy: {error}"))?);
    }
    let locks: &'static [SharedLock] = locks;
    let lock = &locks[0];
    let shared = region::construct(|| {
        let link: &'static Link = Box::leak(Box::new(Link::new(settings.device.to_string())));
        let handover = (shards > 1).then(|| &*Box::leak(Box::new(Handover::new(shards, rings))));
        let mut lanes = Vec::with_capacity(shards);
        for ((index, queue), seed) in queues.into_iter().enumerate().zip(seeds) {
            let own = if shards > 1 { &locks[index + 1] } else { lock };
            stack.share = Share::new(index as u16, shards as u16);
            let nic = Nic::new(queue, own.dirty_flag(), link, handover);
            lanes.push(Lane::new(Shard::new(&stack, nic, seed), own));
        }
        let lanes: &'static [Lane] = Vec::leak(lanes);
        let world = World::new(files);
        let doorbells = Doorbells::new(bells, id);
        let parts = Parts {
            lock,
            link,
            lanes,
            handover,
            replicas,
            world,
            files: file_table,
            passing,
            spread,
            waiters: words,
            doorbells,
            id,
        };
        &*Box::leak(Box::new(Shared::new(parts)))
    });
    locks.iter().for_each(SharedLock::mark_clean);
    Ok(shared)
}

fn spinning(settings: &Settings, rx: &RxWatch) -> Spinning {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    match (settings.spin, settings.profile) {
        (Some(spin), _) => Spinning { most: nanos(spin), adaptive: false },
        // Where waking takes longer it pays to spin longer: by the clock, or by a peer's signal.
        (None, Profile::Balanced) if rx.needs_arming() => {
            Spinning { most: 200_000, adaptive: true }
        }
        (None, Profile::Balanced) => Spinning { most: 50_000, adaptive: true },
        (None, Profile::Latency) => Spinning { most: u64::MAX, adaptive: false },
        (None, Profile::Throughput) => Spinning { most: 0, adaptive: false },
    }
}

fn add_first_process(engine: &Engine) -> Result<(), String> {
    doorbell::Doorbells::open_sender().map_err(|errno| {
        format!("descriptors: {}; raise ulimit -n", std::io::Error::from(errno))
    })?;
    let mut held = engine.shared.enter().map_err(|error| format!("engine: {error}"))?;
    let process = Process::new(std::process::id(), Stage::Running);
    let slot = held.add_process(process).map_err(|error| format!("engine: {error}"))?;
    Engine::set_slot(slot);
    Ok(())
}

/// The sockets by which keeper and first process know each other.
pub(crate) fn first_lifeline() -> sys::Result<i32> {
    let [ours, keepers] = sys::packet_pair()?;
    fork::set_lifeline(sys::move_high(ours));
    Ok(keepers)
}

/// The descriptor of a control server that stays with the keeper.
pub(crate) fn listener_of(server: &ControlServer) -> i32 {
    server.listener_fd().as_raw_fd()
}
