use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0x5e, 0, 0, 1]);
const OLD: MacAddr = MacAddr([2, 0, 0x5e, 0, 0, 2]);
const RIGHT: [Standing; 2] = [Standing::Right; 2];

fn key() -> Key {
    "blue/c1:eth0".parse().unwrap()
}

fn lines(batch: &Batch) -> Vec<String> {
    let told = batch.told();
    told.map(|(op, object)| format!("{op} {object}")).collect()
}

fn port(mac: &str) -> Element {
    Element {
        key: ElementKey::interface(&key().port_name()),
        comment: Some(mac.to_owned()),
    }
}

fn sender(mac: MacAddr, owner: &str) -> Element {
    Element {
        key: ElementKey::interface_mac(&key().port_name(), mac),
        comment: Some(owner.to_owned()),
    }
}

fn added(chains: [Standing; 2], port: Option<Element>, senders: &[Element]) -> Vec<String> {
    let seen = Seen {
        chains,
        port,
        senders: senders.to_vec(),
    };
    let names = Names::new().unwrap();
    lines(&plan_add(&names, &key(), MAC, &seen).unwrap())
}

#[test]
fn an_add_makes_what_is_missing_and_no_more() {
    let ours = [sender(MAC, "blue/c1:eth0")];
    let add_sender = "add the element of blue/c1:eth0 to set senders of table bridge berth";
    let add_port = format!("add the element of {MAC} to set ports of table bridge berth");
    let del_sender = "delete an element of set senders of table bridge berth";
    let del_port = "delete an element of set ports of table bridge berth";
    let named = || Some(port(&MAC.to_string()));
    assert_eq!(added(RIGHT, named(), &ours), [""; 0]);
    assert_eq!(added(RIGHT, None, &[]), [add_sender, add_port.as_str()]);
    assert_eq!(added(RIGHT, named(), &[]), [add_sender]);
    assert_eq!(added(RIGHT, None, &ours), [add_port.as_str()]);
    // The container's address changed: the old one is not allowed any more.
    let before = sender(OLD, "blue/c1:eth0");
    assert_eq!(
        added(RIGHT, Some(port(&OLD.to_string())), &[before]),
        [del_sender, add_sender, del_port, add_port.as_str()]
    );
    let other = sender(MAC, "blue/c0:eth0");
    assert_eq!(added(RIGHT, named(), &[other]), [del_sender, add_sender]);
    let make = [
        "add table bridge berth",
        "add set ports of table bridge berth",
        "add set senders of table bridge berth",
        "add chain prerouting of table bridge berth",
        "add a rule to chain prerouting of table bridge berth",
        "add chain input of table bridge berth",
        "add a rule to chain input of table bridge berth",
        add_sender,
        add_port.as_str(),
    ];
    assert_eq!(added([Standing::Empty; 2], None, &[]), make);
    assert_eq!(
        added([Standing::Right, Standing::Wrong], named(), &ours),
        [
            make[0],
            make[1],
            make[2],
            "delete the rules of chain input of table bridge berth",
            "add a rule to chain input of table bridge berth",
        ]
    );
}

fn removed(ports: &[Element], senders: &[Element]) -> Vec<String> {
    let names = Names::new().unwrap();
    lines(&plan_remove(&names, &key().port_name(), ports, senders))
}

#[test]
fn the_last_port_takes_everything_with_it() {
    let own = port(&MAC.to_string());
    let other = Element {
        key: ElementKey::interface(&"bv000000000000".parse().unwrap()),
        comment: Some(OLD.to_string()),
    };
    let sender = [sender(MAC, "blue/c1:eth0")];
    assert_eq!(
        removed(std::slice::from_ref(&own), &sender),
        ["delete table bridge berth"]
    );
    assert_eq!(
        removed(&[own, other.clone()], &sender),
        [
            "delete an element of set ports of table bridge berth",
            "delete an element of set senders of table bridge berth",
        ]
    );
    assert_eq!(removed(&[other], &[]), [""; 0]);
    assert_eq!(removed(&[], &[]), [""; 0]);
}
