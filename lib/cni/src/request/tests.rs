use super::*;
use crate::version::SpecVersion;
use serde_json::json;

fn request(config: Value, args: &str) -> Request {
    let variables = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", args),
        ("CNI_PATH", ":/a::/b:"),
    ];
    let env = Env(variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let bytes = config.to_string().into_bytes();
    let log = Log::new("t", Box::new(std::io::sink()));
    let mut version = SpecVersion::NEWEST;
    let mut stdin: &[u8] = &bytes;
    match Incoming::read(Command::Add, env, &mut stdin, (&log, &mut version)).unwrap() {
        Incoming::One(request) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_carries_what_was_given() {
    let request = request(json!({"cniVersion": "0.4.0", "name": "net"}), "K=v");
    assert_eq!(request.key().to_string(), "net/c1:eth0");
    assert_eq!(request.netns.as_deref(), Some("/run/netns/x".as_ref()));
    assert_eq!(request.path, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(request.args.get("K"), Some("v"));
    assert_eq!(request.config.version, SpecVersion::V040);
    assert_eq!(request.command, Command::Add);
}

#[test]
fn a_datum_comes_from_the_strongest_place_that_has_it() {
    let mac = |n: u8| format!("02:00:00:00:00:0{n}");
    let mut config = json!({"name": "net", "mac": mac(1), "args": {"cni": {"mac": mac(3)}},
        "runtimeConfig": {"mac": mac(4)}});
    let args = format!("MAC={}", mac(2));
    let found = |config: &Value, args: &str| {
        let argument = request(config.clone(), args).argument("mac")?;
        Some((argument.origin, argument.value.as_str()?.to_owned()))
    };
    let expected = |origin: &str, n: u8| Some((origin.to_owned(), mac(n)));
    assert_eq!(found(&config, &args), expected("runtimeConfig.mac", 4));
    for absent in [
        json!(null),
        json!({}),
        json!({"mac": null}),
        json!({"mac": ""}),
    ] {
        config["runtimeConfig"] = absent;
        assert_eq!(found(&config, &args), expected("args.cni.mac", 3));
    }
    for absent in [
        json!(null),
        json!({}),
        json!({"cni": {}}),
        json!({"cni": null}),
    ] {
        config["args"] = absent;
        assert_eq!(found(&config, &args), expected("CNI_ARGS MAC", 2));
    }
    assert_eq!(found(&config, "MAC="), expected("mac", 1));
    config["mac"] = json!("");
    assert_eq!(found(&config, ""), None);
}

#[test]
fn a_key_of_the_wrong_type_is_told_with_its_value() {
    let config = request(json!({"name": "net", "vlan": "x", "mtu": null}), "")
        .call
        .config;
    let error = config.get::<u16>("vlan").unwrap_err();
    assert_eq!(error.code, code::CONFIG);
    assert!(error.msg.contains(r#"vlan = "x""#), "{error}");
    assert_eq!(config.get::<u16>("mtu"), Ok(None));
    assert_eq!(config.get::<String>("name"), Ok(Some("net".into())));
}

#[test]
fn a_plugins_own_dns_counts_only_if_it_sets_something() {
    let dns = |dns: Value| {
        request(json!({"name": "n", "dns": dns}), "")
            .call
            .config
            .dns()
    };
    assert_eq!(dns(json!({})), Ok(None));
    assert_eq!(dns(json!({"nameservers": []})), Ok(None));
    assert_eq!(
        dns(json!({"domain": "d"}))
            .unwrap()
            .unwrap()
            .domain
            .as_deref(),
        Some("d")
    );
    assert!(dns(json!({"search": "d"})).is_err());
}

#[test]
fn a_name_too_long_for_its_marks_is_told() {
    let log = Log::new("t", Box::new(std::io::sink()));
    let variables = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
    ];
    let env = Env(variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let bytes = json!({"name": "n".repeat(300)}).to_string().into_bytes();
    let mut stdin: &[u8] = &bytes;
    let mut version = SpecVersion::NEWEST;
    let read = Incoming::read(Command::Del, env, &mut stdin, (&log, &mut version));
    let error = read.unwrap_err();
    assert_eq!(error.code, code::CONFIG);
    assert!(error.msg.contains("shorten the network name"), "{error}");
}

#[test]
fn a_saved_request_makes_its_del_from_any_other_call() {
    let config = json!({"cniVersion": "0.4.0", "name": "net", "ipam": {"type": "pool"}});
    let add = request(config.clone(), "A=b;IgnoreUnknown=1");
    let mut saved = add.saved();
    assert_eq!((&saved.config, saved.path.as_str()), (&config, ":/a::/b:"));
    saved.path = "/old".into();
    let other = request(json!({"cniVersion": "1.1.0", "name": "net"}), "C=d");
    let netns = std::path::Path::new("/run/netns/y");
    let del = other.del_of(add.key(), &saved, Some(netns)).unwrap();
    assert_eq!(del.command, Command::Del);
    assert_eq!(del.key(), add.key());
    assert_eq!(del.netns.as_deref(), Some(netns));
    assert_eq!(del.args, add.args);
    assert_eq!(del.config.version, SpecVersion::V040);
    assert_eq!(*del.stdin, *config.to_string().as_bytes());
    assert_eq!(del.env.get("CNI_COMMAND"), Some("DEL"));
    assert_eq!(del.env.get("CNI_ARGS"), Some("A=b;IgnoreUnknown=1"));
    assert_eq!(del.path, ["/old", "/a", "/b"].map(PathBuf::from));
    assert_eq!(
        del.env.get("CNI_PATH"),
        Some("/old::/a::/b:"),
        "for a delegate's own search"
    );
    let gone = other.del_of(add.key(), &saved, None).unwrap();
    assert_eq!(
        (gone.netns.clone(), gone.env.get("CNI_NETNS")),
        (None, None)
    );
}

#[test]
fn a_saved_request_survives_an_odd_result_and_no_other_oddness() {
    let call = request(json!({"name": "net"}), "");
    let saved = |config| berth_state::record::SavedRequest {
        config,
        ..Default::default()
    };
    let odd = saved(json!({"name": "net", "prevResult": {"ips": 7}}));
    assert!(call.del_of(call.key(), &odd, None).is_ok());
    for config in [
        json!(null),
        json!({}),
        json!({"name": "net", "cniVersion": "9.0.0"}),
    ] {
        let error = call.del_of(call.key(), &saved(config), None).unwrap_err();
        assert_eq!(error.code, code::IO);
        assert!(error.msg.contains("net/c1:eth0"), "{error}");
    }
}
