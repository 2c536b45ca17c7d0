use super::*;
use crate::error::Kind;
use std::io::Write;

const TEXT: &str = "#\n# Automatically generated file; DO NOT EDIT.\n#\n\
    CONFIG_VETH=m\nCONFIG_BRIDGE=y\n# CONFIG_BRIDGE_VLAN_FILTERING is not set\n\
    CONFIG_HZ=250\nCONFIG_LOCALVERSION=\"-lab\"\n";

struct Tree {
    _dir: tempfile::TempDir,
    root: Root,
    release: Release,
}

fn tree() -> Tree {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    for path in [&root.proc, &root.boot, &root.modules.join("6.1.0-lab")] {
        std::fs::create_dir_all(path).unwrap();
    }
    let release = "6.1.0-lab".parse().unwrap();
    Tree {
        _dir: dir,
        root,
        release,
    }
}

fn pack(text: &str) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

fn check(config: &Kconfig) {
    for (option, setting) in [
        ("VETH", Setting::Module),
        ("BRIDGE", Setting::BuiltIn),
        ("BRIDGE_VLAN_FILTERING", Setting::Off),
        ("NEVER_HEARD_OF", Setting::Off),
        ("HZ", Setting::Value("250".into())),
        ("LOCALVERSION", Setting::Value("-lab".into())),
    ] {
        assert_eq!(config.get(option), setting, "{option}");
    }
}

#[test]
fn every_place_is_looked_at_the_packed_one_first() {
    let Tree {
        _dir,
        root,
        release,
    } = tree();
    let places = [
        (
            root.modules.join("6.1.0-lab/config"),
            TEXT.as_bytes().to_vec(),
        ),
        (root.boot.join("config-6.1.0-lab"), TEXT.as_bytes().to_vec()),
        (root.proc.join("config.gz"), pack(TEXT)),
    ];
    for (path, content) in places {
        std::fs::write(&path, content).unwrap();
        let config = Kconfig::running(&root, &release).unwrap();
        assert_eq!(config.source(), Some(path.as_path()));
        check(&config);
    }
}

#[test]
fn without_a_configuration_nothing_is_claimed() {
    let Tree {
        _dir,
        root,
        release,
    } = tree();
    std::fs::write(root.boot.join("config-6.1.1-other"), TEXT).unwrap();
    let config = Kconfig::running(&root, &release).unwrap();
    assert_eq!(config.source(), None);
    assert_eq!(config.get("VETH"), Setting::Unknown);
}

#[test]
fn a_damaged_file_is_an_error_and_not_an_empty_configuration() {
    let Tree {
        _dir,
        root,
        release,
    } = tree();
    let mut packed = pack(TEXT);
    packed.truncate(packed.len() / 2);
    std::fs::write(root.proc.join("config.gz"), packed).unwrap();
    let error = Kconfig::running(&root, &release).unwrap_err();
    assert_eq!(error.kind(), Kind::Malformed);
    assert!(error.to_string().contains("config.gz"), "{error}");
}
