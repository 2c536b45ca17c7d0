//! Promises: what fits, what is lacking, and that no order of them breaks a total.

use proptest::prelude::*;

use super::*;

const DISK: DeviceNumber = DeviceNumber {
    major: 254,
    minor: 16,
};
const FREE_DISK: DeviceNumber = DeviceNumber {
    major: 254,
    minor: 32,
};

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

fn id(number: u8) -> WorkloadId {
    format!("w{number}").parse().unwrap()
}

fn totals() -> Totals {
    Totals {
        memory: BTreeMap::from([(0, 100), (1, 60), (2, 40)]),
        reserved_memory: 20,
        disk: BTreeMap::from([(
            DISK,
            DiskTotal {
                mount: "/data".into(),
                bytes: 50,
            },
        )]),
        io: BTreeMap::from([(
            DISK,
            IoRate {
                read: Some(30),
                write: None,
            },
        )]),
    }
}

fn memory(bytes: u64, nodes: &str) -> Booking {
    Booking {
        memory: Some(MemoryBooking {
            bytes,
            nodes: set(nodes),
        }),
        ..Booking::default()
    }
}

fn lacking(others: &Bookings, ask: &Booking) -> Vec<(String, u64, u64)> {
    let missing = fits(&totals(), others, ask).err().unwrap_or_default();
    let told = missing.into_iter();
    told.map(|m| (m.what, m.asked, m.available)).collect()
}

#[test]
fn memory_is_total_minus_reserved_minus_committed() {
    let mut others = Bookings::default();
    assert_eq!(lacking(&others, &memory(180, "")), []);
    let whole = ("memory bytes".to_owned(), 181, 180);
    assert_eq!(lacking(&others, &memory(181, "")), [whole]);
    others.book(id(1), memory(100, ""));
    let rest = ("memory bytes".to_owned(), 81, 80);
    assert_eq!(lacking(&others, &memory(81, "")), [rest]);
    let own = others.without(&id(1));
    assert_eq!(
        lacking(&own, &memory(180, "")),
        [],
        "a resize gives its own back"
    );
}

#[test]
fn bound_memory_is_left_to_those_who_have_no_other_node() {
    let mut others = Bookings::default();
    others.book(id(1), memory(50, "1"));
    let node = |available| ("memory bytes on NUMA node 1".to_owned(), 11, available);
    assert_eq!(lacking(&others, &memory(11, "1")), [node(10)]);
    // 90 bytes from nodes 1 and 2 beside 50 of node 1: 100 are there in all.
    let both = ("memory bytes on NUMA nodes 1-2".to_owned(), 51, 50);
    assert_eq!(lacking(&others, &memory(51, "1-2")), [both]);
    others.book(id(2), memory(50, "1-2"));
    let none = ("memory bytes on NUMA node 2".to_owned(), 1, 0);
    assert_eq!(
        lacking(&others, &memory(1, "2")),
        [none],
        "id 2 needs node 2"
    );
    assert_eq!(lacking(&others, &memory(80, "0")), []);
}

#[test]
fn a_node_the_machine_lacks_has_nothing() {
    let none = ("memory bytes on NUMA node 7".to_owned(), 1, 0);
    assert_eq!(lacking(&Bookings::default(), &memory(1, "7")), [none]);
}

#[test]
fn disk_and_io_are_judged_where_their_size_is_known() {
    let mut others = Bookings::default();
    let ask = |disk, read, write| Booking {
        disk: BTreeMap::from([(DISK, disk)]),
        io: BTreeMap::from([
            (DISK, IoRate { read, write }),
            (
                FREE_DISK,
                IoRate {
                    read: Some(u64::MAX),
                    write: None,
                },
            ),
        ]),
        ..Booking::default()
    };
    others.book(id(1), ask(20, Some(10), Some(u64::MAX)));
    assert_eq!(lacking(&others, &ask(30, Some(20), Some(u64::MAX))), []);
    assert_eq!(
        lacking(&others, &ask(31, Some(21), None)),
        [
            ("bytes on /data".to_owned(), 31, 30),
            ("bytes read per second of device 254:16".to_owned(), 21, 20),
        ]
    );
    let elsewhere = Booking {
        disk: BTreeMap::from([(FREE_DISK, 1)]),
        ..Booking::default()
    };
    let unknown = ("bytes on filesystem 254:32".to_owned(), 1, 0);
    assert_eq!(lacking(&others, &elsewhere), [unknown]);
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Booking),
    Release(u8),
}

fn booking() -> impl Strategy<Value = Booking> {
    let nodes = prop::sample::select(vec!["", "0", "1", "2", "0-1", "1-2", "0,2", "0-2"]);
    let memory = prop::option::of((0u64..90, nodes));
    let rate = (prop::option::of(0u64..25), prop::option::of(0u64..1000));
    (memory, prop::option::of(0u64..40), prop::option::of(rate)).prop_map(|(m, disk, rate)| {
        Booking {
            memory: m.map(|(bytes, nodes)| MemoryBooking {
                bytes,
                nodes: set(nodes),
            }),
            disk: disk.map(|bytes| (DISK, bytes)).into_iter().collect(),
            io: rate
                .map(|(read, write)| (DISK, IoRate { read, write }))
                .into_iter()
                .collect(),
            ..Booking::default()
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..6, booking()).prop_map(|(id, booking)| Step::Put(id, booking)),
        1 => (0u8..6).prop_map(Step::Release),
    ]
}

/// Whether every workload's memory can be laid out on its nodes: by trying every subset
/// of nodes, which is another way than the ledger's.
fn can_be_laid_out(totals: &Totals, bookings: &Bookings) -> bool {
    (1u32..8).all(|mask| {
        let nodes: CpuSet = (0..3).filter(|node| mask & (1 << node) != 0).collect();
        bookings.memory_within(&nodes) <= totals.within(&nodes)
    })
}

proptest! {
    #[test]
    fn committed_never_exceeds_total(steps in prop::collection::vec(step(), 1..60)) {
        let totals = totals();
        let mut bookings = Bookings::default();
        for step in steps {
            match step {
                Step::Put(number, booking) => {
                    let others = bookings.without(&id(number));
                    match fits(&totals, &others, &booking) {
                        Ok(()) => bookings.book(id(number), booking),
                        Err(missing) => {
                            prop_assert!(!missing.is_empty());
                            prop_assert!(missing.iter().all(|m| m.asked > m.available));
                        }
                    }
                }
                Step::Release(number) => {
                    bookings.release(&id(number));
                }
            }
            prop_assert!(bookings.memory_bytes() <= totals.memory_bytes());
            prop_assert!(can_be_laid_out(&totals, &bookings));
            prop_assert!(bookings.disk_bytes(DISK) <= 50);
            prop_assert!(bookings.io_rate(DISK).0 <= 30);
        }
        for number in 0..6 {
            bookings.release(&id(number));
        }
        prop_assert_eq!(totals.memory_left(&bookings, &CpuSet::new()), 180);
    }

    #[test]
    fn what_is_said_to_be_left_fits_exactly(
        held in prop::collection::vec(booking(), 0..6),
        nodes in prop::sample::select(vec!["", "0", "1", "1-2", "0-2"]),
    ) {
        let totals = totals();
        let mut bookings = Bookings::default();
        for (number, booking) in (0u8..).zip(held) {
            if fits(&totals, &bookings, &booking).is_ok() {
                bookings.book(id(number), booking);
            }
        }
        let left = totals.memory_left(&bookings, &set(nodes));
        let fit = |bytes| fits(&totals, &bookings, &memory(bytes, nodes)).is_ok();
        prop_assert!(fit(left));
        prop_assert!(!fit(left + 1));
    }
}
