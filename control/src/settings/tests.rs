use super::*;

fn load(
    toml: &str,
    variables: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Settings, String> {
    let mut settings = Settings::default();
    let environment = variables.iter().map(|(name, value)| (name.into(), value.into()));
    let mut layer = Layer::new();
    for (name, value) in flags {
        layer.set(name, value, &format!("--{name}"));
    }
    Layer::from_toml(toml, "test.toml")
        .and_then(|file| settings.apply(&file))
        .and_then(|()| settings.apply(&Layer::from_variables(environment)?))
        .and_then(|()| settings.apply(&layer))
        .and_then(|()| settings.validate())
        .map(|()| settings)
        .map_err(|error| error.to_string())
}

#[test]
fn every_default_is_written_as_its_own_setting_reads_it() {
    let defaults = Settings::default();
    for key in Settings::KEYS {
        let mut settings = Settings::default();
        let value = key.value(&defaults);
        (key.set)(&mut settings, &value).unwrap_or_else(|error| panic!("{}: {error}", key.name));
        assert_eq!(settings, defaults, "{}", key.name);
    }
}

#[test]
fn a_fast_open_key_is_written_as_linux_writes_it() {
    let text = "01020304-00000000-00000000-a1a2a3a4,00000000-00000000-00000000-00000001";
    let settings = load("", &[("ONWIRE_TCP_FASTOPEN_KEY", text)], &[]).unwrap();
    let key = settings.tcp.fast_open_key.unwrap();
    assert_eq!((key.primary[..4].to_vec(), key.primary[15]), (vec![4, 3, 2, 1], 0xa1));
    let shown = Settings::KEYS.iter().find(|key| key.name == "tcp.fastopen_key").unwrap();
    assert_eq!(shown.value(&settings), text);
    assert!(load("", &[("ONWIRE_TCP_FASTOPEN_KEY", "12")], &[]).is_err());
}

#[test]
fn names_are_unique_and_so_are_variables() {
    let mut names: Vec<_> = Settings::KEYS.iter().map(Key::variable).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), Settings::KEYS.len());
}

#[test]
fn the_later_source_wins() {
    let toml = "mtu = 1400\nprofile = \"latency\"\n[tcp]\nsyn_retries = 3\n";
    let settings = load(toml, &[("ONWIRE_MTU", "1300")], &[("mtu", "1200")]).unwrap();
    assert_eq!(settings.mtu, Some(1200));
    assert_eq!(settings.profile, Profile::Latency);
    assert_eq!(settings.tcp.syn_retries, 3);
    assert_eq!(load(toml, &[("ONWIRE_MTU", "1300")], &[]).unwrap().mtu, Some(1300));
    assert_eq!(load(toml, &[], &[]).unwrap().mtu, Some(1400));
}

#[test]
fn rules_of_the_later_source_come_first_and_those_of_one_source_keep_their_order() {
    let settings = load(
        "rule = [\"use kernel port=1\", \"use kernel port=2\"]",
        &[("ONWIRE_RULE", "use onwire port=3; use onwire port=4")],
        &[("rule", "use kernel port=5"), ("rule", "use kernel port=6"), ("mtu", "1400")],
    );
    let ports: Vec<u16> = settings
        .unwrap()
        .rules
        .0
        .iter()
        .map(|rule| *rule.ports.as_ref().unwrap().start())
        .collect();
    assert_eq!(ports, [5, 6, 3, 4, 1, 2]);
}

#[test]
fn lists_numbers_and_switches_come_from_toml_as_they_are() {
    let settings = load(
        "device = \"vhost:/tmp/v\"\naddress = [\"10.0.0.2/24\", \"10.0.1.2/24\"]\n\
         gateway = \"10.0.0.1\"\nroute = [\"10.9.0.0/16 via 10.0.0.7\"]\n\
         [tcp]\nrmem = [4096, 100000, 200000]\nsack = false\ntimestamps = 0\nrto_min_us = 5000\n\
         [core]\nsomaxconn = 100\n[capacity]\ntcp_sockets = 1_000\n",
        &[],
        &[],
    )
    .unwrap();
    let config = settings.to_stack_config();
    assert_eq!(config.addresses.len(), 2);
    assert_eq!(config.routes.len(), 2);
    assert_eq!(config.routes[0].destination.to_string(), "0.0.0.0/0");
    assert_eq!(config.tcp.receive_buffer.max, 200_000);
    assert!(!config.tcp.sack && !config.tcp.timestamps);
    assert_eq!(config.tcp.rto_min, Duration::from_millis(5));
    assert_eq!(config.tcp.max_backlog, 100);
    assert_eq!(config.capacity.tcp_sockets, 1_000);
}

#[test]
fn what_the_command_hands_to_the_library_arrives_unchanged() {
    let settings = load(
        "",
        &[
            ("ONWIRE_DEVICE", "memif:/run/m,role=server,id=2"),
            ("ONWIRE_TCP_WMEM", "4096,9999,88888"),
        ],
        &[
            ("address", "10.0.0.2/24"),
            ("rule", "use kernel port=22"),
            ("spin_us", "50"),
            ("mac", "02:00:00:00:00:09"),
            ("route", "10.3.0.0/16 via 10.0.0.3"),
            ("banner", "off"),
        ],
    )
    .unwrap();
    assert_eq!(Settings::from_json(&settings.to_json()).unwrap(), settings);
    let value = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<Settings>(&value).unwrap(), settings);
    assert_eq!(Settings::default().to_json(), "{}");
}

#[test]
fn other_variables_are_left_alone() {
    let quiet = [("ONWIRE_LIBRARY", "/x"), ("ONWIRE_TEST_X", "1"), ("HOME", "/"), ("PATH", "")];
    assert_eq!(load("", &quiet, &[]).unwrap(), Settings::default());
}

#[test]
fn errors_are_one_line_with_setting_value_and_remedy() {
    for (toml, variables, flags, parts) in [
        ("mtu = 99999", &[][..], &[][..], ["mtu", "99999", "576 to 65535"]),
        ("mtu = 1.5", &[], &[], ["mtu", "float", "whole number"]),
        ("mtuu = 1", &[], &[], ["mtuu", "no setting", "did you mean mtu?"]),
        ("[tcp]\nrmen = 1", &[], &[], ["tcp.rmen", "no setting", "tcp.rmem"]),
        ("[tcp]\nrmem = [1, 2]", &[], &[], ["tcp.rmem", "1 2", "three ascending"]),
        ("x = [", &[], &[], ["config", "test.toml", "line 1"]),
        ("", &[("ONWIRE_MTU", "x")], &[], ["mtu", "ONWIRE_MTU", "not a number"]),
        ("", &[("ONWIRE_MTUU", "1")], &[], ["ONWIRE_MTUU", "no setting", "ONWIRE_MTU?"]),
        ("", &[("ONWIRE_ZZZZZZZZZZZ", "1")], &[], ["ZZZ", "no setting", "onwire settings"]),
        ("", &[("ONWIRE_DEVICE", "floppy:0")], &[], ["device", "floppy:0", "use one of tap"]),
        ("", &[], &[("rule", "use x")], ["rule", "use x", "write use kernel|onwire"]),
        ("", &[], &[("rule", "use kernel;use onwire port=9-1")], ["rule", "9-1", "write use"]),
        ("", &[], &[("profile", "fast")], ["profile", "fast", "balanced, latency, throughput"]),
        ("", &[], &[("address", "10.0.0.2")], ["address", "10.0.0.2", "10.0.0.2/24"]),
        ("", &[], &[("address", "10.0.0.0/24")], ["address", "10.0.0.0/24", "network's own"]),
        ("", &[], &[("address", "10.0.0.255/24")], ["address", "10.0.0.255/24", "broadcast"]),
        ("", &[], &[("address", "127.0.0.1/8")], ["address", "127.0.0.1/8", "host on a link"]),
        ("", &[], &[("gateway", "router")], ["gateway", "router", "10.0.0.1"]),
        ("", &[], &[("mac", "01:00:00:00:00:00")], ["mac", "01:00", "unicast"]),
        ("", &[], &[("device", "tap:x")], ["address", "not set", "--address"]),
        ("", &[], &[("verbose", "3")], ["verbose", "3", "0 to 2"]),
        ("", &[], &[("ip.local_port_range", "9 1")], ["local_port_range", "9 1", "32768"]),
    ] {
        let error = load(toml, variables, flags).expect_err(parts[0]);
        assert!(!error.contains('\n'), "{error}");
        for part in parts {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }
}

#[test]
fn settings_must_fit_each_other() {
    let gateway = |gateway| load("", &[], &[("address", "10.0.0.2/24"), ("gateway", gateway)]);
    assert!(gateway("10.0.0.1").is_ok());
    assert!(gateway("10.0.1.1").unwrap_err().contains("none of our addresses"));
    assert!(gateway("10.0.0.2").unwrap_err().contains("our own"));
    let twice = load("", &[], &[("address", "10.0.0.2/24"), ("address", "10.0.0.2/16")]);
    assert!(twice.unwrap_err().contains("twice"));
}

#[test]
fn hosts_may_use_both_addresses_of_a_31_and_the_one_of_a_32() {
    for text in ["10.0.0.0/31", "10.0.0.1/31", "10.0.0.0/32"] {
        assert!(load("", &[], &[("address", text)]).is_ok(), "{text}");
    }
}

#[test]
fn a_pool_that_the_queues_would_empty_is_refused() {
    let pool = |mbufs| load("", &[], &[("memory.mbufs", mbufs), ("memory.rx_descriptors", "512")]);
    assert!(pool("1024").unwrap_err().contains("memory.mbufs"));
    assert!(pool("2048").is_ok());
    let memory = crate::settings::Memory::default();
    assert!(memory.mbufs >= memory.least_mbufs());
    let least = crate::settings::Memory { mbufs: memory.least_mbufs(), ..memory };
    assert!(least.mbufs - least.receive_reserve() >= 2 * 1_024 + 224);
}
