//! The way home, with a veth in place of a VF's interface, between two namespaces of
//! their own.

use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::vf::testing::baseline;

/// Runs `work` where `eth0`, of which `peer0` is at home, is in a container. It was
/// `home0` with the alternative name `mine`.
fn with_guest(work: impl FnOnce(Guest) + Send) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let new = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                NetNs::current().unwrap()
            });
            let ns = new.join().unwrap();
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link add home0 type veth peer name peer0");
            ip("link property add dev home0 altname mine");
            let home = Net::open().unwrap();
            let index = home.link(&name("home0")).unwrap().index;
            home.move_to(index, &ns, Some(&name("eth0"))).unwrap();
            let inside = Net::open_in(&ns).unwrap();
            work(Guest { ns, inside, home });
        });
    });
}

struct Guest {
    ns: NetNs,
    inside: Net,
    home: Net,
}

impl Guest {
    fn is_inside(&self) -> bool {
        self.inside.find_link(&name("eth0")).unwrap().is_some()
    }

    /// What it is at home after it was fetched, by its peer.
    fn fetched(&self) -> Link {
        let wish = Netdev {
            name: name("home0"),
            altnames: ["mine".parse().unwrap()].into(),
            ..baseline().netdev
        };
        let link = self.inside.link(&name("eth0")).unwrap();
        let find = |inside: &Net| inside.find_link(&name("eth0"));
        // A name that is taken is no failure of the way.
        let outcome = fetch(&self.ns, &link, &wish, &name("vf0"), find);
        assert_eq!(outcome, Ok(()));
        assert!(!self.is_inside(), "still inside");
        let links = self.home.links().unwrap();
        let came = links.into_iter().find(|l| l.mac == link.mac);
        came.expect("it is nowhere")
    }
}

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split(' ')).status().unwrap();
    assert!(status.success(), "ip {args}");
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn altnames(link: &Link) -> Vec<String> {
    link.altnames.iter().map(ToString::to_string).collect()
}

#[test]
#[ignore = "kernel: root"]
fn it_comes_under_its_name_and_without_what_the_container_called_it() {
    with_guest(|guest| {
        let index = guest.inside.link(&name("eth0")).unwrap().index;
        guest.inside.set_up(index).unwrap();
        for alt in ["dirt", "home0"] {
            let alt = alt.parse().unwrap();
            guest.inside.add_altname(index, &alt).unwrap();
        }
        let came = guest.fetched();
        assert_eq!(came.name, name("home0"));
        assert_eq!(altnames(&came), ["mine"]);
        assert!(!came.up);
    });
}

#[test]
#[ignore = "kernel: root"]
fn a_name_that_is_taken_does_not_keep_it_out() {
    with_guest(|guest| {
        ip("link set peer0 name home0");
        let came = guest.fetched();
        assert_eq!(came.name, name("eth0"), "moved, and not renamed");
        assert_eq!(altnames(&came), ["mine"]);
    });
    // Nor does it if the name it has in the container is taken as well.
    with_guest(|guest| {
        ip("link set peer0 name home0");
        ip("link property add dev home0 altname eth0");
        let came = guest.fetched();
        assert_eq!(came.name, name("vf0"));
    });
}

#[test]
#[ignore = "kernel: root"]
fn an_alternative_name_that_is_taken_does_not_keep_it_out() {
    with_guest(|guest| {
        ip("link property add dev peer0 altname mine");
        let came = guest.fetched();
        let text = (came.name.to_string(), altnames(&came));
        assert_eq!(text, ("vf0".to_owned(), Vec::new()));
    });
}

#[test]
fn a_spare_name_is_the_vfs_own() {
    let of = |vf: &str| spare_name(vf.parse().unwrap()).to_string();
    assert_eq!(of("0000:01:10.2"), "vf000001102");
    assert_ne!(of("0001:01:10.2"), of("0000:01:10.2"));
}
