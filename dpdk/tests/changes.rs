//! What may be changed while a port runs, and what its driver says meanwhile.

#[allow(dead_code, reason = "others use the rest of it")]
mod common;

use common::*;
use dpdk::{Eal, EalOptions, Filter, Port, PortConfig};
use stack::addr::MacAddr;
use stack::device::Device;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The MTU of the kernel's end.
fn kernels_mtu() -> String {
    let output = Command::new("ip").args(["-o", "link", "show", "wire0"]).output().expect("ip");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace().skip_while(|word| *word != "mtu");
    words.nth(1).unwrap_or_default().to_owned()
}

#[test]
fn the_mtu_of_a_running_tap_changes_on_both_ends_of_its_wire() {
    isolated("the_mtu_of_a_running_tap_changes_on_both_ends_of_its_wire", || {
        let (_eal, port) = open(PortConfig::tap(Some("wire0")));
        run("ip address add 10.9.0.1/24 dev wire0");
        run("ip link set wire0 up");
        let mut queue = port.queue(0).expect("queue 0");
        for mtu in [1_400, 1_480, 1_500] {
            port.set_mtu(mtu).expect("a TAP takes it");
            queue.set_mtu(mtu);
            assert_eq!((port.mtu(), queue.mtu()), (mtu, mtu));
            assert_eq!(kernels_mtu(), mtu.to_string());
        }
        exchange_with_kernel(&mut queue, [10, 9, 0, 2], b"hello");
        let refused = port.set_mtu(9_000).expect_err("no buffer is so long").to_string();
        assert!(refused.contains("does not fit its buffers"), "{refused}");
        let refused = port.set_mtu(1_900).expect_err("its driver stops at 1500").to_string();
        assert!(refused.contains("mtu 1900 was refused"), "{refused}");
        assert_eq!((port.mtu(), kernels_mtu()), (1_500, "1500".to_owned()));
        port.close();
    });
}

#[test]
fn where_a_driver_would_stop_the_port_the_mtu_can_only_be_less() {
    isolated("where_a_driver_would_stop_the_port_the_mtu_can_only_be_less", || {
        let null = PortConfig::vdev("net_null0");
        let bond = PortConfig::vdev("net_bonding0,mode=1,slave=net_null0");
        let eal = Eal::start(EalOptions::for_ports(&[&null, &bond])).expect("starts");
        let null = Port::open(&eal, null).expect("opens");
        let bond = Port::open(&eal, bond).unwrap_or_else(|e| panic!("{e}\n{}", e.log));
        bond.start().expect("starts");
        for mtu in [1_400, 576, 1_500] {
            bond.set_mtu(mtu).expect("it may send less than it could");
            assert_eq!(bond.mtu(), mtu);
        }
        let refused = bond.set_mtu(1_600).expect_err("it would be stopped").to_string();
        assert!(refused.contains("start anew with --mtu 1600"), "{refused}");
        assert_eq!(bond.mtu(), 1_500);
        bond.close();
        null.close();
    });
}

#[test]
fn filters_are_the_drivers_or_there_are_none() {
    isolated("filters_are_the_drivers_or_there_are_none", || {
        let group = MacAddr([0x01, 0, 0x5e, 1, 2, 3]);
        let station = MacAddr([2, 0, 0, 0, 0, 1]);
        let tap = PortConfig::tap(Some("wire0"));
        let null = PortConfig::vdev("net_null0");
        let ring = PortConfig::vdev("net_ring0");
        let eal = Eal::start(EalOptions::for_ports(&[&tap, &null, &ring])).expect("starts");
        let [tap, null, ring] = [tap, null, ring].map(|config| {
            let port = Port::open(&eal, config).expect("opens");
            port.start().expect("starts");
            port
        });
        // A TAP's driver takes names; the others have no filter, and not always a word for that.
        assert_eq!(tap.set_multicast(&[group], false), Ok(Filter::Named));
        assert_eq!(tap.set_multicast(&[group], true), Ok(Filter::All));
        assert!(tap.takes_every_group());
        assert_eq!(tap.set_multicast(&[], false), Ok(Filter::Named));
        assert!(!tap.takes_every_group());
        assert_eq!(null.set_multicast(&[group], false), Ok(Filter::All));
        for groups in [&[group][..], &[]] {
            ring.set_multicast(groups, false).expect("a ring receives everything");
        }
        for wrong in [station, MacAddr::BROADCAST] {
            assert!(tap.set_multicast(&[group, wrong], false).is_err(), "no group");
        }

        for port in [&tap, &ring] {
            port.set_promiscuous(true).expect("it has the mode");
            assert!(port.is_promiscuous());
            port.set_promiscuous(false).expect("it has the mode");
            assert!(!port.is_promiscuous());
        }
        null.set_promiscuous(true).expect("it receives everything anyway");
        ring.close();
        null.close();
        tap.close();
    });
}

/// What the kernel says of a link.
fn kernels_link(name: &str) -> String {
    let output = Command::new("ip").args(["-d", "-o", "link", "show", name]).output().expect("ip");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_stacks_end_of_a_tap_gets_another_address_and_the_kernels_keeps_its_own() {
    isolated("the_stacks_end_of_a_tap_gets_another_address_and_the_kernels_keeps_its_own", || {
        let (_eal, port) = open(PortConfig::tap(Some("wire0")));
        run("ip address add 10.9.0.1/24 dev wire0");
        run("ip link set wire0 up");
        let mut queue = port.queue(0).expect("queue 0");
        let mac = MacAddr([2, 0, 0, 0, 0x77, 1]);
        let kernels = kernels_link("wire0");
        assert_eq!(port.set_mac(mac), Ok(Filter::None));
        queue.set_mac(mac);
        assert_eq!((port.mac(), queue.mac(), port.queue(0).expect("again").mac()), (mac, mac, mac));
        assert_eq!(kernels_link("wire0"), kernels);
        exchange_with_kernel(&mut queue, [10, 9, 0, 2], b"hello");
        for nobodys in [MacAddr([0; 6]), MacAddr([1, 0, 0x5e, 0, 0, 1]), MacAddr::BROADCAST] {
            let refused = port.set_mac(nobodys).expect_err("no station's").to_string();
            assert!(refused.contains("no station's address"), "{refused}");
        }
        let text = kernels.split("link/ether ").nth(1).expect("its address");
        let mut octets = text[..17].split(':').map(|one| u8::from_str_radix(one, 16).unwrap());
        let kernels_own = MacAddr(core::array::from_fn(|_| octets.next().unwrap()));
        let refused = port.set_mac(kernels_own).expect_err("it is taken").to_string();
        assert!(refused.contains("the kernel's end's own"), "{refused}");
        assert_eq!(port.mac(), mac);
        port.close();
    });
}

#[test]
fn what_a_packet_socket_takes_more_ends_with_it() {
    isolated("what_a_packet_socket_takes_more_ends_with_it", || {
        run("ip link add wire0 type veth peer name wire1");
        run("ip link set wire0 up");
        run("ip link set wire1 up");
        let says = |promiscuous: u8, groups: u8| {
            let link = kernels_link("wire0");
            let (all, every) =
                (format!("promiscuity {promiscuous} "), format!("allmulti {groups} "));
            let old = !link.contains("allmulti "); // ip(8) before 6.0 does not say it.
            assert!(link.contains(&all) && (old || link.contains(&every)), "{link}");
        };
        let (_eal, port) = open(PortConfig::af_packet("wire0"));
        let group = MacAddr([0x01, 0, 0x5e, 1, 2, 3]);
        let (own, other) = (port.mac(), MacAddr([2, 0, 0, 0, 0x77, 1]));
        says(0, 0);
        assert_eq!(port.set_multicast(&[group], false), Ok(Filter::All));
        assert_eq!(port.set_multicast(&[group], true), Ok(Filter::All));
        assert!(port.takes_every_group());
        says(0, 1);
        assert_eq!(port.set_multicast(&[], false), Ok(Filter::Named));
        says(0, 0);
        // The interface keeps its address, and lets frames for ours through.
        assert_eq!(port.set_mac(other), Ok(Filter::All));
        port.set_promiscuous(false).expect("it stays for the address");
        assert!(port.is_promiscuous());
        says(1, 0);
        assert_eq!(port.set_mac(own), Ok(Filter::Named));
        port.set_promiscuous(false).expect("nobody needs it");
        assert!(!port.is_promiscuous());
        says(0, 0);
        port.set_promiscuous(true).expect("it has the mode");
        assert_eq!(port.set_multicast(&[], true), Ok(Filter::All));
        says(1, 1);
        port.close();
        says(0, 0);
    });
}

static RESETS: AtomicU32 = AtomicU32::new(0);

extern "C" fn on_reset() {
    RESETS.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_reset_by_the_host_is_heard_of() {
    isolated("a_reset_by_the_host_is_heard_of", || {
        let (_eal, port) = open(PortConfig::vdev("net_null0"));
        dpdk::pretend_reset(port.id());
        dpdk::watch_reset(&port, on_reset).expect("listens");
        assert_eq!(RESETS.load(Ordering::Relaxed), 0);
        dpdk::pretend_reset(port.id());
        dpdk::pretend_reset(port.id() + 1);
        assert_eq!(RESETS.load(Ordering::Relaxed), 1);
        port.close();
    });
}
