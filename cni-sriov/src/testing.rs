//! Trees of plain files for the tests of this crate: two PFs with two VFs each. `lo`,
//! which every namespace has, stands in for the VFs' interfaces.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use berth_kernel::{PciAddr, Root};
use berth_state::Key;
use berth_state::boot::Writer;
use berth_state::claim::{Claim, Claims};
use tempfile::TempDir;

use crate::node::Node;

/// The PFs.
pub(crate) const PFS: [&str; 2] = ["0000:01:00.0", "0000:02:00.0"];

/// The address of a VF of the PF number `pf`.
pub(crate) fn vf(pf: usize, index: usize) -> PciAddr {
    format!("{}10.{index}", &PFS[pf][..8]).parse().unwrap()
}

/// The attachment `net/ID:net1`, or `net/ID:IFNAME`.
pub(crate) fn key(id: &str) -> Key {
    let (container, ifname) = id.split_once(':').unwrap_or((id, "net1"));
    Key::new("net", container, ifname.parse().unwrap()).unwrap()
}

/// The trees; processes are the machine's.
pub(crate) struct Tree {
    _dir: TempDir,
    pub(crate) root: Root,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root {
            proc: "/proc".into(),
            ..Root::under(dir.path())
        };
        fs::create_dir_all(root.sys.join("class/net/lo")).unwrap();
        let tree = Self { _dir: dir, root };
        for number in 0..PFS.len() {
            tree.add_function(number);
        }
        tree
    }

    fn add_function(&self, number: usize) {
        let home = self.device(PFS[number].parse().unwrap());
        fs::create_dir_all(home.join(format!("net/pf{number}"))).unwrap();
        for (file, text) in [
            ("class", "0x020000\n"),
            ("sriov_totalvfs", "7\n"),
            ("sriov_numvfs", "2\n"),
        ] {
            fs::write(home.join(file), text).unwrap();
        }
        for index in 0..2 {
            let address = vf(number, index);
            let function = self.device(address);
            fs::create_dir_all(function.join("net/lo")).unwrap();
            link(&function.join("driver"), "../../../bus/pci/drivers/igbvf");
            link(&function.join("physfn"), &format!("../{}", PFS[number]));
            let path = home.join(format!("virtfn{index}"));
            link(&path, &format!("../{address}"));
        }
    }

    /// The directory of a device.
    pub(crate) fn device(&self, address: PciAddr) -> PathBuf {
        let devices = self.root.sys.join("bus/pci/devices");
        devices.join(address.to_string())
    }

    /// Takes a VF away, as a change of their number does.
    pub(crate) fn unplug(&self, address: PciAddr) {
        fs::remove_dir_all(self.device(address)).unwrap();
    }

    pub(crate) fn node(&self, id: &str) -> Node {
        Node::open(&self.root, &key(id)).unwrap()
    }

    /// Claims a VF for the attachment of `id`, by this process or one that is dead.
    pub(crate) fn claim(&self, vf: PciAddr, id: &str, is_alive: bool) {
        let mut writer = Writer::current(&self.root).unwrap();
        writer.start_time += u64::from(!is_alive);
        let claims = Claims::new(&self.root);
        claims.claim(vf, &key(id), writer).unwrap();
    }

    /// Who has which VF.
    pub(crate) fn owners(&self) -> Vec<(PciAddr, String)> {
        let claims = Claims::new(&self.root).list().unwrap();
        let of = |claim: Claim| claim.owner().map(ToString::to_string).unwrap_or_default();
        let named = claims
            .into_iter()
            .map(|(vf, claim)| (vf, of(claim.unwrap())));
        named.collect()
    }
}

fn link(path: &Path, target: &str) {
    symlink(target, path).unwrap();
}
