use super::Role::{Control, Idle, Rx, RxTx, Tx};
use super::*;

fn of(names: &[&str]) -> Vec<Role> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    roles(&names)
}

#[test]
fn drivers_names_tell_queues_from_control() {
    let cases: &[(&[&str], &[Role])] = &[
        // igbvf; the order is the device's.
        (
            &["net0-tx-0", "net0-rx-0", "net0"],
            &[Tx(0), Rx(0), Control],
        ),
        // ixgbevf, igb.
        (
            &["eth1-TxRx-0", "eth1-TxRx-1", "eth1"],
            &[RxTx(0), RxTx(1), Control],
        ),
        // iavf, ice, i40e: the control vector names the device.
        (
            &[
                "iavf-0000:18:01.0:mbx",
                "iavf-eth0-TxRx-0",
                "iavf-eth0-TxRx-1",
            ],
            &[Control, RxTx(0), RxTx(1)],
        ),
        (
            &["ice-0000:18:00.0:misc", "ice-eth0-TxRx-11"],
            &[Control, RxTx(11)],
        ),
        // mlx5: numbers of control vectors are no queues.
        (
            &[
                "mlx5_async0@pci:0000:01:00.2",
                "mlx5_comp0@pci:0000:01:00.2",
                "mlx5_comp1@pci:0000:01:00.2",
            ],
            &[Control, RxTx(0), RxTx(1)],
        ),
        // virtio, of the older and the newer kind of names; ena; qede; vmxnet3.
        (
            &["virtio2-config", "virtio2-input.0", "virtio2-output.0"],
            &[Control, Rx(0), Tx(0)],
        ),
        (
            &["ena-mgmnt@pci:0000:00:05.0", "eth0-Tx-Rx-0", "eth0-Tx-Rx-1"],
            &[Control, RxTx(0), RxTx(1)],
        ),
        (&["eth0-fp-0", "eth0-fp-1"], &[RxTx(0), RxTx(1)]),
        (
            &["eth0-rxtx-0", "eth0-rxtx-1", "eth0-event-2"],
            &[RxTx(0), RxTx(1), Control],
        ),
    ];
    for (names, roles) in cases {
        assert_eq!(of(names), *roles, "{names:?}");
    }
}

#[test]
fn an_interfaces_own_name_does_not_mislead() {
    // After a rename only the bare name changes; digits in it are no queue.
    let roles = [Tx(0), Rx(0), Control];
    assert_eq!(of(&["net0-tx-0", "net0-rx-0", "game7"]), roles);
    // A name that looks like a queue's is the stem of the others.
    assert_eq!(of(&["my-rx-1-tx-0", "my-rx-1-rx-0", "my-rx-1"]), roles);
    // Part of a word is no word.
    assert_eq!(of(&["fmatrx0-TxRx-0", "fmatrx0"]), [RxTx(0), Control]);
    assert_eq!(of(&["xmatrx0"]), [RxTx(0)]);
}

#[test]
fn unknown_names_are_queues_by_order_unless_a_name_tells() {
    assert_eq!(of(&["eth0-0", "eth0-1"]), [RxTx(0), RxTx(1)]);
    assert_eq!(
        of(&["mlx4-async@pci:0", "eth0-0", "eth0-1"]),
        [Control, RxTx(0), RxTx(1)]
    );
    assert_eq!(of(&["eth0-TxRx-0", "eth0-odd"]), [RxTx(0), Control]);
}

#[test]
fn without_handlers_nothing_is_guessed() {
    assert_eq!(of(&["", "", ""]), [Idle; 3]);
    assert_eq!(of(&["net0-tx-0", "", "net0"]), [Tx(0), Idle, Control]);
    assert_eq!(of(&[]), []);
}

#[test]
fn vectors_are_found_by_device() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::under(dir.path());
    let put = |name: String, text: &str| {
        let path = root.sys.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    // IRQ 46 belongs to another device, with the same interface name in another namespace.
    let names = [
        (44, "net0-tx-0"),
        (45, "net0-rx-0"),
        (46, "net0-rx-0"),
        (47, "net0"),
    ];
    for (irq, name) in names {
        let device = if irq == 46 {
            "0000:01:10.2"
        } else {
            "0000:01:10.0"
        };
        put(format!("bus/pci/devices/{device}/msi_irqs/{irq}"), "msix\n");
        put(
            format!("kernel/irq/{irq}/hwirq"),
            &format!("{}\n", irq - 44),
        );
        put(format!("kernel/irq/{irq}/actions"), &format!("{name}\n"));
    }
    let found = vectors(&root, "0000:01:10.0".parse().unwrap()).unwrap();
    let told: Vec<(Irq, Role, &str)> = found
        .iter()
        .map(|vector| (vector.irq, vector.role, vector.action.as_str()))
        .collect();
    let wanted = [
        (Irq(44), Tx(0), "net0-tx-0"),
        (Irq(45), Rx(0), "net0-rx-0"),
        (Irq(47), Control, "net0"),
    ];
    assert_eq!(told, wanted);
    assert_eq!(vectors(&root, "0000:02:00.0".parse().unwrap()), Ok(vec![]));
}
