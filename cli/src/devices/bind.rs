//! `onwire bind` and `onwire unbind`: hand a card over to DPDK, and give it back.
//!
//! A card that is handed over vanishes from the kernel, and whatever went through it ends. So what
//! would cut the machine off is refused, and what is needed to give it back is kept.

use super::pci::{Bus, Card};
use super::record::{Record, default_route, session_address};
use crate::arguments::{BindArguments, Selection, UnbindArguments};
use crate::failure::Failure;
use crate::output::print;
use crate::system;
use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a kernel driver may take to make its interface.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `onwire bind`.
pub fn bind(arguments: &BindArguments) -> Result<ExitCode, Failure> {
    let bus = Bus::here();
    let card = find(&bus, &arguments.card)?;
    let driver = arguments.driver.as_str();
    if card.driver.as_deref() == Some(driver) {
        print(&format!("{} is bound to {driver} already\n", card.address))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.force {
        refuse_to_cut_off(&card)?;
    }
    check_group(&bus, &card, driver)?;
    load(&bus, driver)?;
    let record = Record::of(&bus, &card);
    // One that was handed over before and then bound elsewhere keeps what the kernel knew.
    if record.interface.is_some() || Record::load(&card.address).is_none() {
        record.save().map_err(|error| {
            Failure::failed(format!("what the kernel knows of it cannot be kept: {error}"))
        })?;
    }
    let given = bus.give(&card, Some(driver)).map_err(|error| explain(&error));
    if given.is_err() || bus.driver_of(&card).as_deref() != Some(driver) {
        // Back to where it was, as far as that goes.
        let _ = bus.give(&card, None);
        restore(&bus, &record);
        given?;
        let text = format!("{}: {driver} did not take it; dmesg says why", card.address);
        return Err(Failure::failed(text));
    }
    let was = card.interfaces.first().map(|name| format!(" (it was {name})")).unwrap_or_default();
    let address = &card.address;
    let inherit = if record.addresses.is_empty() { "--address CIDR" } else { "--inherit" };
    print(&format!(
        "{address} is bound to {driver}{was}\n\
         use it:       onwire run --device pci:{address} {inherit} -- PROGRAM\n\
         give it back: onwire unbind {address}\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `onwire unbind`.
pub fn unbind(arguments: &UnbindArguments) -> Result<ExitCode, Failure> {
    let bus = Bus::here();
    let card = find(&bus, &arguments.card)?;
    if !card.is_ready() {
        let has = card.driver.as_deref().unwrap_or("no driver");
        print(&format!("{} is the kernel's already ({has})\n", card.address))?;
        return Ok(ExitCode::SUCCESS);
    }
    let engines = Selection::default().live_engines();
    let device = format!("pci:{}", card.address);
    if let Some(engine) = engines.iter().find(|engine| engine.info.device == device) {
        let holder = crate::engines::programs(&engine.info);
        return Err(Failure::usage(format!("{device} is in use by {holder}; end it first")));
    }
    bus.give(&card, None).map_err(|error| explain(&error))?;
    let record = Record::load(&card.address).unwrap_or_default();
    let restored = restore(&bus, &record);
    record.remove();
    let Some(driver) = bus.driver_of(&card) else {
        let text = format!("{}: no kernel driver took it; dmesg says why", card.address);
        return Err(Failure::failed(text));
    };
    let interface = restored.map(|name| format!(", as {name}")).unwrap_or_default();
    print(&format!("{} is {driver}'s again{interface}\n", card.address))?;
    Ok(ExitCode::SUCCESS)
}

fn find(bus: &Bus, name: &str) -> Result<Card, Failure> {
    bus.card(name.strip_prefix("pci:").unwrap_or(name)).ok_or_else(|| {
        Failure::usage(format!(
            "{name} is no network card on the PCI bus; use one of `onwire devices`"
        ))
    })
}

fn refuse_to_cut_off(card: &Card) -> Result<(), Failure> {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let session = session_address();
    for interface in &card.interfaces {
        let carries = if default_route(&routes, interface).is_some() {
            "the default route"
        } else if session.is_some_and(|address| is_on(interface, address)) {
            "your login session"
        } else {
            continue;
        };
        return Err(Failure::usage(format!(
            "{interface} carries {carries}, which would end; --force hands it over all the same"
        )));
    }
    Ok(())
}

fn is_on(interface: &str, address: std::net::IpAddr) -> bool {
    let all = system::interface_addresses();
    all.iter().any(|(name, own)| name == interface && *own == address)
}

fn check_group(bus: &Bus, card: &Card, driver: &str) -> Result<(), Failure> {
    if driver != "vfio-pci" {
        return Ok(());
    }
    if card.iommu_group.is_none() && !bus.allows_no_iommu() {
        return Err(Failure::usage(format!(
            "{} has no IOMMU group, so vfio-pci cannot have it; boot with intel_iommu=on or \
             amd_iommu=on, or use --driver uio_pci_generic",
            card.address
        )));
    }
    let mates = bus.group_mates(card);
    if mates.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> =
        mates.iter().map(|(address, driver)| format!("{address} ({driver})")).collect();
    Err(Failure::usage(format!(
        "{} shares its IOMMU group with {}; a group is handed over whole: bind these too, or \
         detach them",
        card.address,
        shown.join(", ")
    )))
}

fn load(bus: &Bus, driver: &str) -> Result<(), Failure> {
    if bus.has_driver(driver) {
        return Ok(());
    }
    let loaded = Command::new("modprobe").arg(driver).stderr(Stdio::null()).status();
    if loaded.is_ok_and(|status| status.success()) && bus.has_driver(driver) {
        return Ok(());
    }
    Err(Failure::usage(format!("driver {driver} is not there; modprobe {driver} must work")))
}

fn explain(error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Failure::usage(format!("{error}; only root may hand cards over"))
        }
        _ => Failure::failed(error),
    }
}

/// Makes the interface what it was, once the kernel has made it again; its name now.
fn restore(bus: &Bus, record: &Record) -> Option<String> {
    record.interface.as_ref()?;
    let end = Instant::now() + PATIENCE;
    let interface = loop {
        let card = bus.card(&record.address)?;
        if let Some(interface) = card.interfaces.into_iter().next() {
            break interface;
        }
        if Instant::now() > end {
            return None;
        }
        thread::sleep(Duration::from_millis(50));
    };
    for command in record.commands(&interface) {
        let done = Command::new("ip").args(&command).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("onwire: this was not done: ip {}", command.join(" "));
        }
    }
    Some(interface)
}
