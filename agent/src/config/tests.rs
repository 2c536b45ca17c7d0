use super::*;

const EXAMPLE: &str = include_str!("../../../docs/agent.toml");

fn load(text: &str) -> Result<Config, Refusal> {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    fs::create_dir_all(root.etc.join("berth")).unwrap();
    fs::write(Config::path(&root), text).unwrap();
    Config::load(&root)
}

#[test]
fn no_file_and_the_documented_file_are_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    assert_eq!(Config::load(&root), Ok(Config::default()));
    assert_eq!(load(EXAMPLE), Ok(Config::default()));
    assert_eq!(load(""), Ok(Config::default()));
}

/// The commented keys of the example are keys, too: with their `#` away they are read,
/// and with both kinds every key there is is in the file.
#[test]
fn the_documented_file_has_every_key_and_its_examples_are_right() {
    let is_key = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let mut text = String::new();
    for line in EXAMPLE.lines().filter(|line| *line != "leave = []") {
        let line = line
            .strip_prefix('#')
            .filter(|line| is_key(line))
            .unwrap_or(line);
        text.push_str(line);
        text.push('\n');
    }
    let config = load(&text).unwrap();
    assert_eq!(config.reserved_cpus, Some([0, 16].into_iter().collect()));
    assert_eq!(config.labels["module"], "game");
    assert_eq!(config.irq_leave, ["nvme0q", "mlx5_async"]);
    let disk = &config.disks[0];
    assert_eq!(disk.path, Path::new("/data"));
    assert_eq!(
        (disk.read_iops, disk.overcommit_percent),
        (Some(400_000), 100)
    );
    let table: toml::Table = text.parse().unwrap();
    for key in KEYS {
        assert!(table.contains_key(key), "{key} is not documented");
    }
    for key in DISK {
        assert!(
            table["disk"][0].get(key).is_some(),
            "disk.{key} is not documented"
        );
    }
}

#[test]
fn wrong_files_are_refused_by_file_key_value_and_way_out() {
    for (text, object, next) in [
        ("reconcil_sec = 5", "reconcil_sec", "\"reconcile_sec\""),
        ("ttl-sec = 5", "ttl-sec", "\"ttl_sec\""),
        ("reconcile_sec = 0", "reconcile_sec", "from 1 to 3600"),
        ("reconcile_sec = \"10\"", "reconcile_sec", "without quotes"),
        ("reconcile_sec = nan", "reconcile_sec", "whole number"),
        ("ttl_sec = 1.5", "ttl_sec", "whole number"),
        ("require_if_match = 1", "require_if_match", "true or false"),
        ("reserved_cpus = \"3-1\"", "reserved_cpus", "CPU list"),
        ("reserved_cpus = \"\"", "reserved_cpus", "leave the key out"),
        ("audit_sec = 604801", "audit_sec", "0 to 604800"),
        ("log_level = \"loud\"", "log_level", "warn, info or debug"),
        ("log_level = 3", "log_level", ""),
        ("labels = 1", "labels", "[labels]"),
        ("[labels]\na = 1", "labels.a", "in quotes"),
        ("zone = \"a\\nb\"", "zone", "printable"),
        ("[irq]\nleaves = []", "irq.leaves", "\"leave\""),
        ("[irq]\nleave = [\"\"]", "irq.leave[0]", "nvme0q"),
        ("[[disk]]\n", "disk[0].path", "directory"),
        ("[[disk]]\npath = \"data\"", "disk[0].path", "from / on"),
        (
            "[[disk]]\npath = \"/a\"\n[[disk]]\npath = \"/a\"",
            "disk[1].path",
            "one [[disk]]",
        ),
        (
            "[[disk]]\npath = \"/a\"\niocost = true",
            "disk[0].iocost",
            "read_bytes_per_sec",
        ),
        (
            "[[disk]]\npath = \"/a\"\novercommit_percent = 0",
            "disk[0].overcommit_percent",
            "1 to",
        ),
        ("ttl_sec =", "", "correct the line"),
        ("ttl_sec = 1\nttl_sec = 2", "", "correct the line"),
    ] {
        let refused = load(text).unwrap_err();
        assert_eq!(refused.code, Code::Invalid);
        assert!(refused.object.starts_with(object), "{text}: {refused}");
        assert!(
            refused.object.contains("etc/berth/agent.toml"),
            "{text}: {refused}"
        );
        assert!(refused.next.contains(next), "{text}: {refused}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_no_default() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    fs::create_dir_all(Config::path(&root)).unwrap();
    assert!(Config::load(&root).is_err());
}
