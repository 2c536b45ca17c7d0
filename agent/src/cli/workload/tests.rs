use clap::Parser;

use super::super::{AgentArgs, Cli, Command};
use super::*;

#[derive(Debug, Parser)]
struct Only {
    #[command(flatten)]
    agent: AgentArgs,
}

#[test]
fn the_agent_takes_a_configuration() {
    let config = |line: &str| Only::try_parse_from(line.split(' ')).unwrap().agent.config;
    assert_eq!(config("agent"), None);
    assert_eq!(config("agent --config /a.toml"), Some("/a.toml".into()));
}

fn resize(line: &str) -> Result<ResizeArgs, String> {
    let line = format!("berth resize game-17 {line}");
    match Cli::try_parse_from(line.split_whitespace()) {
        Ok(Cli {
            command: Command::Resize(args),
        }) => Ok(args),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn resize_reads_its_wishes() {
    let args = resize("--cores 6 --memory 12G --disk /a=b=1G --io-share /a=0.25 --disk /c=5");
    let args = args.unwrap();
    assert_eq!((args.cores, args.memory), (Some(6), Some(12 << 30)));
    assert_eq!(args.disk, [("/a=b".into(), 1 << 30), ("/c".into(), 5)]);
    assert_eq!(args.io_share, [("/a".into(), 0.25)]);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (line, why) in [
        ("", "required"),
        ("--dry-run", "required"),
        ("--cores 1 --cpus 2", "cannot be used with"),
        ("--memory 8Gb", "\"Gb\" is no unit"),
        ("--disk /a", "write /data/game-17=80G"),
        ("--disk a=1G", "the path in full"),
        ("--io-share /a=0", "above 0, at most 1"),
        ("--io-share /a=1.5", "above 0, at most 1"),
        ("--io-share /a=NaN", "above 0, at most 1"),
    ] {
        let error = resize(line).unwrap_err();
        assert!(error.contains(why), "{line}: {error}");
    }
    for line in ["release", "apply", "get Game", "delete"] {
        let line = format!("berth {line}");
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}
