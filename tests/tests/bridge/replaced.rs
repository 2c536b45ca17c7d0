//! Namespaces that are gone, hidden, or not the one they were.

use berth_tests::{Attachment, Need, Node, Result, Space, Test, ensure, test};

use crate::kit::{Attached, IFNAME, plugin, refused, untagged, with};

pub(crate) fn tests() -> Vec<Test> {
    const ROOT: &[Need] = &[Need::Root];
    vec![
        test("del_after_the_namespace_died", ROOT, died),
        test("del_of_a_namespace_without_its_path", ROOT, unbound),
        test("add_into_the_next_namespace_sweeps_the_last", ROOT, next),
        test("add_after_the_last_namespace_died", ROOT, reborn),
        test("del_leaves_the_next_owner_alone", ROOT, owner),
    ]
}

fn died(node: &Node) -> Result<()> {
    node.as_before(|| {
        let berth_tests::Attached {
            pod,
            at,
            conf,
            result,
            ..
        } = Attached::new(node, "one", untagged("10.1.0.1/24"))?.0;
        drop(pod);
        let later = with(conf, serde_json::json!({"prevResult": result}));
        let plugin = plugin()?;
        let reply = plugin.call("CHECK", &at, &later)?;
        refused(&reply, 8, &["/run/netns/one"])?;
        plugin.del(&at, &later)?;
        ensure!(!node.has_link("br0")?, "the bridge is left");
        plugin.del(&at, &later)
    })
}

fn unbound(node: &Node) -> Result<()> {
    node.as_before(|| {
        let gone = Attached::new(node, "gone", untagged("10.1.0.1/24"))?;
        let stays = Attached::new(node, "stays", untagged("10.1.0.2/24"))?;
        gone.pod.unbind()?;
        assert_eq!(gone.pod.link_names()?, ["lo", IFNAME], "it lives on");
        gone.del()?;
        assert_eq!(gone.pod.link_names()?, ["lo"], "the container's end");
        ensure!(!node.has_link(&gone.port()?)?, "the port");
        stays.must_hold()?;
        stays.del()
    })
}

/// The first namespace still lives when another has taken its path.
fn next(node: &Node) -> Result<()> {
    node.as_before(|| {
        let first = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        first.pod.unbind()?;
        let second = node.pod("one")?;
        let at = Attachment::of(&second, "one", IFNAME);
        let reply = plugin()?.call("CHECK", &at, &first.later())?;
        refused(&reply, 105, &["another namespace"])?;
        let second = Attached::of(second, at, first.conf.clone())?;
        assert_eq!(first.pod.link_names()?, ["lo"], "swept");
        second.must_hold()?;
        second.del()?;
        assert_eq!(second.pod.link_names()?, ["lo"]);
        Ok(())
    })
}

/// The first is gone: the kernel gives its inode number to the second.
fn reborn(node: &Node) -> Result<()> {
    node.as_before(|| {
        let first = Attached::new(node, "one", untagged("10.1.0.1/24"))?;
        let conf = first.conf.clone();
        drop(first);
        let second = Attached::new(node, "one", conf)?;
        second.must_hold()?;
        second.del()
    })
}

fn owner(node: &Node) -> Result<()> {
    node.as_before(|| {
        let berth_tests::Attached {
            pod, at: old, conf, ..
        } = Attached::new(node, "old", untagged("10.1.0.1/24"))?.0;
        drop(pod);
        let heir = node.pod("old")?;
        let at = Attachment::of(&heir, "new", IFNAME);
        let heir = Attached::of(heir, at, untagged("10.1.0.2/24"))?;
        let index = heir.pod.link(IFNAME)?["ifindex"].clone();
        // With a record, and then without one; the path leads to the heir's namespace.
        for _ in 0..2 {
            plugin()?.del(&old, &conf)?;
            assert_eq!(heir.pod.link(IFNAME)?["ifindex"], index);
            heir.must_hold()?;
        }
        heir.del()
    })
}
