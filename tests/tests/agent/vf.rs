//! `berth vf` and `berth bootstrap` where there are no virtual functions: what is not
//! there is named, and nothing is changed.

use berth_tests::{Need, Node, Result, Test, ensure, test};
use serde_json::Value;

use crate::kit::{all, berth, done, refused};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("no_vfs_are_a_note_and_an_empty_list", ROOT, none),
        test("a_function_that_is_not_there_is_named", ROOT, absent),
        test("a_mistyped_function_is_explained", ROOT, mistyped),
    ]
}

fn none(node: &Node) -> Result<()> {
    node.as_before(|| {
        let said = done("vf list")?;
        ensure!(said.stdout.is_empty(), "{}", all(&said));
        let note = "this node has no VFs; berth bootstrap vfs PF=COUNT makes some";
        ensure!(said.stderr.contains(note), "{}", all(&said));
        let said = done("vf list -o json")?;
        ensure!(said.stderr.is_empty(), "{}", all(&said));
        let list: Value = serde_json::from_str(&said.stdout)?;
        assert_eq!(list, serde_json::json!({"schema": 1, "vfs": []}));
        Ok(())
    })
}

fn absent(node: &Node) -> Result<()> {
    node.as_before(|| {
        let vf = "0000:ff:1f.7";
        for verb in ["show", "release", "release --dry-run"] {
            let says = ["there is no VF 0000:ff:1f.7", "berth vf list"];
            refused(&format!("vf {verb} {vf}"), &says)?;
        }
        for verb in ["vfs", "vfs --dry-run", "verify"] {
            let line = format!("bootstrap {verb}");
            refused(
                &format!("{line} nope0=1"),
                &["there is no interface nope0", "ip -br link"],
            )?;
            for pf in ["lo", vf] {
                let says = [pf, "is no physical function", "berth doctor --area sriov"];
                refused(&format!("{line} {pf}=1"), &says)?;
            }
        }
        Ok(())
    })
}

fn mistyped(node: &Node) -> Result<()> {
    node.as_before(|| {
        for (line, says) in [
            ("vf show 01:10.2", "is not a PCI address like"),
            ("vf release", "<ADDRESS>"),
            ("bootstrap vfs pf0", "write PF=COUNT, for example pf0=7"),
            ("bootstrap vfs pf0=7 --macs random", "stable, keep"),
            ("bootstrap verify", "<PF=COUNT>"),
        ] {
            let said = berth(line)?;
            assert_eq!(said.status.code(), Some(2), "{}", all(&said));
            ensure!(said.stderr.contains(says), "{}", all(&said));
        }
        Ok(())
    })
}
