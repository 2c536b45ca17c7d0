//! The command line, for a person: a runtime gives the plugin variables and no arguments.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use berth_cni::client::NetworkList;
use berth_cni::code;
use berth_kernel::Root;

use crate::lint::{self, Lint};

/// Where plugins are looked for without `CNI_PATH`, as `berth attach` does.
const PLUGIN_DIRS: &str = "/opt/cni/bin:/usr/lib/cni";

/// Exit status: the command line, or the file it names, cannot be used.
const USAGE: u8 = 2;

const HELP: &str = "\
CNI plugin: a veth on a VLAN bridge, with RPS set

A container runtime runs it with CNI_COMMAND set and the network configuration on
standard input. By hand it explains a configuration:

Usage: cni-bridge-vlan --lint FILE [--node]
       cni-bridge-vlan --help | --version

Options:
      --lint FILE  Say step by step what ADD would do with this configuration, a .conf or
                   .conflist file, and what is wrong with it. Only reads; needs no root
      --node       Look at this node, too: whether its bridge and uplink allow an ADD now.
                   Only reads; needs root
  -h, --help       Print help
  -V, --version    Print version

IPAM plugins are looked for in CNI_PATH [default: /opt/cni/bin, /usr/lib/cni].

Exit status: 0 nothing is wrong, 1 ADD would be refused, 2 wrong usage.

Examples:
  cni-bridge-vlan --lint game.conflist
  cni-bridge-vlan --lint vlan100.conf --node
";

/// What may be typed.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Help,
    Version,
    Lint { file: PathBuf, node: bool },
}

impl Asked {
    fn of(arguments: &[OsString]) -> Result<Self, String> {
        let (mut file, mut node) = (None, false);
        let mut rest = arguments.iter().map(OsString::as_os_str);
        while let Some(word) = rest.next() {
            match word.to_str() {
                Some("-h" | "--help") => return Ok(Self::Help),
                Some("-V" | "--version") => return Ok(Self::Version),
                Some("--node") => node = true,
                Some("--lint") if file.is_none() => {
                    let name: Option<&OsStr> = rest.next();
                    file = Some(name.ok_or("--lint needs the name of a file")?.into());
                }
                Some("--lint") => return Err("--lint takes one file".into()),
                _ => return Err(format!("unexpected argument {}", word.display())),
            }
        }
        match file {
            Some(file) => Ok(Self::Lint { file, node }),
            None => Err("--node goes with --lint FILE".into()),
        }
    }
}

/// The whole `main` where arguments were given; the process's exit status.
pub fn main(root: &Root, arguments: &[OsString]) -> u8 {
    let mut out = io::stdout().lock();
    let status = match Asked::of(arguments) {
        Ok(asked) => run(root, &asked, &mut out),
        Err(wrong) => Err(format!("{wrong}; see cni-bridge-vlan --help")),
    };
    status.unwrap_or_else(|wrong| {
        complain(wrong);
        USAGE
    })
}

/// Nothing is left to tell it to if standard error is closed.
fn complain(wrong: impl Display) {
    writeln!(io::stderr().lock(), "cni-bridge-vlan: {wrong}").ok();
}

fn run(root: &Root, asked: &Asked, out: &mut dyn Write) -> Result<u8, String> {
    let (status, text) = match asked {
        Asked::Help => (0, HELP.to_owned()),
        Asked::Version => (
            0,
            format!("cni-bridge-vlan {}\n", env!("CARGO_PKG_VERSION")),
        ),
        Asked::Lint { file, node } => {
            let lint = explain(root, file, *node)?;
            (u8::from(lint.is_refused()), lint.to_string())
        }
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that went away (`... | head`) is no failure of ours.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}"))
        }
        _ => Ok(status),
    }
}

fn explain(root: &Root, file: &Path, node: bool) -> Result<Lint, String> {
    let list = match NetworkList::load(file) {
        Ok(list) => list,
        Err(error) if error.code == code::IO => return Err(error.to_string()),
        Err(error) => return Ok(Lint::unreadable(error)),
    };
    let cni_path = std::env::var("CNI_PATH").unwrap_or_default();
    let cni_path = match cni_path.as_str() {
        "" => PLUGIN_DIRS,
        given => given,
    };
    let program = std::env::args_os().next().map(PathBuf::from);
    let program = program.as_deref().and_then(Path::file_name);
    let names = [
        Some(env!("CARGO_PKG_NAME")),
        program.and_then(OsStr::to_str),
    ];
    let names: Vec<&str> = names.into_iter().flatten().collect();
    let lint = lint::explain(&list, &names, cni_path, node.then_some(root));
    lint.ok_or_else(|| {
        let kinds: Vec<&str> = list.plugins().map(NetworkList::type_of).collect();
        format!(
            "{}: no plugin of this list is {}, but {}",
            file.display(),
            names.join(" or "),
            kinds.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Result<Asked, String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        Asked::of(&words)
    }

    #[test]
    fn a_file_is_named_once_and_other_words_are_refused() {
        let lint = |node| {
            Ok(Asked::Lint {
                file: "a.conf".into(),
                node,
            })
        };
        assert_eq!(asked(&["--lint", "a.conf"]), lint(false));
        assert_eq!(asked(&["--node", "--lint", "a.conf"]), lint(true));
        assert_eq!(asked(&["--lint", "a.conf", "-h"]), Ok(Asked::Help));
        assert_eq!(asked(&["-V"]), Ok(Asked::Version));
        for wrong in [
            &["--lint"][..],
            &["--lint", "a", "--lint", "b"],
            &["--lint", "a", "b"],
            &["--node"],
            &["a.conf"],
        ] {
            asked(wrong).unwrap_err();
        }
    }
}
