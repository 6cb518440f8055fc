//! What can be known to fail before the program starts: one line that names the setting and the
//! remedy, and nothing is made. The engine checks what only it can.

use crate::devices::pci::Bus;
use crate::failure::Failure;
use crate::system::{self, Capability};
use control::{
    Client, DeviceSpec, Lease, LeaseError, LeaseHolder, MemifRole, RunDir, SettingError, Settings,
};
use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Checks the settings against this machine.
pub fn check(settings: &Settings) -> Result<(), Failure> {
    check_device(&settings.device)?;
    check_owner(settings)?;
    check_addresses(settings)?;
    Ok(())
}

fn bad(device: &DeviceSpec, problem: &str, remedy: &str) -> SettingError {
    SettingError::new("device", &device.to_string(), problem, remedy)
}

fn check_device(device: &DeviceSpec) -> Result<(), SettingError> {
    match device {
        DeviceSpec::Tap { .. } => check_tap(device),
        DeviceSpec::AfPacket { interface } => {
            check_interface(device, interface)?;
            check_capabilities(device, &[Capability::NetRaw, Capability::NetAdmin])
        }
        DeviceSpec::AfXdp { interface } => {
            check_interface(device, interface)?;
            check_capabilities(device, &[Capability::NetRaw, Capability::NetAdmin])
        }
        DeviceSpec::Memif { path, role: MemifRole::Client, .. } => check_directory(device, path),
        DeviceSpec::Memif { path, role: MemifRole::Server, .. } | DeviceSpec::Vhost { path } => {
            check_directory(device, path)?;
            check_free_socket(device, path)
        }
        DeviceSpec::VirtioUser { path } => {
            check_directory(device, path)?;
            check_socket(device, path)
        }
        DeviceSpec::Pci { address } => check_pci(device, address),
        DeviceSpec::Vdev { .. } => Ok(()),
    }
}

fn check_tap(device: &DeviceSpec) -> Result<(), SettingError> {
    match File::options().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let remedy = "run it as root, or allow the user to open it";
            return Err(bad(device, "needs /dev/net/tun, which may not be opened", remedy));
        }
        Err(_) => {
            return Err(bad(
                device,
                "needs /dev/net/tun, which is not there",
                "load it with modprobe tun, or give the container --device /dev/net/tun",
            ));
        }
    }
    check_capabilities(device, &[Capability::NetAdmin])?;
    let DeviceSpec::Tap { name: Some(name) } = device else { return Ok(()) };
    let existing = Path::new("/sys/class/net").join(name);
    if existing.exists() && !existing.join("tun_flags").exists() {
        let remedy = "choose another name, or use af_packet for an existing interface";
        return Err(bad(device, "names an interface that is no TAP", remedy));
    }
    Ok(())
}

fn check_capabilities(device: &DeviceSpec, needed: &[Capability]) -> Result<(), SettingError> {
    let missing: Vec<&str> =
        needed.iter().filter(|one| !one.held()).map(|one| one.name()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" and ");
    let options: Vec<String> =
        missing.iter().map(|name| format!("--cap-add {}", &name["CAP_".len()..])).collect();
    Err(bad(
        device,
        &format!("needs {names}, which this process lacks"),
        &format!("run it as root, or give the container {}", options.join(" ")),
    ))
}

fn check_interface(device: &DeviceSpec, interface: &str) -> Result<(), SettingError> {
    let interfaces = system::interfaces();
    if interfaces.iter().any(|name| name == interface) {
        return Ok(());
    }
    let remedy = format!("use one of {}", interfaces.join(", "));
    Err(bad(device, &format!("names the interface {interface}, which does not exist"), &remedy))
}

fn check_directory(device: &DeviceSpec, socket: &Path) -> Result<(), SettingError> {
    let dir = socket.parent().unwrap_or(Path::new("/"));
    let shown = dir.display();
    if !dir.is_dir() {
        let problem = format!("has its socket in {shown}, which is no directory");
        return Err(bad(device, &problem, &format!("make it with mkdir -p {shown}")));
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    let makes_socket = !matches!(
        device,
        DeviceSpec::VirtioUser { .. } | DeviceSpec::Memif { role: MemifRole::Client, .. }
    );
    if makes_socket && rustix::fs::access(dir, access).is_err() {
        let problem = format!("makes its socket in {shown}, where we may not write");
        return Err(bad(device, &problem, "choose a directory of yours"));
    }
    Ok(())
}

/// The path where a socket will be made: free, or a dead socket that the engine replaces.
fn check_free_socket(device: &DeviceSpec, path: &Path) -> Result<(), SettingError> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(bad(device, "names a file that is no socket", "choose another path"));
    }
    if system::has_unix_listener(path) {
        let remedy = "choose another path, or stop the program that listens there";
        return Err(bad(device, "names a socket that is in use", remedy));
    }
    Ok(())
}

/// The path where a socket must be.
fn check_socket(device: &DeviceSpec, path: &Path) -> Result<(), SettingError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => Ok(()),
        Ok(_) => Err(bad(device, "names a file that is no socket", "choose another path")),
        Err(_) => Err(bad(
            device,
            "names a socket that does not exist",
            &format!(
                "start the other side first, such as onwire run --device vhost:{}",
                path.display()
            ),
        )),
    }
}

fn check_pci(device: &DeviceSpec, address: &str) -> Result<(), SettingError> {
    let bus = Bus::here();
    let Some(card) = bus.card(address) else {
        let present: Vec<String> = bus.cards().into_iter().map(|card| card.address).collect();
        let remedy = match present.as_slice() {
            [] => "there is no PCI network device here; use the default tap".to_owned(),
            some => format!("use one of {}", some.join(", ")),
        };
        return Err(bad(device, "names a PCI device that does not exist", &remedy));
    };
    if card.is_ready() {
        return Ok(());
    }
    let bound = card.driver.map_or("no driver".to_owned(), |driver| format!("the driver {driver}"));
    Err(bad(
        device,
        &format!("is bound to {bound}, through which DPDK cannot drive it"),
        &format!("hand it over with onwire bind {address}"),
    ))
}

/// A device with one owner: it may be taken over only from a keeper that finishes alone.
fn check_owner(settings: &Settings) -> Result<(), SettingError> {
    let run_dir = RunDir::of(settings);
    let Some(lease) = run_dir.device_lease(&settings.device) else { return Ok(()) };
    let holder = match Lease::holder(&lease) {
        Ok(None) | Err(LeaseError::Io(_)) => return Ok(()),
        Ok(Some(holder)) => holder,
        Err(LeaseError::Held(_)) => {
            let problem = "is being taken by a program that is just starting";
            return Err(bad(
                &settings.device,
                problem,
                "wait for it to end, or use another device",
            ));
        }
    };
    match busy(&run_dir, &holder) {
        Some(program) => Err(bad(
            &settings.device,
            &format!("is in use by {program}"),
            "stop that program, or use another device",
        )),
        None => Ok(()),
    }
}

/// Who keeps the holder's engine busy; nobody if only its keeper is left.
fn busy(run_dir: &RunDir, holder: &LeaseHolder) -> Option<String> {
    let client = Client::connect(&run_dir.control_socket(holder.pid)).ok();
    match client.map(|mut client| client.info()) {
        Some(Ok(info)) if info.programs.is_empty() => None,
        Some(Ok(info)) => {
            let program = &info.programs[0];
            Some(format!("{} (pid {})", program.name, program.pid))
        }
        // It holds the lease and does not talk: starting up, or of another version.
        _ => Some(holder.to_string()),
    }
}

fn check_addresses(settings: &Settings) -> Result<(), SettingError> {
    if settings.addresses.is_empty() {
        return Ok(());
    }
    for (interface, address) in system::interface_addresses() {
        if let Some(network) = settings.addresses.iter().find(|one| one.address() == address) {
            return Err(SettingError::new(
                "address",
                &network.to_string(),
                &format!("is in use by the kernel on {interface}"),
                &format!(
                    "choose another, or free it with ip address del {network} dev {interface}"
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn refused(device: &str) -> String {
        let device: DeviceSpec = device.parse().unwrap();
        check_device(&device).unwrap_err().to_string()
    }

    #[test]
    fn missing_things_are_named_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().display();
        let interface = refused("af_packet:nosuch0");
        assert!(interface.contains("nosuch0") && interface.contains("use one of "), "{interface}");
        assert!(refused("vhost:/no/such/dir/x.sock").contains("mkdir -p /no/such/dir"));
        assert!(refused("memif:/no/such/dir/x.sock").contains("mkdir"));
        assert!(refused(&format!("virtio-user:{dir}/x")).contains("start the other side first"));
        assert!(refused("pci:ffff:ff:1f.7").contains("does not exist"));
    }

    #[test]
    fn a_socket_in_use_is_not_taken_and_a_dead_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.sock");
        let device: DeviceSpec = format!("vhost:{}", path.display()).parse().unwrap();
        check_device(&device).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        assert!(check_device(&device).unwrap_err().to_string().contains("in use"));
        drop(listener);
        check_device(&device).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(check_device(&device).unwrap_err().to_string().contains("no socket"));
    }

    #[test]
    fn the_kernels_own_addresses_are_refused() {
        let loopback = std::net::IpAddr::from([127, 0, 0, 1]);
        let address = format!("{loopback}/8").parse().unwrap();
        let settings = Settings { addresses: vec![address], ..Settings::default() };
        let is_up = system::interface_addresses().iter().any(|(_, one)| *one == loopback);
        assert_eq!(check_addresses(&settings).is_err(), is_up);
    }

    #[test]
    fn the_holder_of_a_device_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::at(dir.path());
        let settings = Settings {
            device: "vhost:/tmp/onwire-test-lease.sock".parse().unwrap(),
            run_dir: Some(dir.path().into()),
            ..Settings::default()
        };
        check_owner(&settings).unwrap();
        let holder = LeaseHolder {
            pid: 4_194_305,
            program: "redis-server".into(),
            device: settings.device.to_string(),
            addresses: vec![],
        };
        let path = run_dir.device_lease(&settings.device).unwrap();
        let lease = Lease::acquire(&path, &holder).unwrap();
        let error = check_owner(&settings).unwrap_err().to_string();
        assert!(error.contains("in use by redis-server (pid 4194305)"), "{error}");
        drop(lease);
        check_owner(&settings).unwrap();
    }
}
