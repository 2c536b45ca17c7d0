use super::*;
use crate::Kind;

#[test]
fn faults_become_errors_with_the_kernels_sentence() {
    let refused = Fault::Refused(Errno::EINVAL, Some("Vlan id is invalid".into()));
    let error = refused.into_error("add VLAN 7 to".into(), "bv0".into());
    assert_eq!(
        error.to_string(),
        "add VLAN 7 to bv0: EINVAL (Invalid argument): Vlan id is invalid"
    );
    let lost = Fault::Interrupted.into_error("list".into(), "links".into());
    assert_eq!(lost.kind(), Kind::TryAgain);
    let late = Fault::Socket(Errno::ETIMEDOUT).into_error("list".into(), "links".into());
    assert_eq!(late.kind(), Kind::TryAgain);
    let odd = Fault::Malformed("cut").into_error("list".into(), "links".into());
    assert_eq!(odd.kind(), Kind::Malformed);
}

#[test]
fn a_kernel_that_never_answers_is_given_up_and_asked_again() {
    let net = Net::open_with(TimeVal::milliseconds(20)).unwrap();
    // NLMSG_NOOP, no acknowledgement asked for: nothing will come.
    let silent = Request {
        kind: 1,
        body: Vec::new(),
    };
    let outcome = net.channel.exchange(&silent, NLM_F_REQUEST, End::Ack);
    assert_eq!(outcome.unwrap_err(), Fault::Socket(Errno::ETIMEDOUT));
    let lo = net.link(&"lo".parse().unwrap()).unwrap();
    assert_eq!(lo.name.as_str(), "lo");
}

#[test]
fn an_answer_nobody_waited_for_is_not_taken_for_the_next() {
    let net = Net::open().unwrap();
    let lo = net.link(&"lo".parse().unwrap()).unwrap().index;
    let late = Request {
        kind: libc::RTM_GETLINK,
        body: vec![0; 3], // too short: refused
    };
    net.channel
        .socket
        .send(&late.frame(NLM_F_REQUEST, 0).unwrap(), 0)
        .unwrap();
    assert_eq!(net.link_at(lo).unwrap().index, lo);
}

#[test]
fn messages_of_other_processes_do_not_arrive() {
    let net = Net::open().unwrap();
    let mut own = SocketAddr::new(0, 0);
    net.channel.socket.get_address(&mut own).unwrap();
    let forged = Request {
        kind: 2, // NLMSG_ERROR
        body: (-1i32).to_ne_bytes().to_vec(),
    };
    let frame = forged.frame(0, 1).unwrap();
    let forger = Socket::new(NETLINK_ROUTE).unwrap();
    let to = SocketAddr::new(own.port_number(), 0);
    forger.send_to(&frame, &to, 0).unwrap_err();
    assert!(net.link(&"lo".parse().unwrap()).is_ok());
}

#[test]
#[ignore = "kernel: root"]
fn a_change_amid_a_dump_makes_it_no_result() {
    let inside = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .unwrap_or_else(|e| panic!("this test needs root to make a namespace: {e}"));
        (Net::open().unwrap(), Net::open().unwrap())
    };
    let (net, other) = std::thread::spawn(inside).join().unwrap();
    let make = |i: u32| {
        let name: IfName = format!("br{i}").parse().unwrap();
        let bridge = crate::netlink::NewBridge {
            name: &name,
            mac: crate::MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: None,
            vlan_filtering: false,
        };
        other.create_bridge(&bridge).unwrap();
    };
    (0..300).for_each(make);
    let dump = |change: &dyn Fn()| {
        let message = netlink_packet_route::link::LinkMessage::default();
        let request = Request::from(RouteNetlinkMessage::GetLink(message));
        let frame = request.frame(NLM_F_REQUEST | NLM_F_DUMP, 9).unwrap();
        net.channel.socket.send(&frame, 0).unwrap();
        let mut answer = Answer::new(9, End::Done);
        assert_eq!(
            answer.take(&receive(&net.channel.socket).unwrap()),
            Ok(false)
        );
        change();
        loop {
            match answer.take(&receive(&net.channel.socket).unwrap()) {
                Ok(false) => {}
                Ok(true) => return Ok(answer.bodies.len()),
                Err(fault) => return Err(fault),
            }
        }
    };
    assert_eq!(dump(&|| make(300)), Err(Fault::Interrupted));
    assert_eq!(dump(&|| ()), Ok(302), "301 bridges and lo");
}

#[test]
fn an_overlong_wait_is_a_timeout_and_a_signal_is_not() {
    let late: std::result::Result<(), Fault> =
        retry_interrupted(|| Err(io::Error::from_raw_os_error(libc::EAGAIN)));
    assert_eq!(late, Err(Fault::Socket(Errno::ETIMEDOUT)));
    let mut calls = 0;
    let interrupted = retry_interrupted(|| {
        calls += 1;
        if calls == 1 {
            Err(io::Error::from_raw_os_error(libc::EINTR))
        } else {
            Ok(calls)
        }
    });
    assert_eq!(interrupted, Ok(2));
}

#[test]
fn a_datagram_longer_than_the_buffer_is_received_whole() {
    // Among themselves, programs may send what they like.
    const NETLINK_USERSOCK: isize = 2;
    let mut to = Socket::new(NETLINK_USERSOCK).unwrap();
    let address = to.bind_auto().unwrap();
    let from = Socket::new(NETLINK_USERSOCK).unwrap();
    for len in [BUFFER - 1, BUFFER, BUFFER + 1, 60_000] {
        let sent: Vec<u8> = (0..=255).cycle().take(len).collect();
        from.send_to(&sent, &address, 0).unwrap();
        assert!(receive(&to).unwrap() == sent, "{len} bytes");
    }
}
