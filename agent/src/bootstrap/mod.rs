//! `berth bootstrap`: PFs get their VFs, and PFs and VFs are compared with the wish.
//! [`decide`] is pure, [`apply`] changes, [`hardware`] is the kernel.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use berth_kernel::{PciAddr, Root};
use berth_state::undo::{Faults, Undo};

use crate::cli::{BootstrapArgs, BootstrapCommand, VerifyArgs, VfsArgs, WishArgs};

mod apply;
mod decide;
mod hardware;

use apply::{Hardware, Making};
use decide::Wish;
use hardware::Kernel;

/// `berth bootstrap`: changes and answers on `out`, what should be known on `notes`.
pub(crate) fn run(
    args: &BootstrapArgs,
    root: &Root,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<ExitCode> {
    match &args.command {
        BootstrapCommand::Vfs(args) => vfs(args, root, out, notes),
        BootstrapCommand::Verify(args) => verify(args, root, out, notes),
    }
}

fn vfs(
    args: &VfsArgs,
    root: &Root,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<ExitCode> {
    let kernel = Kernel::open(root)?;
    let wishes = wishes(&kernel, &args.wish)?;
    if args.dry_run {
        possible(&kernel, &wishes)?;
        return foretell(&kernel, &wishes, out, notes);
    }
    kernel.lock(wishes.keys().copied())?;
    possible(&kernel, &wishes)?;
    make(&Rc::new(kernel), &wishes, Faults::none(), (out, notes))?;
    Ok(ExitCode::SUCCESS)
}

/// Every PF that is meant, with the wish for it.
fn wishes(kernel: &Kernel, args: &WishArgs) -> Result<BTreeMap<PciAddr, Wish>> {
    let mut wishes = BTreeMap::new();
    for named in &args.pfs {
        let address = kernel.find(&named.pf)?;
        let wish = Wish {
            count: named.count,
            mtu: args.mtu,
            macs: args.macs,
        };
        if wishes.insert(address, wish).is_some() {
            bail!("{} ({address}) is named twice: name each PF once", named.pf);
        }
    }
    Ok(wishes)
}

/// Refuses what cannot be, all of it at once, before anything is changed.
fn possible(hardware: &impl Hardware, wishes: &BTreeMap<PciAddr, Wish>) -> Result<()> {
    let mut objections = Vec::new();
    for (address, wish) in wishes {
        let pf = hardware.see(*address)?;
        objections.extend(decide::objections(&pf, wish));
    }
    if objections.is_empty() {
        return Ok(());
    }
    bail!("nothing was changed:\n  {}", objections.join("\n  "))
}

fn foretell(
    hardware: &impl Hardware,
    wishes: &BTreeMap<PciAddr, Wish>,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<ExitCode> {
    for (address, wish) in wishes {
        let pf = hardware.see(*address)?;
        let lines = decide::foretold(&pf, wish);
        if lines.is_empty() {
            writeln!(out, "{pf}: {}, as wished", decide::vfs(wish.count))?;
        }
        for line in lines {
            writeln!(out, "would change {pf}: {line}")?;
        }
        remark(&pf, wish, notes)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn remark(pf: &decide::Pf, wish: &Wish, notes: &mut dyn Write) -> Result<()> {
    for remark in decide::remarks(pf, wish) {
        writeln!(notes, "berth: {remark}")?;
    }
    Ok(())
}

/// Makes every PF as wished, or none.
fn make<H: Hardware + 'static>(
    hardware: &Rc<H>,
    wishes: &BTreeMap<PciAddr, Wish>,
    faults: Faults,
    (out, notes): (&mut dyn Write, &mut dyn Write),
) -> Result<()> {
    let mut undo = Undo::new(faults);
    let mut all = || -> Result<()> {
        for (address, wish) in wishes {
            remark(&hardware.see(*address)?, wish, notes)?;
            Making::new(hardware, &mut undo, out, notes).run(*address, wish)?;
        }
        Ok(())
    };
    let Err(error) = all() else {
        undo.commit();
        return Ok(());
    };
    let left = undo.rollback();
    if left.is_empty() {
        return Err(error).context("what this call had changed was taken back");
    }
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    Err(error).context(format!(
        "not all that this call had changed could be taken back ({}); run it again",
        left.join("; ")
    ))
}

fn verify(
    args: &VerifyArgs,
    root: &Root,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<ExitCode> {
    let kernel = Kernel::open(root)?;
    let mut is_fine = true;
    for (address, wish) in wishes(&kernel, &args.wish)? {
        let pf = kernel.see(address)?;
        let mut lines = decide::impossible(&pf, &wish);
        let differ = decide::differences(&pf, &wish).into_iter();
        lines.extend(differ.map(|difference| format!("{pf}: {difference}")));
        is_fine &= lines.is_empty();
        for line in lines {
            writeln!(out, "{line}")?;
        }
        remark(&pf, &wish, notes)?;
    }
    Ok(match is_fine {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
