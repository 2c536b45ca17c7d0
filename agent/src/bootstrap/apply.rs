//! Makes PFs and their VFs as wished, stage by stage: look, change what differs, look
//! again. So a run that was killed is completed by the next one, and nothing is
//! believed that was not read back.

use std::io::Write;
use std::rc::Rc;

use anyhow::{Result, bail};
use berth_kernel::{MacAddr, PciAddr};
use berth_state::undo::Undo;

use super::decide::{self, Difference, Pf, Stage, Vf, Wish};

/// What is done to PFs and VFs; a fake one stands in for it in tests.
pub(super) trait Hardware {
    /// The PF and its VFs as they are now.
    fn see(&self, pf: PciAddr) -> Result<Pf>;
    /// Sets the PF up or down.
    fn set_up(&self, pf: &Pf, up: bool) -> Result<()>;
    /// Sets the PF's MTU in bytes.
    fn set_mtu(&self, pf: &Pf, mtu: u32) -> Result<()>;
    /// Waits, within bounds, for the PF's carrier; whether it came.
    fn wait_carrier(&self, pf: &Pf) -> Result<bool>;
    /// Makes the PF have `count` VFs; if it has others, they go first.
    fn set_count(&self, pf: &Pf, count: u32) -> Result<()>;
    /// Sets a VF's MAC at its PF.
    fn set_mac(&self, pf: &Pf, vf: u32, mac: MacAddr) -> Result<()>;
    /// Binds a VF's driver. One that finds none is no error here: it is seen later.
    fn bind(&self, vf: PciAddr) -> Result<()>;
    /// Takes a VF's driver off.
    fn unbind(&self, vf: PciAddr) -> Result<()>;
    /// Takes a VF's driver off and binds it again.
    fn rebind(&self, vf: PciAddr) -> Result<()>;
    /// Keeps everybody else from the VF until this value is gone; `false`: somebody has
    /// it, so it must not be touched.
    fn hold(&self, vf: PciAddr) -> Result<bool>;
}

/// One PF in the making.
pub(super) struct Making<'a, H> {
    /// What does it.
    pub(super) hardware: &'a Rc<H>,
    /// Where every step's inverse goes.
    pub(super) undo: &'a mut Undo,
    /// Where each change is told.
    pub(super) out: &'a mut dyn Write,
    /// Where what should be known is told.
    pub(super) notes: &'a mut dyn Write,
    /// Whether this call has made the PF's VFs: they go with the inverse of that.
    remade: bool,
    /// Whether the carrier was waited for in vain: once is enough.
    no_carrier: bool,
}

impl<'a, H: Hardware + 'static> Making<'a, H> {
    /// Begins.
    pub(super) fn new(
        hardware: &'a Rc<H>,
        undo: &'a mut Undo,
        out: &'a mut dyn Write,
        notes: &'a mut dyn Write,
    ) -> Self {
        Self {
            hardware,
            undo,
            out,
            notes,
            remade: false,
            no_carrier: false,
        }
    }

    /// Makes the PF at `address` as wished, and says what was done.
    pub(super) fn run(mut self, address: PciAddr, wish: &Wish) -> Result<()> {
        let mut pf = self.hardware.see(address)?;
        if decide::differences(&pf, wish).is_empty() {
            writeln!(self.out, "{pf}: {}, as wished", decide::vfs(wish.count))?;
            return Ok(());
        }
        for stage in [Stage::Pf, Stage::Macs, Stage::Drivers] {
            let mut found = decide::differences(&pf, wish);
            found.retain(|one| one.stage() == stage);
            if found.is_empty() {
                continue;
            }
            if stage != Stage::Pf {
                self.carrier(&pf, wish)?;
            }
            for one in &found {
                self.deal_with(&pf, one, wish)?;
            }
            pf = self.hardware.see(address)?;
        }
        match decide::differences(&pf, wish).first() {
            None => Ok(()),
            Some(left) => bail!("{pf}: {left}{}", remedy(left)),
        }
    }

    fn deal_with(&mut self, pf: &Pf, what: &Difference, wish: &Wish) -> Result<()> {
        let done = match *what {
            Difference::Down => self.up(pf),
            Difference::Mtu { wish, .. } => self.mtu(pf, wish),
            Difference::Count { .. } => {
                self.carrier(pf, wish)?;
                self.count(pf, wish.count)
            }
            Difference::AdminMac { vf, wish, .. } => self.mac(pf, vf, wish),
            Difference::NoDriver { vf } => self.bind(vf.1),
            Difference::NetdevMac { vf, .. } => self.rebind(vf.1),
        };
        if done? {
            writeln!(self.out, "{pf}: {}", decide::change(what))?;
        }
        Ok(())
    }

    /// A VF's driver asks the PF when it is bound, and gets no answer while the PF's
    /// link still comes up. Without a cable there is none to wait for.
    fn carrier(&mut self, pf: &Pf, wish: &Wish) -> Result<()> {
        if wish.count > 0 && !self.no_carrier && !self.hardware.wait_carrier(pf)? {
            self.no_carrier = true;
            let note = "no carrier yet; VFs may stay without link until it comes";
            writeln!(self.notes, "berth: {pf}: {note}")?;
        }
        Ok(())
    }

    fn up(&mut self, pf: &Pf) -> Result<bool> {
        let inverse = (self.hardware.clone(), pf.clone());
        let step = self.undo.step(
            format!("set up {}", pf.name),
            move || inverse.0.set_up(&inverse.1, false),
            || self.hardware.set_up(pf, true),
        );
        step.map(|()| true)
    }

    fn mtu(&mut self, pf: &Pf, mtu: u32) -> Result<bool> {
        let inverse = (self.hardware.clone(), pf.clone());
        let step = self.undo.step(
            format!("set MTU {mtu} of {}", pf.name),
            move || inverse.0.set_mtu(&inverse.1, inverse.1.mtu),
            || self.hardware.set_mtu(pf, mtu),
        );
        step.map(|()| true)
    }

    fn count(&mut self, pf: &Pf, count: u32) -> Result<bool> {
        let inverse = (self.hardware.clone(), pf.clone());
        self.remade = true;
        let step = self.undo.step(
            format!("make {} of {}", decide::vfs(count), pf.name),
            move || remake(&*inverse.0, &inverse.1),
            || self.hardware.set_count(pf, count),
        );
        step.map(|()| true)
    }

    fn mac(&mut self, pf: &Pf, vf: (u32, PciAddr), mac: MacAddr) -> Result<bool> {
        if !self.hardware.hold(vf.1)? {
            return Ok(false);
        }
        let inverse = (self.hardware.clone(), pf.clone());
        let before = pf.vfs.iter().find(|seen| seen.index == vf.0);
        let before = before.filter(|_| !self.remade).cloned();
        let step = self.undo.step(
            format!("set MAC {mac} of VF {} of {}", vf.0, pf.name),
            move || {
                let (hardware, pf) = inverse;
                before.map_or(Ok(()), |vf| give_back(&*hardware, &pf, &vf))
            },
            || self.hardware.set_mac(pf, vf.0, mac),
        );
        step.map(|()| true)
    }

    fn bind(&mut self, vf: PciAddr) -> Result<bool> {
        if !self.hardware.hold(vf)? {
            return Ok(false);
        }
        let (inverse, remade) = (self.hardware.clone(), self.remade);
        let step = self.undo.step(
            format!("bind the driver of VF {vf}"),
            move || match remade {
                true => Ok(()),
                false => inverse.unbind(vf),
            },
            || self.hardware.bind(vf),
        );
        step.map(|()| true)
    }

    fn rebind(&mut self, vf: PciAddr) -> Result<bool> {
        if !self.hardware.hold(vf)? {
            return Ok(false);
        }
        // The inverse of the MAC's step binds it anew, too.
        let step = self.undo.step(
            format!("bind the driver of VF {vf} anew"),
            || anyhow::Ok(()),
            || self.hardware.rebind(vf),
        );
        step.map(|()| true)
    }
}

/// Puts back the number of VFs, and those that had a MAC from the PF get it again.
fn remake(hardware: &impl Hardware, before: &Pf) -> Result<()> {
    let count = u32::try_from(before.vfs.len()).unwrap_or(u32::MAX);
    hardware.set_count(before, count)?;
    if count > 0 {
        hardware.wait_carrier(before)?;
    }
    let given = |vf: &&Vf| vf.admin_mac.is_some_and(MacAddr::is_assignable);
    for vf in before.vfs.iter().filter(given) {
        give_back(hardware, before, vf)?;
    }
    Ok(())
}

/// Gives a VF the MAC it had; its driver takes it when it is bound.
fn give_back(hardware: &impl Hardware, pf: &Pf, vf: &Vf) -> Result<()> {
    let Some(mac) = vf.admin_mac else {
        return Ok(());
    };
    hardware.set_mac(pf, vf.index, mac)?;
    let has_driver = vf.driver.is_some() && pf.autoprobe;
    if has_driver {
        hardware.rebind(vf.address)?;
    }
    Ok(())
}

/// What helps against a difference that stayed.
fn remedy(left: &Difference) -> String {
    match left {
        Difference::NoDriver { vf } => format!(
            "; load it: modprobe $(cat /sys/bus/pci/devices/{}/modalias), or write 0 into \
             sriov_drivers_autoprobe of the PF if it should have none",
            vf.1
        ),
        Difference::NetdevMac { .. } => "; its driver did not take it: use --macs keep".to_owned(),
        _ => " although that was set; run it again, and see the kernel's log".to_owned(),
    }
}

#[cfg(test)]
mod tests;
