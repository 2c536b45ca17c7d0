//! The order of changes, and every failure taken back, on a card that behaves like
//! real ones: drivers take a MAC only when they are bound, new VFs have none.

use std::cell::RefCell;
use std::collections::BTreeMap;

use berth_state::testing::every_failure;
use berth_state::undo::Faults;
use berth_state::vf::free::{Reason, Verdict};

use super::*;
use crate::bootstrap::make;
use crate::cli::Macs;

const PERMANENT: MacAddr = MacAddr([0x52, 0x54, 0, 0xbe, 0, 1]);

/// A node with one PF, without VFs and down; and everything that was done to it.
struct Fake {
    pf: RefCell<Pf>,
    done: RefCell<Vec<String>>,
    /// VFs of these indexes never get a driver.
    driverless: Vec<u32>,
    /// VFs of these indexes are taken by somebody as soon as they are there.
    taken: Vec<u32>,
    carrier: bool,
}

fn address() -> PciAddr {
    "0000:21:00.0".parse().unwrap()
}

fn fake() -> Fake {
    Fake {
        pf: RefCell::new(Pf {
            address: address(),
            name: "pf0".parse().unwrap(),
            up: false,
            mtu: 1500,
            permanent_mac: Some(PERMANENT),
            total_vfs: 7,
            autoprobe: true,
            vfs: Vec::new(),
        }),
        done: RefCell::default(),
        driverless: Vec::new(),
        taken: Vec::new(),
        carrier: true,
    }
}

impl Fake {
    fn did(&self, what: impl Into<String>) {
        self.done.borrow_mut().push(what.into());
    }

    fn new_vf(&self, index: u32) -> Vf {
        let has_driver = !self.driverless.contains(&index);
        Vf {
            index,
            address: format!("0000:21:{:02x}.{}", 0x10 + index / 4, 2 * (index % 4))
                .parse()
                .unwrap(),
            driver: has_driver.then(|| "igbvf".to_owned()),
            verdict: match has_driver {
                true => Verdict::Free(format!("v{index}").parse().unwrap()),
                false => Verdict::Busy(vec![Reason::NoDriver]),
            },
            admin_mac: Some(MacAddr([0; 6])),
            // Drivers make one up.
            netdev_mac: has_driver.then_some(MacAddr([2, 9, 9, 9, 9, 9])),
        }
    }

    fn with_vf(&self, address: PciAddr, change: impl FnOnce(&mut Vf)) {
        let mut pf = self.pf.borrow_mut();
        change(pf.vfs.iter_mut().find(|vf| vf.address == address).unwrap());
    }
}

impl Hardware for Fake {
    fn see(&self, _pf: PciAddr) -> Result<Pf> {
        Ok(self.pf.borrow().clone())
    }

    fn set_up(&self, _pf: &Pf, up: bool) -> Result<()> {
        self.did(if up { "up" } else { "down" });
        self.pf.borrow_mut().up = up;
        Ok(())
    }

    fn set_mtu(&self, _pf: &Pf, mtu: u32) -> Result<()> {
        self.did(format!("mtu {mtu}"));
        self.pf.borrow_mut().mtu = mtu;
        Ok(())
    }

    fn wait_carrier(&self, _pf: &Pf) -> Result<bool> {
        self.did("carrier");
        Ok(self.carrier)
    }

    fn set_count(&self, _pf: &Pf, count: u32) -> Result<()> {
        self.did(format!("count {count}"));
        self.pf.borrow_mut().vfs = (0..count).map(|index| self.new_vf(index)).collect();
        Ok(())
    }

    fn set_mac(&self, _pf: &Pf, vf: u32, mac: MacAddr) -> Result<()> {
        self.did(format!("mac {vf}"));
        let mut pf = self.pf.borrow_mut();
        pf.vfs
            .iter_mut()
            .find(|seen| seen.index == vf)
            .unwrap()
            .admin_mac = Some(mac);
        Ok(())
    }

    fn bind(&self, vf: PciAddr) -> Result<()> {
        self.did(format!("bind {vf}"));
        let driverless = self.driverless.clone();
        self.with_vf(vf, |vf| {
            if !driverless.contains(&vf.index) {
                vf.driver = Some("igbvf".to_owned());
                vf.netdev_mac = vf.admin_mac;
                vf.verdict = Verdict::Free(format!("v{}", vf.index).parse().unwrap());
            }
        });
        Ok(())
    }

    fn unbind(&self, vf: PciAddr) -> Result<()> {
        self.with_vf(vf, |vf| {
            vf.driver = None;
            vf.netdev_mac = None;
            vf.verdict = Verdict::Busy(vec![Reason::NoDriver]);
        });
        Ok(())
    }

    fn rebind(&self, vf: PciAddr) -> Result<()> {
        self.did(format!("rebind {vf}"));
        self.with_vf(vf, |vf| {
            let given = vf.admin_mac.filter(|mac| mac.is_assignable());
            vf.netdev_mac = given.or(Some(MacAddr([2, 9, 9, 9, 9, 9])));
        });
        Ok(())
    }

    fn hold(&self, vf: PciAddr) -> Result<bool> {
        let pf = self.pf.borrow().clone();
        let index = pf.vfs.iter().find(|seen| seen.address == vf).unwrap().index;
        if self.taken.contains(&index) {
            let key = "game/web-1:net1".parse().unwrap();
            self.with_vf(vf, |vf| {
                vf.verdict = Verdict::Busy(vec![Reason::Claimed(key)]);
            });
            return Ok(false);
        }
        Ok(true)
    }
}

fn wish(count: u32) -> Wish {
    Wish {
        count,
        mtu: None,
        macs: Macs::Stable,
    }
}

/// What was said, and what came of it.
fn run(hardware: &Rc<Fake>, wish: Wish, faults: Faults) -> (Result<()>, String, String) {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let wishes = BTreeMap::from([(address(), wish)]);
    let result = make(hardware, &wishes, faults, (&mut out, &mut notes));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (result, text(out), text(notes))
}

#[test]
fn from_nothing_to_the_wish_in_the_order_hardware_needs() {
    let hardware = Rc::new(fake());
    let wished = Wish {
        mtu: Some(9000),
        ..wish(2)
    };
    let (result, out, notes) = run(&hardware, wished, Faults::none());
    result.unwrap();
    assert_eq!(notes, "");
    assert_eq!(
        hardware.done.take(),
        [
            "up",
            "mtu 9000",
            "carrier",
            "count 2",
            "carrier",
            "mac 0",
            "mac 1",
            "carrier",
            "rebind 0000:21:10.0",
            "rebind 0000:21:10.2"
        ]
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "pf0 (0000:21:00.0): set up");
    assert_eq!(lines[2], "pf0 (0000:21:00.0): make 2 VFs (had 0)");
    assert_eq!(lines.len(), 7);
    let (result, out, _) = run(&hardware, wished, Faults::none());
    result.unwrap();
    assert_eq!(out, "pf0 (0000:21:00.0): 2 VFs, as wished\n");
    assert!(hardware.done.take().is_empty(), "nothing to do");
}

#[test]
fn every_failure_is_taken_back() {
    for before in [0, 2, 3] {
        let hardware = Rc::new(fake());
        if before > 0 {
            run(&hardware, wish(before), Faults::none()).0.unwrap();
        }
        // A driver is missing, one VF has a MAC of somebody's own.
        if before == 3 {
            let vf = hardware.pf.borrow().vfs[1].address;
            hardware.unbind(vf).unwrap();
            let first = hardware.pf.borrow().vfs[0].address;
            let own = MacAddr([2, 1, 1, 1, 1, 1]);
            hardware
                .set_mac(&hardware.see(address()).unwrap(), 0, own)
                .unwrap();
            hardware.rebind(first).unwrap();
        }
        let wished = Wish {
            mtu: Some(9000),
            ..wish(3)
        };
        let observe = || hardware.pf.borrow().clone();
        let attempt = |faults| {
            run(&hardware, wished, faults)
                .0
                .map_err(|e| format!("{e:#}"))
        };
        let outcome = every_failure(observe, attempt);
        let (steps, ()) = outcome.unwrap_or_else(|leak| panic!("from {before} VFs: {leak}"));
        assert!(steps >= 4, "{steps} steps from {before}");
        assert_eq!(hardware.pf.borrow().vfs.len(), 3);
    }
}

#[test]
fn a_killed_run_is_completed_by_the_next() {
    let hardware = Rc::new(fake());
    run(&hardware, wish(2), Faults::none()).0.unwrap();
    // As if it had died between the MACs and the drivers, and before one MAC.
    let new = [hardware.new_vf(0), hardware.new_vf(1)];
    let mut pf = hardware.pf.borrow_mut();
    let given = pf.vfs[0].admin_mac;
    pf.vfs = new.to_vec();
    pf.vfs[0].admin_mac = given;
    drop(pf);
    hardware.done.take();
    run(&hardware, wish(2), Faults::none()).0.unwrap();
    assert_eq!(
        hardware.done.take(),
        [
            "carrier",
            "mac 1",
            "carrier",
            "rebind 0000:21:10.0",
            "rebind 0000:21:10.2"
        ]
    );
}

#[test]
fn a_vf_somebody_took_meanwhile_is_left_to_them() {
    let hardware = Rc::new(Fake {
        taken: vec![1],
        ..fake()
    });
    let (result, out, _) = run(&hardware, wish(2), Faults::none());
    result.unwrap();
    assert!(!hardware.done.take().iter().any(|done| done == "mac 1"));
    assert!(out.contains("VF 0") && !out.contains("VF 1"), "{out}");
}

#[test]
fn a_driver_that_never_comes_is_an_error_that_leaves_nothing() {
    let hardware = Rc::new(Fake {
        driverless: vec![1],
        ..fake()
    });
    let before = hardware.pf.borrow().clone();
    let (result, _, _) = run(&hardware, wish(2), Faults::none());
    let error = format!("{:#}", result.unwrap_err());
    assert!(
        error.contains("VF 1 (0000:21:10.2): no driver is bound to it; load it: modprobe")
            && error.contains("taken back"),
        "{error}"
    );
    assert_eq!(*hardware.pf.borrow(), before);
}

#[test]
fn no_carrier_is_a_note() {
    let hardware = Rc::new(Fake {
        carrier: false,
        ..fake()
    });
    let (result, _, notes) = run(&hardware, wish(1), Faults::none());
    result.unwrap();
    assert_eq!(notes.matches("no carrier yet").count(), 1, "{notes}");
    let waits = hardware.done.take();
    let waits = waits.iter().filter(|done| *done == "carrier").count();
    assert_eq!(waits, 1, "waited once in vain");
}

#[test]
fn no_vfs_need_no_carrier() {
    let hardware = Rc::new(fake());
    run(&hardware, wish(2), Faults::none()).0.unwrap();
    hardware.done.take();
    run(&hardware, wish(0), Faults::none()).0.unwrap();
    assert_eq!(hardware.done.take(), ["count 0"]);
}
